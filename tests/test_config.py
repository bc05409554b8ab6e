import math

import numpy as np
from absl.testing import absltest, parameterized

from tfpipe.config import DataConfig, TrainConfig, flag_lines
from tfpipe.exceptions import ConfigError


class ConfigTest(parameterized.TestCase):
    def test_the_defaults_are_the_tutorials(self):
        config = TrainConfig()
        self.assertEqual(
            (config.batch_size, config.learning_rate, config.epochs, config.patience), (600, None, 1000, 5000)
        )
        self.assertEqual((config.patience_increase, config.improvement_threshold), (2.0, 0.995))

    def test_one_number_stands_for_a_list_of_one(self):
        self.assertEqual(TrainConfig(learning_rate=0.5).learning_rate, (0.5,))

    def test_numpy_arrays_become_numbers(self):
        rates = TrainConfig(learning_rate=np.array([0.25, 0.5])).learning_rate
        self.assertEqual(rates, (0.25, 0.5))
        self.assertIs(type(rates[0]), float)
        self.assertEqual(TrainConfig(epochs=np.int64(5), shuffle=np.bool_(False)), TrainConfig(epochs=5, shuffle=False))
        self.assertEqual(DataConfig(test_split=np.int32(7)).test_split, 7)

    @parameterized.parameters(
        ("batch_size", 0),
        ("batch_size", -3),
        ("batch_size", 1.5),
        ("batch_size", True),
        ("learning_rate", ()),
        ("learning_rate", (0.1, 0.0)),
        ("learning_rate", (math.nan,)),
        ("learning_rate", (1e-60,)),
        ("learning_rate", (1e60,)),
        ("patience_increase", 10**400),
        ("learning_rate", ("0.1",)),
        ("l2", (-1e-9,)),
        ("l2", (math.inf,)),
        ("epochs", 0),
        ("patience", 0),
        ("patience_increase", 0.5),
        ("improvement_threshold", 0.0),
        ("improvement_threshold", 1.5),
        ("validation_frequency", -1),
        ("shuffle", 1),
        ("seed", -1),
        ("seed", 2**63),
        ("epochs", 10**21),
        ("patience", 10**19),
        ("device", "tpu"),
    )
    def test_a_value_that_cannot_work_is_refused_by_name(self, option, value):
        with self.assertRaisesRegex(ConfigError, f"^{option}=.*: .*(must be|is not)"):
            TrainConfig(**{option: value})

    @parameterized.parameters(
        ("validation_split", 0),
        ("validation_split", 1.0),
        ("validation_split", -0.1),
        ("test_split", True),
        ("dataset", ""),
        ("dataset", "a\nb"),
        ("dataset", "a "),
        ("dataset", "a\udcff"),
        ("labels", ""),
        ("sample_weight", ""),
        ("groups", "a "),
        ("pixel_max", 1e-320),
        ("pixel_max", 0.0),
        ("pixel_max", math.nan),
        ("split_order", "random"),
        ("split_order", None),
        ("split_seed", -1),
        ("split_seed", 0.5),
        ("split_seed", 2**63),
    )
    def test_the_same_for_data(self, option, value):
        with self.assertRaisesRegex(ConfigError, f"^{option}="):
            DataConfig(**{option: value})

    def test_as_flags(self):
        lines = flag_lines(TrainConfig(learning_rate=(0.1, 0.25), shuffle=False)) + flag_lines(DataConfig())
        for line in ("--learning_rate=0.1,0.25", "--noshuffle", "--notf32", "--dataset=digits", "--batch_size=600"):
            self.assertIn(line, lines)
        self.assertNotIn("--pixel_max=None", lines)
        self.assertContainsSubset(["--split_order=stratified", "--split_seed=0"], lines)

    def test_from_the_end_nothing_is_drawn(self):
        self.assertEqual(DataConfig(split_order="end").split_seed, 0)
        with self.assertRaisesRegex(ConfigError, "^split_seed=3: goes with split_order=stratified; from the end none"):
            DataConfig(split_order="end", split_seed=3)


if __name__ == "__main__":
    absltest.main()
