"""Flags become the configuration, and the configuration flags."""

from absl import flags
from absl.testing import absltest, parameterized

from tests.command import tfpipe
from tfpipe.cli import config_flags, model_flags, paths
from tfpipe.config import DataConfig, TrainConfig, flag_lines
from tfpipe.exceptions import ConfigError


def parsed(*arguments, of=TrainConfig):
    values = flags.FlagValues()
    config_flags.define(of, values, "test")
    rest = values(["tfpipe", *arguments])
    assert rest == ["tfpipe"]
    return config_flags.read(of, values)


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


class ScalesTest(parameterized.TestCase):
    @parameterized.parameters(
        ((), None),
        (("--standardize",), ("columns",)),
        (("--nostandardize",), ("none",)),
        (("--standardize=columns",), ("columns",)),
        (("--standardize=none",), ("none",)),
        (("--standardize=none,columns",), ("none", "columns")),
        (("--standardize=columns,none",), ("columns", "none")),
        (("--standardize=true",), ("columns",)),
        (("--standardize=False",), ("none",)),
        (("--standardize", "--standardize=none"), ("none",)),
    )
    def test_every_spelling(self, arguments, expected):
        config = parsed(*arguments, of=DataConfig)
        self.assertEqual(config.standardize, expected)
        self.assertEqual(parsed(*flag_lines(config), of=DataConfig), config)


class CategoricalTest(parameterized.TestCase):
    @parameterized.parameters((), ("--categorical=colour",), ("--categorical=is old,Unnamed: 3",), ("--categorical=",))
    def test_names_of_columns(self, *arguments):
        config = parsed(*arguments, of=DataConfig)
        names = "".join(arguments).removeprefix("--categorical=")
        self.assertEqual(config.categorical, tuple(names.split(",")) if names else ())
        self.assertEqual(parsed(*flag_lines(config), of=DataConfig), config)


class SizeTest(parameterized.TestCase):
    @parameterized.parameters(((), None), (("--image_size=48,24",), (48, 24)), (("--image_size=native",), "native"))
    def test_every_spelling(self, arguments, expected):
        config = parsed(*arguments, of=DataConfig)
        self.assertEqual(config.image_size, expected)
        self.assertEqual(parsed(*flag_lines(config), of=DataConfig), config)

    @parameterized.parameters("small", "48x24", "")
    def test_others_are_refused(self, text):
        with self.assertRaisesRegex(flags.IllegalFlagValueError, "expected HEIGHT,WIDTH, two integers, or native"):
            parsed(f"--image_size={text}", of=DataConfig)


class AddressesTest(parameterized.TestCase):
    """What is wrong with an address is wrong usage: it is known before the work begins."""

    @parameterized.parameters(
        ("dataset", "ttps://host/x.npz", "no such kind of store"),
        ("labels", "s3://bucket", "names no object"),
        ("split_file", "s3://key:hush@bucket/x", "holds a user or a password"),
        ("data_dir", "s3://bucket/data", "must be a folder of this machine"),
        ("data_dir", "gs:/bucket/data", "must be a folder of this machine"),
    )
    def test_of_data(self, option, value, words):
        with self.assertRaisesRegex(ConfigError, f"^{option}=.*: .*{words}") as caught:
            parsed(f"--{option}={value}", of=DataConfig)
        self.assertNotIn("hush", str(caught.exception))

    def test_of_data_that_can_be(self):
        arguments = ("--dataset=https://u:p@host/x.npy?a=1", "--labels=s3://bucket/y.npy", "--data_dir=C:/data")
        self.assertEqual(parsed(*arguments, of=DataConfig).labels, "s3://bucket/y.npy")

    def test_of_a_file_to_write(self):
        with self.assertRaises(ConfigError) as caught:
            paths.expanded("contact_sheet", "https://u:hush@host/a.png?hush")
        problem = "is an address; give a path on this machine"
        self.assertEqual(str(caught.exception), f"contact_sheet=https://host/a.png: {problem}")

    def test_of_a_run_on_the_web(self):
        values = flags.FlagValues()
        model_flags.define(values, "test")
        values(["tfpipe", "--workdir=https://u:hush@host/run?hush"])
        problem = "HTTP lists no objects; give --model=https://host/run/model.npz"
        with self.assertRaises(ConfigError) as caught:
            model_flags.name(values)
        self.assertEqual(str(caught.exception), f"workdir=https://host/run: {problem}")

    @parameterized.parameters(
        (["https://u:hush@host/x?hush"], "unknown command 'https://host/x'; the commands are: train, "),
        (["train", "https://u:hush@host/x?hush"], "unexpected argument 'https://host/x'; flags are written --name="),
        (["train", "--epochs=https://u:hush@host/x?hush"], "flag --epochs=https://host/x: invalid literal for int()"),
    )
    def test_wrong_usage_is_repeated_without_secrets(self, arguments, words):
        process = tfpipe(*arguments)
        self.assertEqual((process.returncode, process.stdout), (2, ""))
        self.assertIn(words, process.stderr)
        self.assertNotIn("hush", process.stderr)


class SolverTest(parameterized.TestCase):
    @parameterized.parameters(
        ((), "lbfgs", {"max_iter": 1000, "tolerance": 1e-4, "folds": None, "refit": True, "l2": None}),
        (("--folds=auto", "--norefit"), "lbfgs", {"folds": None, "refit": False}),
        (("--folds=5", "--folds=auto"), "lbfgs", {"folds": None}),
        (("--folds=0", "--tolerance=1e-6", "--max_iter=7"), "lbfgs", {"folds": 0, "tolerance": 1e-6, "max_iter": 7}),
        (("--folds=10", "--select=error", "--l2=0.1"), "lbfgs", {"folds": 10, "select": "error", "l2": (0.1,)}),
        (("--solver=sgd",), "sgd", {"batch_size": 600, "shuffle": True, "folds": None, "l2": (0.0,)}),
        (("--noshuffle",), "sgd", {"epochs": 1000, "shuffle": False, "select": "cost"}),
        (("--learning_rate=0.1,0.3", "--l2=0,1"), "sgd", {"learning_rate": (0.1, 0.3), "l2": (0.0, 1.0)}),
    )
    def test_a_settled_run_by_its_flags(self, arguments, solver, expected):
        config = parsed(*arguments).settled()
        self.assertEqual(config.solver, solver)
        self.assertEqual({name: getattr(config, name) for name in expected}, expected)
        self.assertEqual(parsed(*flag_lines(config)), config)

    def test_the_flags_of_a_run_from_before_there_was_a_choice(self):
        of_before = ["--batch_size=600", "--l2=0.0", "--nodrop_remainder", "--shuffle", "--epochs=3"]
        self.assertEqual(parsed(*of_before).settled_solver, "sgd")


if __name__ == "__main__":
    absltest.main()
