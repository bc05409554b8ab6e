"""Lists of pictures: tables that name files and their labels."""

import contextlib
import os
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from absl.testing import absltest, parameterized
from PIL import Image

from tests import made
from tfpipe import load
from tfpipe.config import DataConfig
from tfpipe.data import loading
from tfpipe.exceptions import ConfigError, DataError


class PictureListTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        self.enterContext(contextlib.chdir(self.folder))
        self.pixels, self.labels = made.images(30, (5, 7))
        self.kinds = np.array(["eel", "cat", "dog"])[self.labels]

    def pictures(self, folder="images", suffix="png", name="{:03}"):
        """Writes them; their names with suffixes."""
        names = [f"{name.format(number)}.{suffix}" for number in range(30)]
        for file, image in zip(names, self.pixels, strict=True):
            path = self.folder / folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
        return names

    def csv(self, columns, name="list.csv", delimiter=","):
        lines = [delimiter.join(columns), *(delimiter.join(map(str, r)) for r in zip(*columns.values(), strict=True))]
        pathlib.Path(name).write_text("\n".join(lines) + "\n")
        return name

    def assert_reads(self, splits, labels=None, class_names=("cat", "dog", "eel"), rows=None):
        """The pictures of all splits, one after the other, are those of the list in its order."""
        rows = np.arange(30) if rows is None else rows
        parts = (splits.train, splits.validation, splits.test)
        images = np.concatenate([part.images for part in parts])
        names = np.concatenate([np.array(splits.class_names)[part.labels] for part in parts])
        np.testing.assert_array_equal(images, self.pixels[rows])
        np.testing.assert_array_equal(names, (self.kinds if labels is None else labels)[rows])
        self.assertEqual(splits.class_names, class_names)

    def load(self, path, **options):
        return load(path, **{"split_order": "end", "validation_split": 6, "test_split": 5} | options)

    @parameterized.parameters("filename", "image_id", "whatever")
    def test_names_with_their_suffix(self, column):
        names = self.pictures()
        self.assert_reads(self.load(self.csv({column: names, "label": self.kinds}), images_dir="images"))
        self.assert_reads(self.load(self.csv({"label": self.kinds, column: names}, delimiter=";"), images_dir="images"))
        pq.write_table(pa.table({column: names, "x": range(30), "label": self.kinds}), "list.parquet")
        self.assert_reads(self.load("list.parquet", images_dir="images"))

    @parameterized.parameters(
        ("caf\u00e9/", "cafe\u0301/"), ("cafe\u0301/", "caf\u00e9/"), ("a/b/", "a\\b\\"), ("", " ", " "), ("a/", " a\\")
    )
    def test_names_that_are_spelled_otherwise(self, there, listed, behind=""):
        names = self.pictures(name=there + "{:03}")
        others = [listed + name.removeprefix(there) + behind for name in names]
        self.assert_reads(self.load(self.csv({"filename": others, "label": self.kinds}), images_dir="images"))

    def test_a_backslash_or_a_space_in_the_very_name_comes_first(self):
        names = self.pictures()
        names[3] = "0\\03.png"
        os.rename("images/003.png", "images/0\\03.png")
        (self.folder / "images" / "0").mkdir()
        Image.fromarray(self.pixels[0]).save("images/0/03.png")
        self.assert_reads(self.load(self.csv({"filename": names, "label": self.kinds}), images_dir="images"))
        names[3] = "..\\list.csv"
        with self.assertRaisesRegex(DataError, r"row 3 .*: ..\\list.csv: leads out of"):
            self.load(self.csv({"filename": names, "label": self.kinds}), images_dir="images")

    @parameterized.parameters("{:03}", "{}", "00bec{}", "part.{}")
    def test_names_without_their_suffix(self, name):
        names = [file.removesuffix(".png") for file in self.pictures(name=name)]
        splits = self.load(self.csv({"id": names, "breed": self.kinds}), images_dir=self.folder / "images")
        self.assert_reads(splits)
        note = f"list.csv: lists pictures in {self.folder}/images: 'id' has their names, and 'breed' their labels"
        self.assertEqual((splits.notes, splits.config.images_dir), ((note,), f"{self.folder}/images"))

    def test_a_list_beside_its_pictures_is_known_by_them(self):
        names = [f"images/{name}" for name in self.pictures()]
        self.assert_reads(self.load(self.csv({"path": names, "label": self.kinds})))
        names = [f"train/{name}" for name in self.pictures("images/train")]
        self.assert_reads(self.load(self.csv({"n": range(30), "x": names, "y": self.kinds}, "images/list.csv")))

    def test_labels_by_the_rules_of_labels(self):
        names = self.pictures()
        path = self.csv({"id": names, "level": self.labels, "other": self.labels + 1, "text": self.kinds})
        options = {"images_dir": "images"}
        self.assert_reads(self.load(path, label_column="text", **options))
        numbers = self.labels.astype(str)
        self.assert_reads(self.load(path, label_column="level", **options), numbers, ("0", "1", "2"))
        others = (self.labels + 1).astype(str)
        self.assert_reads(self.load(path, label_column="other", **options), others, ("1", "2", "3"))
        splits = self.load(path, label_column="other", numbered_classes=True, **options)
        self.assert_reads(splits, others, ("0", "1", "2", "3"))
        with self.assertRaisesRegex(DataError, "no column label, .*; --label_column says which it is, of level, other"):
            self.load(path, **options)
        with self.assertRaisesRegex(ConfigError, "^label_column=z: list.csv has the columns level, other, text$"):
            self.load(path, label_column="z", **options)

    def test_pictures_are_read_as_those_of_folders(self):
        random = np.random.default_rng(0)
        exif = Image.Exif()
        exif[274] = 6  # Turned.
        names = []
        for number, kind in enumerate(self.kinds):
            path = self.folder / "of_classes" / kind / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = random.integers(0, 256, (*random.integers(4, 9, 2), 4), np.uint8)
            Image.fromarray(pixels).save(path, exif=exif)
            names.append(f"{kind}/{number}.png")
        path = self.csv({"file": names, "label": self.kinds})
        for options in ({}, {"orientation": "stored", "background": "black"}, {"color_mode": "grayscale"}):
            options |= {"image_size": (6, 5)}
            ours = self.load(path, images_dir="of_classes", **options)
            others = load("of_classes", validation_split=6, test_split=5, **options)
            self.assertEqual((ours.reading, ours.class_names), (others.reading, others.class_names))
            pairs = [
                sorted(
                    (label, image.tobytes())
                    for part in (splits.train, splits.validation, splits.test)
                    for image, label in zip(part.images, part.labels.tolist(), strict=True)
                )
                for splits in (ours, others)
            ]
            self.assertEqual(*pairs)

    def test_bad_pictures_are_left_out_with_their_rows(self):
        names = self.pictures()
        for bad in (4, 29):
            (self.folder / "images" / names[bad]).write_bytes(b"none")
        np.save("weights.npy", np.arange(1.0, 31))
        pathlib.Path("splits.txt").write_text("\n".join(["train"] * 15 + ["val"] * 5 + ["test"] * 10))
        options = {"images_dir": "images", "sample_weight": "weights.npy", "split_file": "splits.txt"}
        path = self.csv({"filename": names, "label": self.kinds})
        with self.assertRaisesRegex(
            DataError, f"{names[4]}: does not decode: .*; skip_bad_images leaves such pictures"
        ):
            self.load(path, **options)
        with self.assertLogs("absl", "WARNING") as logged:
            splits = self.load(path, skip_bad_images=True, **options)
        line = "list.csv: left out 2 pictures that do not decode: images/004.png, images/029.png"
        self.assertEqual(logged.output, [f"WARNING:absl:{line}"])
        self.assertIn(line, splits.notes)
        left = np.delete(np.arange(30), [4, 29])
        self.assert_reads(splits, rows=left)
        self.assertEqual((len(splits.train), len(splits.validation), len(splits.test)), (14, 5, 9))
        weights = np.concatenate([part.weights for part in (splits.train, splits.validation, splits.test)])
        np.testing.assert_array_equal(weights, left + 1)

    def test_a_column_of_splits(self):
        names = self.pictures()
        words = np.random.default_rng(0).permutation(["train"] * 15 + ["valid"] * 5 + ["test"] * 10)
        path = self.csv({"image": names, "split": words, "kind": self.kinds})
        (self.folder / "images" / names[7]).write_bytes(b"none")
        splits = self.load(path, images_dir="images", skip_bad_images=True)
        for split, word in (("train", "train"), ("validation", "valid"), ("test", "test")):
            rows = np.setdiff1d(np.flatnonzero(words == word), [7])
            np.testing.assert_array_equal(getattr(splits, split).images, self.pixels[rows])
        self.assertEqual(splits.taken, ())
        self.assertEndsWith(splits.notes[1], "'split' divides the rows: 15 for train, 5 for validation, 10 for test")

    @parameterized.parameters(
        ([0] * 15 + [1] * 15, "it is of type int64, not text"),
        (["x"] * 30, "its values are 'x', not train, validation or test"),
    )
    def test_a_column_of_other_words_is_told(self, words, reason):
        path = self.csv({"image": self.pictures(), "split": words, "label": self.kinds})
        with self.assertLogs("absl", "WARNING") as logged:
            splits = self.load(path, images_dir="images")
        self.assert_reads(splits)
        (line,) = logged.output
        self.assertIn(f"list.csv: the column 'split' does not divide the rows: {reason}; it is not used; if it", line)
        # The labels may be called so.
        with self.assertNoLogs("absl", "WARNING"):
            self.assert_reads(self.load(self.csv({"image": self.pictures(), "set": self.kinds}), images_dir="images"))

    def test_a_list_for_the_test_alone_measures_a_model(self):
        path = self.csv({"image": self.pictures(), "split": ["test"] * 30, "label": self.kinds})
        splits = loading.loaded(DataConfig(path, images_dir="images"), ("cat", "dog", "eel"))
        np.testing.assert_array_equal(splits.test.images, self.pixels)
        self.assertEqual((len(splits.train), len(splits.validation)), (0, 0))

    def test_the_training_pictures_of_a_column_of_splits_tell_range_and_size(self):
        for number in range(30):
            is_test, path = number % 3 == 2, self.folder / f"{number:02}.png"
            values = np.full((90, 200) if is_test else (20, 30), 60000 if is_test else 100 * number, np.uint16)
            Image.fromarray(values).save(path)
        words = np.array(["train", "valid", "test"])[np.arange(30) % 3]
        words[4] = "train"
        Image.fromarray(np.full((20, 30), 3000, np.uint16)).save(self.folder / "04.png")
        labels = np.arange(30) // 3 % 2
        path = self.csv({"id": [f"{n:02}" for n in range(30)], "split": words, "label": labels})
        splits = self.load(path, images_dir=".")
        self.assertEqual((splits.reading.gray_max, splits.train.images.shape), (4095, (11, 20, 30)))
        self.assertEqual(splits.test.images.min(), 255)
        rows = np.flatnonzero(words == "train")
        values = np.where(rows == 4, 3000, 100 * rows) * 256 // 4096
        np.testing.assert_array_equal(splits.train.images, np.broadcast_to(values[:, None, None], (11, 20, 30)))
        size, gray, above = splits.notes[2:]
        self.assertIn("pictures of 2 sizes, from 20 x 30 to 90 x 200, are brought to 20 x 30", size)
        self.assertIn("4095 is white, for the largest value in training is 3000;", gray)
        self.assertIn("10 pictures have gray values above 4095, up to 60000, which become white", above)
        self.assertIn(": 02.png, 05.png, 08.png, 11.png, 14.png and 5 more; --gray_max says otherwise", above)

    @parameterized.parameters(
        ("test", b"none", "no example for test is left; expected one at least"),
        ("valid", b"cut off", "no example for validation is left; expected one at least"),
        ("train", b"none", "no picture of the split train decodes"),
        ("train", b"cut off", "no example for training is left; expected one at least"),
    )
    def test_a_split_of_which_no_picture_decodes(self, word, content, message):
        names = self.pictures()
        words = np.array(["train"] * 10 + ["valid"] * 10 + ["test"] * 10)
        for number in np.flatnonzero(words == word):
            path = self.folder / "images" / names[number]
            path.write_bytes(path.read_bytes()[:-30] if content == b"cut off" else content)
        with self.assertRaisesRegex(DataError, f"list.csv: {message}$"):
            self.load(
                self.csv({"file": names, "split": words, "label": self.kinds}),
                images_dir="images",
                skip_bad_images=True,
            )
        pathlib.Path("splits.txt").write_text("\n".join(words))
        left = message.replace("no picture of the split train decodes", "no example for training is left")
        with self.assertRaisesRegex(DataError, f"list.csv: {left}"):
            self.load(
                self.csv({"file": names, "label": self.kinds}),
                images_dir="images",
                skip_bad_images=True,
                split_file="splits.txt",
            )

    def test_missing_pictures_are_counted_and_named(self):
        names = self.pictures()
        for missing in (2, 3, 5, 7, 11, 13, 17):
            (self.folder / "images" / names[missing]).unlink()
        path = self.csv({"filename": names, "label": self.kinds})
        with self.assertRaisesRegex(
            DataError,
            f"^list.csv: 7 of 30 pictures are missing in {self.folder}/images: 002.png, 003.png, 005.png, 007.png, "
            "011.png and 2 more; --images_dir=FOLDER says where they lie$",
        ):
            self.load(path, images_dir="images")
        pathlib.Path("empty").mkdir()
        with self.assertRaisesRegex(DataError, "^list.csv: 30 of 30 pictures are missing in"):
            self.load(path, images_dir="empty")
        with self.assertRaisesRegex(
            DataError, "^nowhere: no such folder; expected the one of the pictures that list.c"
        ):
            self.load(path, images_dir="nowhere")

    def test_what_lies_outside_of_the_folder_is_not_read(self):
        names = self.pictures()
        Image.fromarray(self.pixels[0]).save("outside.png")
        os.symlink(self.folder / "outside.png", "images/link.png")
        pathlib.Path("elsewhere").mkdir()
        Image.fromarray(self.pixels[0]).save("elsewhere/x.png")
        os.symlink(self.folder / "elsewhere", "images/folder")
        where = r"^list.csv: column 'filename', row 29 \(counted from 0\)"
        for name, problem in (
            ("../outside.png", "leads out of"),
            ("../outside", "leads out of"),
            (f"{self.folder}/outside.png", "leads out of"),
            ("link.png", "a link that leads out of"),
            ("link", "a link that leads out of"),
            ("folder/x.png", "a link that leads out of"),
        ):
            path = self.csv({"filename": [*names[:29], name], "label": self.kinds})
            with self.assertRaisesRegex(DataError, f"{where}: {name}: {problem} .*; expected a picture in the folder$"):
                self.load(path, images_dir="images")
        # A way that ends inside is one, and so is a link.
        os.symlink(self.folder / "images" / names[29], "images/inner.png")
        for name in (f"x/../{names[29]}", f"{self.folder}/images/{names[29]}", "inner"):
            path = self.csv({"filename": [*names[:29], name], "label": self.kinds})
            self.assert_reads(self.load(path, images_dir="images"))
        os.symlink(self.folder / "images", "linked")
        self.assert_reads(self.load(self.csv({"filename": names, "label": self.kinds}), images_dir="linked"))

    @parameterized.parameters(
        ({"filename": ["000.png", "001.png", "000.png"]}, r"row 2 \(.*\): 000.png is in row 0 too; expected each pi"),
        ({"filename": ["000.png", "001.png", "000"]}, r"row 2 \(.*\): 000 is in row 0 too; expected each picture once"),
        ({"filename": ["000.png", "", "001.png"]}, r"row 1 \(.*\): has no name; expected one in every row"),
        ({"filename": ["000.png", "two", "001.png"]}, r"row 1 \(.*\): two: may be two.bmp or two.png; expected a pic"),
        ({"a": ["000.png", "001.png", "002.png"], "b": ["003.png", "004.png", "005.png"]},
         "the columns a and b may name the pictures; expected one such as filename, of a, b, label$"),
        ({"a": ["x", "y", "z"]}, "none of its columns seems to name the pictures; expected one such as filename, of a"),
    )  # fmt: skip
    def test_what_cannot_be_used(self, columns, message):
        self.pictures()
        for suffix in ("bmp", "png"):
            Image.fromarray(self.pixels[0]).save(f"images/two.{suffix}")
        path = self.csv(columns | {"label": ["c", "d", "c"]})
        with self.assertRaisesRegex(DataError, f"^list.csv: (column 'filename', )?{message}"):
            self.load(path, images_dir="images")

    def test_of_several_columns_the_one_of_a_usual_name(self):
        names = self.pictures()
        columns = {"Unnamed: 0": range(30), "thumbnail": names[::-1], "Filename": names, "label": self.kinds}
        splits = self.load(self.csv(columns), images_dir="images")
        self.assert_reads(splits)
        self.assertEndsWith(splits.notes[0], "and 'label' their labels; it does not use thumbnail")

    def test_no_names_of_columns(self):
        names = self.pictures()
        lines = [f"{name},{kind}\n" for name, kind in zip(names, self.kinds, strict=True)]
        pathlib.Path("list.csv").write_text("".join(lines))
        with self.assertRaisesRegex(
            DataError, "the first line names a picture, '000.png'; expected the names of the c"
        ):
            self.load("list.csv", images_dir="images")

    def test_options_of_other_data(self):
        path = self.csv({"filename": self.pictures(), "label": self.kinds})
        with self.assertRaisesRegex(
            ConfigError, "^categorical=label: is for tables of features, .*, and list.csv is n"
        ):
            self.load(path, images_dir="images", categorical="label")
        with self.assertRaisesRegex(
            ConfigError, "^images_dir=images: goes with a .csv or Parquet file that lists pict"
        ):
            load("digits", images_dir="images")
        table = self.csv({"a": range(30), "label": self.kinds}, "table.csv")
        with self.assertRaisesRegex(
            ConfigError, "^orientation=stored: is for folders of pictures and lists of them, an"
        ):
            load(table, orientation="stored")


if __name__ == "__main__":
    absltest.main()
