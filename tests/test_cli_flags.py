"""Flags become the configuration, and the configuration flags."""

from absl import flags
from absl.testing import absltest, parameterized

from tfpipe.cli import config_flags
from tfpipe.config import TrainConfig, flag_lines


def parsed(*arguments):
    values = flags.FlagValues()
    config_flags.define(TrainConfig, values, "test")
    values(["tfpipe", *arguments])
    return config_flags.read(TrainConfig, values)


class NumbersTest(parameterized.TestCase):
    @parameterized.parameters(
        ("0.5", (0.5,)),
        ("0.03,0.1,0.3", (0.03, 0.1, 0.3)),
        ("log:1e-5:1e-1:9", (1e-5, 3.16228e-5, 1e-4, 3.16228e-4, 1e-3, 3.16228e-3, 1e-2, 3.16228e-2, 1e-1)),
        ("log:1:0.001:4", (1.0, 0.1, 0.01, 0.001)),
        ("log:0.123456789:7.7:2", (0.123456789, 7.7)),
        ("log:1e-30:1e30:3", (1e-30, 1.0, 1e30)),
        ("0,log:1e-4:1e-2:3,5", (0.0, 1e-4, 1e-3, 1e-2, 5.0)),
    )
    def test_lists_and_ranges(self, text, expected):
        config = parsed(f"--l2={text}")
        self.assertEqual(config.l2, expected)
        self.assertEqual(parsed(*flag_lines(config)), config)

    def test_both_flags_take_them(self):
        config = parsed("--learning_rate=log:0.1:10:3", "--l2=0,log:1e-4:1e-3:2")
        self.assertEqual((config.learning_rate, config.l2), ((0.1, 1.0, 10.0), (0.0, 1e-4, 1e-3)))


if __name__ == "__main__":
    absltest.main()
