import math

import numpy as np
from absl.testing import absltest, parameterized

from tfpipe.config import DataConfig, TrainConfig, flag_lines
from tfpipe.exceptions import ConfigError

OF_SGD = {
    "learning_rate": 0.1, "batch_size": 10, "epochs": 3, "patience": 5, "patience_increase": 2.0,
    "improvement_threshold": 0.995, "validation_frequency": 0, "shuffle": True, "drop_remainder": False,
}  # fmt: skip


class ConfigTest(parameterized.TestCase):
    def test_the_defaults_of_sgd_are_the_tutorials(self):
        config = TrainConfig(solver="sgd").settled()
        self.assertEqual(
            (config.batch_size, config.learning_rate, config.epochs, config.patience), (600, None, 1000, 5000)
        )
        self.assertEqual((config.patience_increase, config.improvement_threshold), (2.0, 0.995))
        self.assertEqual((config.validation_frequency, config.shuffle, config.drop_remainder), (0, True, False))
        self.assertEqual((config.solver, config.l2, config.select), ("sgd", (0.0,), "cost"))
        self.assertEqual((config.max_iter, config.tolerance, config.folds, config.refit), (None,) * 4)

    def test_the_defaults_of_lbfgs(self):
        config = TrainConfig().settled()
        self.assertEqual((config.solver, config.l2, config.select), ("lbfgs", None, "cost"))
        self.assertEqual((config.max_iter, config.tolerance, config.folds, config.refit), (1000, 1e-4, None, True))
        self.assertEqual((config.batch_size, config.epochs, config.patience, config.shuffle), (None,) * 4)

    @parameterized.parameters(
        ({}, "lbfgs"),
        ({"l2": 0.1, "select": "error", "seed": 3, "class_weight": "balanced"}, "lbfgs"),
        ({"solver": "sgd"}, "sgd"),
        ({"solver": "lbfgs"}, "lbfgs"),
        ({"max_iter": 3, "tolerance": 0.1, "folds": 5, "refit": False}, "lbfgs"),
        *(({option: value}, "sgd") for option, value in OF_SGD.items()),
    )
    def test_an_option_of_sgd_alone_makes_it_sgd(self, options, solver):
        config = TrainConfig(**options)
        self.assertEqual(config.settled_solver, solver)
        self.assertEqual(config.settled().solver, solver)
        self.assertEqual(config.settled().settled(), config.settled())
        for option, value in TrainConfig(**options, device="cpu").settled().__dict__.items():
            if option in options and option != "l2":
                self.assertEqual(value, getattr(config, option))

    @parameterized.parameters(*OF_SGD)
    def test_an_option_of_sgd_beside_another_solver(self, option):
        words = f"^{option}=.*: is an option of sgd, and does not go with solver=lbfgs$"
        with self.assertRaisesRegex(ConfigError, words):
            TrainConfig(solver="lbfgs", **{option: OF_SGD[option]})
        with self.assertRaisesRegex(ConfigError, words):
            TrainConfig(**{option: OF_SGD[option]}).settled("lbfgs")

    @parameterized.parameters(("max_iter", 3), ("tolerance", 0.1), ("folds", 0), ("refit", False))
    def test_an_option_of_lbfgs_beside_another_solver(self, option, value):
        words = f"^{option}={value}: is an option of lbfgs, and does not go with"
        with self.assertRaisesRegex(ConfigError, f"{words} solver=sgd$"):
            TrainConfig(solver="sgd", **{option: value})
        with self.assertRaisesRegex(ConfigError, f"{words} batch_size, one of sgd$"):
            TrainConfig(batch_size=3, epochs=5, **{option: value})

    @parameterized.parameters(("sgd", "heads", "rows", "lbfgs"), ("lbfgs", "rows", "heads", "sgd"))
    def test_how_the_work_is_cut(self, solver, cut, other, of_other):
        for distribute in ("auto", cut):
            self.assertEqual(TrainConfig(solver=solver, distribute=distribute).settled().distribute, distribute)
        with self.assertRaisesRegex(
            ConfigError,
            f"^distribute={other}: goes with solver={of_other}; the work of {solver} is cut by {cut}: leave",
        ):
            TrainConfig(solver=solver, distribute=other)

    @parameterized.parameters(
        (None, None),
        (True, ("columns",)),
        (False, ("none",)),
        (np.bool_(True), ("columns",)),
        ("none", ("none",)),
        (["none", "columns"], ("none", "columns")),
        (("columns", "none"), ("columns", "none")),
    )
    def test_scales(self, value, expected):
        self.assertEqual(DataConfig(standardize=value).standardize, expected)

    def test_sgd_takes_one_scale(self):
        sgd, both = TrainConfig(solver="sgd"), DataConfig(standardize=("none", "columns"), pixel_max=3)
        with self.assertRaisesRegex(
            ConfigError, "^standardize=none,columns: are scales for solver=lbfgs; sgd takes one"
        ):
            sgd.check_goes_with(both)
        TrainConfig().check_goes_with(both)
        for one in ("none", "columns", None):
            sgd.check_goes_with(DataConfig(standardize=one))

    def test_one_number_stands_for_a_list_of_one(self):
        self.assertEqual(TrainConfig(learning_rate=0.5).learning_rate, (0.5,))

    def test_numpy_arrays_become_numbers(self):
        rates = TrainConfig(learning_rate=np.array([0.25, 0.5])).learning_rate
        self.assertEqual(rates, (0.25, 0.5))
        self.assertIs(type(rates[0]), float)
        self.assertEqual(TrainConfig(epochs=np.int64(5), shuffle=np.bool_(False)), TrainConfig(epochs=5, shuffle=False))
        self.assertEqual(DataConfig(test_split=np.int32(7)).test_split, 7)
        self.assertEqual(DataConfig(test_split=np.int32(0)).test_split, 0)

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
        ("solver", "adam"),
        ("solver", None),
        ("select", "balanced"),
        ("max_iter", 0),
        ("tolerance", 0.0),
        ("folds", 1),
        ("folds", -1),
        ("folds", True),
        ("refit", 1),
        ("l2", ()),
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
        ("test_split", 0.0),
        ("test_split", -1),
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
        ("image_size", "small"),
        ("image_size", (3, 0)),
        ("image_size", 3),
        ("fit", "squeeze"),
        ("decoding", None),
        ("standardize", ()),
        ("standardize", "rows"),
        ("standardize", 1),
        ("standardize", ("none", "none")),
        ("standardize", ("none", 3)),
    )
    def test_the_same_for_data(self, option, value):
        with self.assertRaisesRegex(ConfigError, f"^{option}="):
            DataConfig(**{option: value})

    def test_as_flags(self):
        config = TrainConfig(learning_rate=(0.1, 0.25), shuffle=False).settled()
        lines = flag_lines(config) + flag_lines(DataConfig())
        for line in ("--learning_rate=0.1,0.25", "--noshuffle", "--notf32", "--dataset=digits", "--batch_size=600"):
            self.assertIn(line, lines)
        self.assertContainsSubset(["--solver=sgd", "--select=cost", "--l2=0.0"], lines)
        self.assertNotIn("--pixel_max=None", lines)
        self.assertNotIn("folds", "".join(lines))
        self.assertContainsSubset(["--split_order=stratified", "--split_seed=0"], lines)
        self.assertContainsSubset(["--fit=stretch", "--decoding=reduced"], lines)
        self.assertNotIn("--image_size", "".join(lines))
        self.assertIn("--image_size=native", flag_lines(DataConfig(image_size="native")))
        self.assertIn("--image_size=4,5", flag_lines(DataConfig(image_size=[4, 5])))
        self.assertIn("--test_split=0", flag_lines(DataConfig(test_split=0)))
        lines = flag_lines(TrainConfig(folds=0).settled())
        self.assertContainsSubset(
            ["--solver=lbfgs", "--select=cost", "--max_iter=1000", "--tolerance=0.0001", "--folds=0", "--refit"], lines
        )
        self.assertNoCommonElements(["--batch_size=None", "--noshuffle", "--shuffle", "--l2=None"], lines)

    def test_from_the_end_nothing_is_drawn(self):
        self.assertEqual(DataConfig(split_order="end").split_seed, 0)
        with self.assertRaisesRegex(ConfigError, "^split_seed=3: goes with split_order=stratified; from the end none"):
            DataConfig(split_order="end", split_seed=3)


if __name__ == "__main__":
    absltest.main()
