"""Weights and groups from files: beside the data, and in an archive."""

import contextlib
import pathlib

import numpy as np
from absl.testing import absltest, parameterized
from PIL import Image

from tests import made
from tfpipe import load
from tfpipe.config import flag_lines
from tfpipe.exceptions import ConfigError, DataError


class InFolder(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        self.enterContext(contextlib.chdir(self.folder))
        self.images, self.labels = made.images(60)
        np.save("images.npy", self.images)
        np.save("labels.npy", self.labels)
        self.weights = np.random.default_rng(0).uniform(0, 2, 60)
        self.groups = np.arange(60) // 5

    def load(self, **options):
        return load("images.npy", labels="labels.npy", **options)

    def assert_annotated(self, splits, weights=None, groups=None):
        """Every split has those of its rows; groups have equal numbers where values are equal."""
        for part in (splits.train, splits.validation, splits.test):
            if weights is not None:
                np.testing.assert_array_equal(part.weights, np.asarray(weights, np.float64)[part.rows])
            if groups is not None:
                values = np.asarray(groups)[part.rows]
                np.testing.assert_array_equal(
                    part.groups[:, np.newaxis] == part.groups, values[:, np.newaxis] == values
                )


class FilesTest(InFolder):
    @parameterized.parameters("f8", "f4", ">f8", "i4", "u1", "?")
    def test_weights_of_any_type_go_to_the_splits(self, dtype):
        weights = (2 * self.weights).astype(dtype)
        np.save("weights.npy", weights)
        splits = self.load(sample_weight="weights.npy")
        self.assert_annotated(splits, weights)
        self.assertIsNone(splits.train.groups)
        self.assert_annotated(self.load(sample_weight="weights.npy", split_order="end"), weights)

    def test_groups_as_numbers_and_as_text_are_the_same_groups(self):
        names = np.array([f"patient {97 - number}" for number in self.groups])
        np.save("numbers.npy", self.groups)
        np.save("names.npy", names)
        pathlib.Path("lines.txt").write_text("\ufeff" + "\n".join(names) + "\n")
        pathlib.Path("numbers.csv").write_text("".join(f" {number} \r\n" for number in self.groups))
        fingerprints = set()
        for name in ("numbers.npy", "names.npy", "lines.txt", "numbers.csv"):
            splits = self.load(groups=name)
            self.assert_annotated(splits, groups=self.groups)
            fingerprints.add(splits.fingerprint)
        self.assertLen(fingerprints, 1)
        of_splits = [set(part.groups) for part in (splits.train, splits.validation, splits.test)]
        self.assertEqual(sum(map(len, of_splits)), 12)
        self.assertEqual(set.union(*of_splits), set(range(12)))

    def test_what_is_wrong_is_said_in_a_line(self):
        nothing_to_train = self.weights.copy()
        nothing_to_train[self.load().train.rows] = 0
        for weights, message in (
            (self.weights[:59], r"weights of shape \(59,\) and type float64 for 60 examples; expected \[60\] numbers"),
            (self.weights[:, np.newaxis], r"weights of shape \(60, 1\) .*; expected \[60\] numbers"),
            (self.weights.astype("U3"), "weights of shape .* and type <U3 .*; expected .60. numbers"),
            (np.where(self.weights > 1, np.nan, 1), "weight nan of example .*; expected a finite number of at least 0"),
            (-self.weights, "weight -.* of example 0; expected a finite number of at least 0 for each"),
            (0 * self.weights, "the weight of every example is 0; expected .*, and one above 0"),
            (nothing_to_train, "the weight of every training example is 0; expected one above 0 at least"),
        ):
            np.save("weights.npy", weights)
            with self.assertRaisesRegex(DataError, f"^.*weights.npy: {message}[^\n]*$"):
                self.load(sample_weight="weights.npy")
        for groups, message in (
            (self.groups[1:], r"groups of shape \(59,\) and type int64 for 60 examples; expected \[60\] integers"),
            (self.groups / 2, r"groups of shape \(60,\) and type float64; expected \[N\] integers or text"),
            (self.groups[:, np.newaxis], r"groups of shape \(60, 1\)"),
        ):
            np.save("groups.npy", groups)
            with self.assertRaisesRegex(DataError, f"^groups.npy: {message}[^\n]*$"):
                self.load(groups="groups.npy")

    def test_files_that_cannot_be_read(self):
        pathlib.Path("empty_line.txt").write_text("a\n\nb\n")
        pathlib.Path("no_text.txt").write_bytes(b"\xff\xfe\x00")
        pathlib.Path("nothing.txt").write_bytes(b"")
        for options, message in (
            ({"sample_weight": "none.npy"}, "none.npy: cannot be read: No such file"),
            ({"sample_weight": "no_text.txt"}, "no_text.txt: not an .npy array, or damaged"),
            ({"groups": "none.txt"}, "none.txt: cannot be read: No such file"),
            ({"groups": "none.npy"}, "none.npy: cannot be read: No such file"),
            ({"groups": "empty_line.txt"}, "empty_line.txt: line 2 is empty; expected one value a line"),
            ({"groups": "no_text.txt"}, "no_text.txt: is no text in UTF-8; expected one value a line, or an .npy file"),
            ({"groups": "nothing.txt"}, "nothing.txt: holds nothing; expected one value a line"),
            ({"groups": "."}, r"\.: cannot be read: Is a directory"),
            ({"groups": "~nobody-of-this-name/x"}, "~nobody-of-this-name/x: cannot be found"),
        ):
            with self.assertRaisesRegex(DataError, f"^{message}"):
                self.load(**options)

    def test_paths_become_absolute(self):
        np.save("weights.npy", self.weights)
        pathlib.Path("groups.txt").write_text("\n".join(map(str, self.groups)))
        splits = self.load(sample_weight="weights.npy", groups="groups.txt")
        lines = flag_lines(splits.config)
        self.assertIn(f"--sample_weight={self.folder}/weights.npy", lines)
        self.assertIn(f"--groups={self.folder}/groups.txt", lines)

    def test_the_rows_of_other_formats(self):
        np.save("weights.npy", np.arange(1797))
        self.assert_annotated(load("digits", sample_weight="weights.npy"), np.arange(1797))
        idx = made.write_idx_folder("idx", n_train=90, n_test=30)
        np.save("weights.npy", np.arange(90))
        splits = load(idx, sample_weight="weights.npy")  # The test is another array.
        np.testing.assert_array_equal(splits.train.weights, splits.train.rows)
        np.testing.assert_array_equal(splits.validation.weights, splits.validation.rows)
        self.assertIsNone(splits.test.weights)

    def test_pictures_are_listed_by_their_paths(self):
        # Each picture is of one value, which is the one that the files have for it.
        names = ["b/2.png", "b/10.png", "a/x.png", "a/deep/y.png", "b/z.png", "a/a.png", "b/0.png", "a/m.png"]
        for value, name in enumerate(sorted(names, key=lambda name: pathlib.Path(name).parts)):
            path = self.folder / "pictures" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((2, 2), value, np.uint8)).save(path)
        np.save("weights.npy", np.arange(8))
        pathlib.Path("groups.txt").write_text("\n".join("00112233"))
        options = {"validation_split": 2, "test_split": 2, "sample_weight": "weights.npy", "groups": "groups.txt"}
        splits = load("pictures", **options)
        for part in (splits.train, splits.validation, splits.test):
            np.testing.assert_array_equal(part.weights, part.images[:, 0, 0])
            self.assertEqual(len(set(part.groups)), len(set(part.images[:, 0, 0] // 2)))
        # A picture that is left out has its values in the files all the same.
        (self.folder / "pictures" / "a" / "m.png").write_bytes(b"none")
        with self.assertLogs("absl", "WARNING"):
            splits = load("pictures", **options, skip_bad_images=True)
        weights = np.concatenate([part.weights for part in (splits.train, splits.validation, splits.test)])
        self.assertLen(weights, 7)
        for part in (splits.train, splits.validation, splits.test):
            np.testing.assert_array_equal(part.weights, part.images[:, 0, 0])
        np.save("weights.npy", np.arange(7))
        with self.assertRaisesRegex(DataError, r"^weights.npy: .* for 8 examples; expected \[8\] numbers"):
            load("pictures", **options, skip_bad_images=True)


class SplitFileTest(InFolder):
    def setUp(self):
        super().setUp()
        self.words = np.random.default_rng(1).permutation(np.repeat(["train", "dev", "testing"], [30, 12, 18]))
        np.save("weights.npy", self.weights)

    def write(self, words, name="splits.txt"):
        pathlib.Path(name).write_text("\n".join(words) + "\n")
        return name

    def assert_divided(self, splits, words, **names):
        for split, name in names.items():
            part, rows = getattr(splits, split), np.flatnonzero(np.asarray(words) == name)
            np.testing.assert_array_equal(part.images, self.images[rows])
            np.testing.assert_array_equal(part.labels, self.labels[rows])
            np.testing.assert_array_equal(part.weights, self.weights[rows])

    def test_each_example_is_in_the_split_of_its_word(self):
        np.save("splits.npy", self.words)
        np.save("bytes.npy", self.words.astype("S"))
        self.write(["split", *self.words], "splits.csv")
        for name in (self.write(self.words), "splits.npy", "bytes.npy", "splits.csv"):
            splits = self.load(split_file=name, sample_weight="weights.npy")
            self.assert_divided(splits, self.words, train="train", validation="dev", test="testing")
            self.assertEqual((splits.taken, set(splits.brought)), ((), {"validation", "test"}))
            # It is one array in all splits, mapped as it was.
            self.assertIs(splits.test.stored, splits.train.stored)
        self.assertIn(f"--split_file={self.folder}/splits.csv", flag_lines(splits.config))

    def test_what_it_does_not_say_is_drawn_from_training(self):
        words = np.where(self.words == "testing", "train", self.words)
        splits = self.load(split_file=self.write(words), sample_weight="weights.npy", test_split=8)
        self.assert_divided(splits, words, validation="dev")
        self.assertEqual((splits.taken, len(splits.train), len(splits.test)), (("test",), 40, 8))
        self.assertEmpty(np.intersect1d(splits.test.rows, np.flatnonzero(words == "dev")))

    def test_beside_a_split_that_the_data_brings(self):
        idx = made.write_idx_folder("idx", n_train=90, n_test=30)
        words = np.where(np.arange(90) % 9 == 4, "validation", "train")
        splits = load(idx, split_file=self.write(words))
        np.testing.assert_array_equal(splits.validation.rows, np.arange(4, 90, 9))
        self.assertEqual((splits.taken, len(splits.train), len(splits.test)), ((), 80, 30))
        words[7] = "test"
        with self.assertRaisesRegex(
            ConfigError,
            "^split_file=splits.txt: says which examples are for test, and .* brings a test split; expected",
        ):
            load(idx, split_file=self.write(words))

    def test_pictures_are_listed_by_their_paths(self):
        # Each picture is of one value, which is its place among the paths.
        names = sorted(
            ["b/2.png", "b/10.png", "a/x.png", "a/deep/y.png", "b/z.png", "a/a.png"], key=lambda n: n.split("/")
        )
        for value, name in enumerate(names):
            path = self.folder / "pictures" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((2, 2), value, np.uint8)).save(path)
        words = ["train", "test", "train", "val", "train", "train"]
        splits = load("pictures", split_file=self.write(words))
        self.assertCountEqual(splits.train.images[:, 0, 0].tolist(), [0, 2, 4, 5])
        self.assertEqual((splits.test.images[:, 0, 0].tolist(), splits.validation.images[:, 0, 0].tolist()), ([1], [3]))
        (self.folder / "pictures" / names[2]).write_bytes(b"none")
        with self.assertLogs("absl", "WARNING"):
            splits = load("pictures", split_file="splits.txt", skip_bad_images=True)
        np.save("groups.npy", [0, 1, 2, 3, 4, 3])
        with (
            self.assertRaisesRegex(DataError, "row 3, for validation, is of one group with row 5, for train"),
            self.assertLogs("absl", "WARNING"),
        ):
            load("pictures", split_file="splits.txt", groups="groups.npy", skip_bad_images=True)
        self.assertCountEqual(splits.train.images[:, 0, 0].tolist(), [0, 4, 5])
        self.assertEqual(splits.validation.images[:, 0, 0].tolist(), [3])

    def test_what_is_wrong_is_said_in_a_line(self):
        other = self.words.copy()
        other[[5, 9]] = "holdout"
        one_class = np.where(self.labels == 1, "test", "train")
        for words, message in (
            (self.words[1:], "59 rows for 60 examples; expected one for each"),
            (other, r"'holdout' in row 5 \(counted from 0\); expected train, validation or test"),
            (["dev"] * 60, "no row is for training; expected train in one at least"),
            (
                one_class,
                "an example for test is of the class 1, which no training example has; expected all classes in",
            ),
        ):
            with self.assertRaisesRegex(DataError, message):
                self.load(split_file=self.write(words))
        np.save("numbers.npy", self.groups)
        words = np.where(np.arange(60) < 45, "train", "test")
        words[13] = "dev"  # The rows 10 to 14 are one group.
        with self.assertRaisesRegex(
            DataError, r"row 13, for validation, is of one group with row 10, for train \(count"
        ):
            self.load(split_file=self.write(words), groups="numbers.npy")
        with self.assertRaisesRegex(
            DataError, r"^numbers.npy: splits of shape \(60,\) and type int64; expected \[N\] te"
        ):
            self.load(split_file="numbers.npy")
        np.savez("data.npz", x_train=self.images, y_train=self.labels, x_val=self.images, y_val=self.labels)
        with self.assertRaisesRegex(ConfigError, "^split_file=splits.txt: says which examples are for validation, and"):
            load("data.npz", split_file=self.write(self.words))


class ArchiveTest(InFolder):
    def archive(self, **arrays):
        np.savez("data.npz", **arrays)
        return load("data.npz", validation_split=10, test_split=10)

    def test_weights_and_groups_of_all_examples(self):
        plain = self.archive(images=self.images, labels=self.labels)
        splits = self.archive(
            images=self.images, labels=self.labels, sample_weight=self.weights, groups=self.groups.astype("U4")
        )
        self.assert_annotated(splits, self.weights, self.groups)
        self.assertNotEqual(splits.fingerprint, plain.fingerprint)

    @parameterized.parameters(
        (("x_{}", "y_{}", "sample_weight_{}", "groups_{}"), ("train", "val", "test")),
        (("{}images", "{}labels", "{}sample_weight", "{}groups"), ("", "validation_", "test_")),
    )
    def test_of_each_split_by_its_name(self, names, splits):
        columns = (self.images, self.labels, self.weights, self.groups)
        parts = (slice(0, 30), slice(30, 45), slice(45, 60))
        arrays = {
            name.format(split): column[part]
            for split, part in zip(splits, parts, strict=True)
            for name, column in zip(names, columns, strict=True)
        }
        found = self.archive(**arrays)
        for part, rows in zip((found.train, found.validation, found.test), parts, strict=True):
            np.testing.assert_array_equal(part.weights, self.weights[rows])
            np.testing.assert_array_equal(part.groups, self.groups[rows])
        # One number is one group in all of them.
        test_groups = names[3].format(splits[2])
        with self.assertRaisesRegex(
            DataError, "example 1 of the test split is of one group with example 20 of the tra"
        ):
            self.archive(**arrays | {test_groups: np.append([99, 4], self.groups[47:60])})
        del arrays[names[2].format(splits[1])], arrays[test_groups]
        found = self.archive(**arrays)
        self.assertEqual((found.validation.weights, found.test.groups), (None, None))

    @parameterized.parameters(
        ({"sample_weight": [1.0] * 59}, r"data.npz \(sample_weight\): weights of shape \(59,\)"),
        ({"sample_weight": [-1.0] * 60}, r"data.npz \(sample_weight\): weight -1 of example 0; expected a finite"),
        ({"groups": [1] * 61}, r"data.npz \(groups\): groups of shape \(61,\) .* for 60 examples"),
        ({"groups": [0.5] * 60}, r"data.npz \(groups\): groups of shape \(60,\) and type float64; expected \[N\] int"),
        (
            {"test_groups": [1] * 60},
            "data.npz: holds test_groups, which goes with no images there; expected test_images$",
        ),
        (
            {"sample_weight_train": [1] * 60, "sample_weight": [1] * 60},
            "holds sample_weight and sample_weight_train, each of which may be the train weights",
        ),
        ({"test_images": [0], "sample_weight": [1]}, "holds test_images alone; expected test_images and test_labels"),
    )
    def test_what_cannot_be_used(self, arrays, message):
        with self.assertRaisesRegex(DataError, message):
            self.archive(images=self.images, labels=self.labels, **arrays)

    def test_not_twice(self):
        np.save("weights.npy", self.weights)
        np.savez("data.npz", images=self.images, labels=self.labels, sample_weight=self.weights, groups=self.groups)
        for option in ("sample_weight", "groups"):
            with self.assertRaisesRegex(
                ConfigError, rf"^{option}=weights.npy: data.npz \(images\) brings its own; leave"
            ):
                load("data.npz", **{option: "weights.npy"})


if __name__ == "__main__":
    absltest.main()
