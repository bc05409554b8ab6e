import dataclasses
import os
import pathlib
import shutil
import threading
import unittest
import zlib
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from absl import logging
from absl.testing import parameterized
from PIL import Image

from tests import made
from tfpipe import TrainConfig, load, train
from tfpipe.data import description
from tfpipe.exceptions import ConfigError, DataError
from tfpipe.model import artifact, scores

NAMES = ("cat", "dog", "eel")


class FolderTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.root = pathlib.Path(self.create_tempdir().full_path) / "pictures"
        self.pixels, self.labels = made.images(30, (5, 7))

    def write(self, folder="", pixels=None, suffix="png", **options):
        pixels = self.pixels if pixels is None else pixels
        paths = []
        for number, (image, label) in enumerate(zip(pixels, self.labels, strict=False)):
            path = self.root / folder / NAMES[label] / f"{number:03}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path, **options)
            paths.append(path)
        return paths

    def assert_same_set(self, images, labels, pixels, true_labels):
        """The same pairs of image and label, in whatever order."""

        def pairs(images, labels):
            return sorted((label, image.tobytes()) for image, label in zip(images, labels.tolist(), strict=True))

        self.assertEqual(pairs(images, labels), pairs(pixels, true_labels))

    def test_class_folders_are_decoded_and_divided(self):
        self.write()
        splits = load(self.root, validation_split=6, test_split=4)
        self.assertEqual(splits.class_names, NAMES)
        self.assertEqual((len(splits.train), len(splits.validation), len(splits.test)), (20, 6, 4))
        parts = (splits.train, splits.validation, splits.test)
        images, labels = (np.concatenate([getattr(p, name) for p in parts]) for name in ("images", "labels"))
        self.assert_same_set(images, labels, self.pixels, self.labels)
        self.assertEqual((splits.pixel_max, splits.image_shape, images.dtype), (255.0, (5, 7), np.uint8))
        for part in parts:
            for image, file in zip(part.images, part.files, strict=True):
                self.assertAllEqual(image, np.asarray(Image.open(self.root / file)))
        # The end of the examples is not the last class: they come in an order of their own, the same every time.
        self.assertGreater(len(set(splits.train.labels[-8:])), 1)
        self.assertAllEqual(load(self.root, validation_split=6, test_split=4).train.images, splits.train.images)

    @parameterized.parameters("validation", "val")
    def test_split_folders(self, validation):
        self.write("train", self.pixels[:15])
        self.write(validation, self.pixels[15:18])
        self.write("test", self.pixels[18:])
        splits = load(self.root)
        self.assert_same_set(splits.train.images, splits.train.labels, self.pixels[:15], self.labels[:15])
        self.assert_same_set(splits.validation.images, splits.validation.labels, self.pixels[15:18], self.labels[:3])
        self.assertLen(splits.test, 12)

    @parameterized.parameters(
        ("png", {}), ("bmp", {}), ("gif", {}), ("PNG", {}), ("jpg", {"quality": 100}), ("jpeg", {"quality": 100})
    )
    def test_formats(self, suffix, options):
        self.write(suffix=suffix, **options)
        splits = load(self.root, color_mode="grayscale")
        images = np.concatenate([p.images for p in (splits.train, splits.validation, splits.test)])
        difference = np.sort(images.sum(axis=(1, 2), dtype=int)) - np.sort(self.pixels.sum(axis=(1, 2), dtype=int))
        self.assertLessEqual(np.abs(difference).max(), 35 if suffix.startswith("j") else 0)

    def test_colours_are_kept_unless_told_otherwise(self):
        colours = np.random.default_rng(0).integers(0, 256, (30, 5, 7, 3), dtype=np.uint8)
        self.write(pixels=colours)
        splits = load(self.root)
        images = np.concatenate([p.images for p in (splits.train, splits.validation, splits.test)])
        self.assertEqual(sorted(i.tobytes() for i in images), sorted(i.tobytes() for i in colours))
        self.assertEqual(load(self.root, color_mode="grayscale").image_shape, (5, 7))
        self.assertEqual(load(self.root, color_mode="rgb").image_shape, (5, 7, 3))
        (self.root / "cat" / "gray.png").unlink(missing_ok=True)
        Image.fromarray(self.pixels[0]).save(self.root / "cat" / "gray.png")  # One that is gray among them.
        self.assertEqual(load(self.root).image_shape, (5, 7, 3))

    def test_16_bits_a_pixel_keep_their_upper_8(self):
        deep = self.pixels.astype(np.uint16) * 256 + 17
        self.write(pixels=deep)
        splits = load(self.root)
        images = np.concatenate([p.images for p in (splits.train, splits.validation, splits.test)])
        self.assertEqual(sorted(i.tobytes() for i in images), sorted(i.tobytes() for i in self.pixels))

    def test_image_size_is_height_then_width(self):
        paths = self.write()
        Image.fromarray(np.zeros((9, 9), np.uint8)).save(paths[3])
        with self.assertRaisesRegex(
            DataError, f"{paths[3]}: is 9 x 9, but 29 of 30 pictures are 5 x 7; image_size=HEIGHT,WIDTH"
        ):
            load(self.root, image_size="native")
        self.assertEqual(load(self.root, image_size=(48, 24)).image_shape, (48, 24))
        image = load(self.root, image_size=(10, 14)).train.images[0]
        widened = [Image.fromarray(pixels).resize((14, 5), Image.Resampling.BILINEAR) for pixels in self.pixels]
        enlarged = [picture.resize((14, 10), Image.Resampling.BILINEAR).tobytes() for picture in widened]
        self.assertIn(image.tobytes(), [bytes(140), *enlarged])

    def test_what_is_no_picture_is_ignored_and_counted(self):
        self.write()
        for name in ("cat/.hidden.png", "cat/Thumbs.db", "dog/notes.txt"):
            (self.root / name).write_text("no picture")
        (self.root / ".git").mkdir()
        with self.assertLogs("absl", "INFO") as log:
            self.assertEqual(load(self.root).class_names, NAMES)
        left_out = f"{self.root}: left out 1 file that is no picture: dog/notes.txt; and 2 hidden or of the system"
        self.assertEqual(log.output, [f"WARNING:absl:{left_out}"])

    @parameterized.parameters(
        lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"x" * 50, lambda data: data[:50]
    )
    def test_a_picture_that_does_not_decode_is_named_or_left_out(self, damage):
        paths = self.write()
        paths[5].write_bytes(damage(paths[5].read_bytes()))
        with self.assertRaisesRegex(DataError, f"^{paths[5]}: does not decode: .*skip_bad_images"):
            load(self.root)
        with self.assertLogs("absl", "WARNING") as log:
            splits = load(self.root, skip_bad_images=True)
        self.assertIn(
            f"{self.root}: left out 1 picture that does not decode: {paths[5].relative_to(self.root)}", log.output[0]
        )
        self.assertIn(log.output[0].removeprefix("WARNING:absl:"), splits.notes)
        self.assertLen(splits.train, 17)
        self.assertEqual(len(splits.train) + len(splits.validation) + len(splits.test), 29)

    def damage(self, step):
        """Of a picture, every byte in `step`: that is an error, or a picture."""
        paths = self.write()
        data = paths[5].read_bytes()
        for place in range(0, len(data), step):
            damaged = bytearray(data)
            damaged[place] ^= 0xFF
            paths[5].write_bytes(bytes(damaged))
            try:
                self.assertEqual(load(self.root).image_shape, (5, 7))
            except DataError as error:
                self.assertIn(str(paths[5]), str(error))

    def test_damaged_bytes(self):
        self.damage(step=11)

    @pytest.mark.exhaustive
    def test_every_damaged_byte(self):
        self.damage(step=1)

    def test_a_picture_of_too_many_pixels(self):
        paths = self.write()

        def png(width, height):
            def part(kind, data):
                return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

            size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
            return (
                b"\x89PNG\r\n\x1a\n" + part(b"IHDR", size + b"\x08\0\0\0\0") + part(b"IDAT", b"") + part(b"IEND", b"")
            )

        for side in (10_000, 60_000):
            paths[0].write_bytes(png(side, side))
            with self.assertRaisesRegex(DataError, f"{paths[0]}: does not decode: DecompressionBomb"):
                load(self.root)

    def test_links_stay_inside(self):
        paths = self.write()
        (self.root / "cat" / "inside.png").symlink_to(paths[0])
        self.assertEqual(sum(len(p) for p in self.parts(load(self.root))), 31)
        outside = self.root.parent / "outside.png"
        Image.fromarray(self.pixels[0]).save(outside)
        (self.root / "cat" / "outside.png").symlink_to(outside)
        with self.assertRaisesRegex(DataError, "cat/outside.png: a link that leads out of"):
            load(self.root)

    def test_linked_folders(self):
        self.write()
        outside = self.root.parent / "cow"
        (self.root / "cat").rename(outside)
        (self.root / "cow").symlink_to(outside)
        with self.assertRaisesRegex(DataError, "pictures/cow: a link that leads out of"):
            load(self.root)
        (self.root / "cow").unlink()
        (self.root / "dog" / "more").symlink_to(self.root / "eel")
        with self.assertRaisesRegex(DataError, "dog/more: a link to a folder"):
            load(self.root)

    def test_val_and_validation(self):
        for name in ("train", "val", "validation"):
            self.write(name)
        with self.assertRaisesRegex(
            DataError, "holds val and validation, which both stand for validation; expected one of them"
        ):
            load(self.root)

    def parts(self, splits):
        return splits.train, splits.validation, splits.test

    def test_folders_of_another_form(self):
        self.root.mkdir()
        (self.root / "cat").mkdir()
        with self.assertRaisesRegex(DataError, "no pictures in class folders; expected CLASS/PICTURE"):
            load(self.root)
        self.write()
        (self.root / "cat" / "a\nb.png").write_bytes(b"")
        with self.assertRaisesRegex(DataError, "a name with a line break"):
            load(self.root)
        (self.root / "cat" / "a\nb.png").unlink()
        (self.root / "train").mkdir()
        with self.assertRaisesRegex(DataError, "holds train beside cat"):
            load(self.root)

    def test_a_class_that_training_does_not_have(self):
        self.write("train")
        self.write("test")
        (self.root / "test" / "cat").rename(self.root / "test" / "cow")
        with self.assertRaisesRegex(DataError, "test/cow: the training split has no class of this name"):
            load(self.root)

    def test_the_options_are_for_pictures_alone(self):
        for option, value in (
            ("image_size", (8, 8)),
            ("color_mode", "rgb"),
            ("skip_bad_images", True),
            ("orientation", "stored"),
            ("background", "black"),
            ("gray_max", 4095),
            ("fit", "pad"),
            ("decoding", "full"),
        ):
            with self.assertRaisesRegex(ConfigError, f"{option}=.*: is for .*, and digits is none"):
                load("digits", **{option: value})

    def test_as_many_threads_as_there_are_cores_for_this_process(self):
        self.write()
        threads, opened = set(), Image.open

        def noted(*arguments, **options):
            threads.add(threading.current_thread())
            return opened(*arguments, **options)

        with mock.patch.dict(os.environ, LOKY_MAX_CPU_COUNT="1"), mock.patch.object(Image, "open", noted):
            load(self.root)
        self.assertLen(threads, 2)  # One after the other: one read the sizes, one decoded.

    def test_the_same_data_as_the_same_rows_from_idx(self):
        self.write("train", self.pixels[:20])
        self.write("test", self.pixels[20:])
        from_folder = load(self.root, validation_split=5, split_order="end")
        folder = self.root.parent / "idx"
        folder.mkdir()
        in_training = [
            np.concatenate([getattr(from_folder.train, n), getattr(from_folder.validation, n)])
            for n in ("images", "labels")
        ]
        test = from_folder.test.images, from_folder.test.labels
        for prefix, (images, labels) in (("train", in_training), ("t10k", test)):
            (folder / f"{prefix}-images-idx3-ubyte").write_bytes(made.idx_bytes(images))
            (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(made.idx_bytes(labels))
        self.assertEqual(from_folder.class_names, NAMES)
        for order in ("end", "stratified"):
            from_idx, from_folder = (load(path, validation_split=5, split_order=order) for path in (folder, self.root))
            self.assertEqual(dataclasses.replace(from_idx, class_names=NAMES).fingerprint, from_folder.fingerprint)


class DefaultSizeTest(parameterized.TestCase):
    """What pictures are brought to where no size is given."""

    def setUp(self):
        super().setUp()
        self.root = pathlib.Path(self.create_tempdir().full_path) / "pictures"

    def load(self, *shapes, **options):
        """The splits of a folder with twelve pictures of each shape, and the line about their size."""
        for number in range(12 * len(shapes)):
            path = self.root / "cd"[number % 2] / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full(shapes[number // 12], number, np.uint8)).save(path)
        with self.assertLogs("absl", "INFO") as log:
            logging.get_absl_logger().info("begin")
            splits = load(self.root, **options)
        said = [line.removeprefix("INFO:absl:") for line in log.output[1:]]
        self.assertEqual(said, description.describe(splits)["notes"])
        self.assertLessEqual(len(said), 1)
        return splits, "".join(said)

    @parameterized.parameters(
        ([(128, 100)], (128, 100)),
        ([(128, 129)], (127, 128)),  # 127.01.
        ([(300, 400)], (96, 128)),
        ([(400, 300), (200, 150), (800, 600)], (128, 96)),  # One shape.
        ([(200, 301), (400, 601)], (85, 128)),  # 85.05 and 85.19.
        ([(300, 400), (400, 300)], (128, 128)),
        ([(9, 40), (11, 30), (50, 20)], (40, 40)),  # The median of the longer sides.
        ([(2, 999)], (1, 128)),
    )
    def test_of_one_shape_that_and_of_others_a_square(self, shapes, expected):
        splits, said = self.load(*shapes)
        self.assertEqual(splits.image_shape, expected)
        sizes = sorted(shapes, key=lambda shape: shape[0] * shape[1])
        least, most = (f"{size[0]} x {size[1]}" for size in (sizes[0], sizes[-1]))
        wanted = f"{self.root}: pictures of {most} are"
        hint = "--image_size=native keeps theirs"
        if len(shapes) > 1:
            wanted = f"{self.root}: pictures of {len(shapes)} sizes, from {least} to {most}, are"
            hint = "--fit=crop or pad keeps their shapes"
        wanted += f" brought to {expected[0]} x {expected[1]}; --image_size=HEIGHT,WIDTH gives another size, {hint}"
        self.assertEqual(said, "" if shapes == [expected] else wanted)

    def test_pictures_keep_their_size_or_have_the_one_that_is_given(self):
        for option, expected in (("native", (300, 400)), ((5, 6), (5, 6))):
            splits, said = self.load((300, 400), image_size=option)
            self.assertEqual((splits.image_shape, said), (expected, ""))

    def test_the_training_pictures_tell_it(self):
        self.load((20, 30))
        (self.root / "train").mkdir()
        for name in "cd":
            (self.root / name).rename(self.root / "train" / name)
            (self.root / "test" / name).mkdir(parents=True)
            Image.fromarray(np.full((300, 200), 7, np.uint8)).save(self.root / "test" / name / "large.png")
        splits = load(self.root)
        self.assertEqual((splits.image_shape, splits.test.images.shape), ((20, 30), (2, 20, 30)))
        self.assertIn("pictures of 2 sizes, from 20 x 30 to 300 x 200, are brought to 20 x 30;", splits.notes[0])

    def test_pictures_of_other_shapes_are_cropped_or_padded(self):
        splits, said = self.load((20, 30), (30, 20), fit="pad", background="black", test_split=2, validation_split=2)
        self.assertEqual((splits.image_shape, splits.reading.fit), ((30, 30), "pad"))
        self.assertNotIn("--fit", said)
        for image in splits.train.images:
            value = image[15, 15]
            upright = np.zeros((30, 30), np.uint8)
            upright[:, 5:25] = value
            np.testing.assert_array_equal(image, upright.T if value < 12 else upright)
        splits, _ = self.load((20, 30), (30, 20), fit="crop")
        self.assertEqual({len(np.unique(image)) for image in splits.train.images}, {1})


class LayoutTest(parameterized.TestCase):
    """Where splits and classes are found, and what is left out."""

    def setUp(self):
        super().setUp()
        self.root = pathlib.Path(self.create_tempdir().full_path) / "pictures"
        self.written = 0

    def write(self, folder, *classes, suffix="png", count=12):
        """Pictures in the class folders, each another one."""
        for name in classes:
            (self.root / folder / name).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                self.written += 1
                picture = Image.fromarray(np.full((2, 3), self.written, np.uint8))
                picture.save(self.root / folder / name / f"{number:02}.{suffix}")

    def load(self, **options):
        """The splits, and what the log said."""
        with self.assertLogs("absl", "INFO") as log:
            logging.get_absl_logger().info("begin")
            splits = load(self.root, **options)
        return splits, "\n".join(log.output[1:])

    @parameterized.parameters(
        (("train", "validation", "test"), ""),
        (("training", "valid", "testing"), "training for train, valid for validation, testing for test"),
        (("Train", "VAL", "Test"), "Train for train, VAL for validation, Test for test"),
        (("TRAINING", "dev", "test"), "TRAINING for train, dev for validation, test for test"),
        (("train", "Eval", "Testing"), "train for train, Eval for validation, Testing for test"),
    )
    def test_usual_names_of_splits(self, names, said):
        for name, count in zip(names, (12, 5, 7), strict=True):
            self.write(name, "cat", "dog", count=count)
        splits, log = self.load()
        self.assertEqual(splits.class_names, ("cat", "dog"))
        self.assertEqual([len(part) for part in (splits.train, splits.validation, splits.test)], [24, 10, 14])
        self.assertEqual(splits.taken, ())
        expected = (f"{self.root}: holds splits, {said}",) if said else ()
        self.assertEqual(splits.notes, expected)
        self.assertEqual(description.describe(splits)["notes"], list(expected))
        self.assertIn(said, log)

    @parameterized.parameters(
        (("training_set", "test_set"),),
        (("train_data", "test_data"),),
        (("train_images", "test_images"),),
        (("seg_train", "seg_test"),),
        (("01_train", "02_test"),),
        (("Training Set", "Test Set"),),
        (("train", "Test Pictures"),),
        (("TRAIN-2024", "test"),),
    )
    def test_names_of_splits_among_other_words(self, names):
        for name, count in zip(names, (12, 7), strict=True):
            self.write(name, "cat", "dog", count=count)
        splits, log = self.load()
        self.assertEqual(splits.class_names, ("cat", "dog"))
        self.assertEqual([len(splits.train) + len(splits.validation), len(splits.test)], [24, 14])
        self.assertEqual((splits.brought, "WARNING" in log), (("test",), False))
        self.assertIn(f"holds splits, {names[0]} for train, {names[1]} for test", splits.notes[0])

    @parameterized.parameters(
        ("01_train", "02_bus"), ("train_station", "test_station"), ("train_test", "test"), ("trainer", "tester"),
    )  # fmt: skip
    def test_other_words_are_classes(self, *classes):
        for name in classes:
            self.write(name, "day", "night")
        splits, log = self.load()
        self.assertEqual(splits.class_names, tuple(sorted(classes)))
        self.assertIn("all hold the folders day, night, and each takes the pictures of all of its own", log)
        self.assertLen([note for note in splits.notes if "all hold the folders" in note], 1)

    def test_two_folders_for_one_split_among_other_words(self):
        for name in ("train", "train_images", "test"):
            self.write(name, "cat", "dog")
        with self.assertRaisesRegex(DataError, "train and train_images, which both stand for train; expected one of"):
            load(self.root)

    @parameterized.parameters("", "seg_pred")
    def test_pictures_without_classes_beside_splits_are_left_out(self, folder):
        for name in ("seg_train", "seg_test"):
            self.write(name, "sea", "street")
        self.write(folder, "seg_pred", count=3)
        splits, log = self.load()
        self.assertEqual((splits.class_names, len(splits.test)), (("sea", "street"), 24))
        line = f"{self.root}/seg_pred: 3 pictures in no class folders are left out, beside folders of splits"
        self.assertIn(f"WARNING:absl:{line}", log)
        self.assertIn(line, splits.notes)
        self.write("more", "sea", "street")
        with self.assertRaisesRegex(DataError, f"{self.root}: holds seg_train beside more; expected splits alone, or"):
            load(self.root)

    def test_test_and_validation_without_training_are_classes_with_a_warning(self):
        for name in ("test", "valid"):
            self.write(name, "cat", "dog")
        splits, log = self.load()
        self.assertEqual(splits.class_names, ("test", "valid"))
        line = "test, valid are read as classes, as there are no folders of classes for training in it"
        self.assertIn(f"WARNING:absl:{self.root}: {line}", log)
        self.assertIn("the classes test, valid all hold the folders cat, dog,", log)

    @parameterized.parameters(
        (("fold1", "fold2", "fold3"), "fold1, fold2, fold3"), (("train", "test"), "test, train"), (("one",), None)
    )
    def test_folders_that_all_classes_hold(self, folders, shown):
        for name in ("bottle", "cable"):
            self.write(name, *folders, count=4)
        splits, log = self.load()
        self.assertEqual(splits.class_names, ("bottle", "cable"))
        line = (
            f"{self.root}: the classes bottle, cable all hold the folders {shown}, and each takes the pictures of all "
            "of its own; if those are splits, expected SPLIT/CLASS/PICTURE, or --split_file=FILE; if they are the "
            "classes, CLASS/PICTURE"
        )
        self.assertEqual(log, f"WARNING:absl:{line}" if shown else "")
        self.assertEqual(splits.notes, (line,) if shown else ())

    def test_what_lies_beside_the_splits_is_mentioned(self):
        for name in ("train", "test"):
            self.write(name, "cat", "dog")
        shutil.copy(self.root / "train" / "cat" / "00.png", self.root / "loose.png")
        (self.root / "labels.txt").touch()
        (self.root / ".hidden").touch()
        splits, log = self.load()
        for line in (
            f"{self.root}: 1 picture in no class is left out: loose.png",
            f"{self.root}: left out 1 file that is no picture: labels.txt; and 1 hidden or of the system",
        ):
            self.assertIn(f"WARNING:absl:{line}", log)
            self.assertIn(line, splits.notes)

    def test_a_folder_without_classes_says_what_it_holds(self):
        self.root.mkdir()
        for names, message in (
            ((), "an empty folder; expected 'digits', a folder"),
            (("a.txt", "b.bin"), "a folder of no known format, with a.txt, b.bin; expected 'digits', a folder"),
            (("1.png", "2.jpg"), r"holds 2 pictures and no folders of classes \(1.png, 2.jpg\); expected a folder for"),
        ):
            for name in names:
                (self.root / name).touch()
            with self.assertRaisesRegex(DataError, f"^{self.root}: {message}"):
                load(self.root)

    @parameterized.parameters("train", "test")
    def test_a_name_that_is_not_utf_8(self, split):
        self.write("train", "cat", "dog")
        self.write("test", "cat", "dog")
        path = os.path.join(os.fsencode(self.root / split / "cat"), b"caf\xe9.png")
        shutil.copy(self.root / "train" / "cat" / "00.png", path)
        with self.assertRaisesRegex(DataError, r"/cat/caf\\udce9.png: a name that is not UTF-8; rename it$"):
            load(self.root)

    def test_rows_as_people_list_the_paths(self):
        self.write("train", "cat", "dog")
        self.write("test", "cat", "dog", count=5)
        (self.root / "train" / "cat" / "05.png").write_bytes(b"")
        splits = load(self.root, skip_bad_images=True)
        for parts, folder in (((splits.train, splits.validation), "train"), ((splits.test,), "test")):
            paths = sorted((self.root / folder).rglob("*.png"))
            for part in parts:
                self.assertEqual([paths[row] for row in part.listed], [self.root / file for file in part.files])
        self.assertNotEqual(splits.test.listed.tolist(), splits.test.rows.tolist())

    def test_folders_around_the_splits_and_between_them_and_the_classes(self):
        self.write("set/images/Train/pictures", "cat", "dog")
        self.write("set/images/test", "cat", "dog")
        splits, log = self.load()
        self.assertEqual((splits.class_names, len(splits.test)), (("cat", "dog"), 24))
        for inner, outer in (("set", ""), ("set/images", "set"), ("set/images/Train/pictures", "set/images/Train")):
            self.assertIn(f"{self.root / inner}: the only folder in {self.root / outer}, so the classes are", log)

    def test_one_class_in_folders_stays_a_class_of_the_test(self):
        self.write("train", "cat", "dog")
        self.write("test/cat", "monday", "tuesday")
        splits, _ = self.load()
        self.assertEqual(np.bincount(splits.test.labels).tolist(), [24])

    @parameterized.parameters(("train", "tram"), ("test", "car"), ("dev", "ops"), ("test_images", "unseen"))
    def test_classes_that_are_called_as_splits_are(self, *classes):
        self.write("", *classes)
        splits, log = self.load()
        self.assertEqual(splits.class_names, tuple(sorted(classes)))
        self.assertIn(f"{self.root}: {classes[0]} is read as a class, as", log)
        self.assertLen(splits.notes, 1)

    def test_a_test_without_classes(self):
        self.write("train", "cat", "dog")
        self.write("", "test")
        with self.assertRaisesRegex(DataError, "test: no pictures in class folders; expected .*; 12 lie in no class"):
            load(self.root)

    @parameterized.parameters("webp", "tif", "jfif", "pgm", "avif")
    def test_a_class_of_any_format_has_its_pictures(self, suffix):
        self.write("", "cat")
        self.write("", "dog", suffix=suffix)
        splits, _ = self.load()
        labels = np.concatenate([part.labels for part in (splits.train, splits.validation, splits.test)])
        self.assertEqual(np.bincount(labels).tolist(), [12, 12])

    def test_a_class_without_pictures(self):
        self.write("", "cat", "dog")
        (self.root / "eel").mkdir()
        with self.assertRaisesRegex(DataError, "^.*/eel: a class without pictures; remove the folder, or fill it$"):
            load(self.root)
        for name in ("a.eps", "b.mpg", "c.txt"):
            (self.root / "eel" / name).touch()
        with self.assertRaisesRegex(
            DataError, r"eel: .*, but 3 files that Pillow does not read \(a.eps, b.mpg, c.txt\)"
        ):
            load(self.root)

    def test_a_class_of_which_no_picture_decodes(self):
        self.write("", "cat", "dog")
        (self.root / "eel").mkdir()
        (self.root / "eel" / "a.png").write_text("no picture")
        with self.assertRaisesRegex(DataError, "no picture of the class eel decodes; expected one at least"):
            load(self.root, skip_bad_images=True)

    def test_what_systems_leave_is_neither_a_class_nor_a_picture(self):
        self.write("", "cat", "dog", "__MACOSX", "@eaDir", ".ipynb_checkpoints")
        self.write("cat", "@eaDir", "__MACOSX", ".ipynb_checkpoints")
        for name in ("Thumbs.db", ".DS_Store", "desktop.ini", "._a.png", "Icon\r"):
            (self.root / name).touch()
            (self.root / "cat" / name).touch()
        splits, log = self.load()
        self.assertEqual(splits.class_names, ("cat", "dog"))
        self.assertEqual(sum(len(part) for part in (splits.train, splits.validation, splits.test)), 24)
        self.assertIn("left out 10 hidden or of the system", log)
        self.assertNotIn("WARNING", log)

    def test_pictures_beside_the_classes_are_mentioned(self):
        self.write("", "cat", "dog")
        for number in range(7):
            shutil.copy(self.root / "cat" / "00.png", self.root / f"{number}.png")
        splits, log = self.load()
        line = "7 pictures in no class are left out: 0.png, 1.png, 2.png, 3.png, 4.png and 2 more"
        self.assertIn(f"WARNING:absl:{self.root}: {line}", log)
        self.assertRegex(splits.notes[0], line)

    def test_two_spellings_of_a_name_are_one_class(self):
        composed, decomposed = "caf\u00e9", "cafe\u0301"
        self.write("train", "bar", composed)
        self.write("train", decomposed, count=5)
        self.write("test", "bar", decomposed)
        splits, log = self.load(validation_split=4)
        # As it is spelled in training, the first in the order of the characters.
        self.assertEqual(splits.class_names, ("bar", decomposed))
        self.assertEqual(np.bincount(splits.test.labels).tolist(), [12, 12])
        self.assertEqual(len(splits.train) + len(splits.validation), 29)
        self.assertIn("spelled in two ways", log)
        # Of other data with the other spelling it is the same class.
        random = np.random.default_rng(0)
        W, b = random.normal(size=(6, 2)), np.zeros(2)
        model = artifact.TrainedModel(W, b, ("bar", composed), (2, 3), 255.0, {})
        found = scores.predict(model, splits, splits.test)
        np.testing.assert_array_equal(found.labels, splits.test.labels)

    def test_names_that_may_be_mistakes_are_one_warning(self):
        self.write("", "Cat", "cat", "dog ", "eel")
        splits, log = self.load()
        self.assertLen(splits.class_names, 4)
        self.assertRegex(log, r"^WARNING:.*: names of classes differ in .*, or end in space: 'Cat' and 'cat', 'dog '$")
        self.assertLen(splits.notes, 1)

    def test_names_of_files_and_classes_with_any_printable_or_format_character(self):
        self.write("", "cat", "\U0001f469\u200d\U0001f4bb")
        names = ("Screenshot 2024-01-01 at 9.41\u202fAM.png", "a\u200db.png", "a\u00a0b.png", "\u05d0\u200f.png")
        for name in names:
            shutil.copy(self.root / "cat" / "00.png", self.root / "cat" / name)
        splits, _ = self.load()
        self.assertEqual(sum(len(part) for part in (splits.train, splits.validation, splits.test)), 28)
        for character in "\n\r\t\x1b\x85\u2028\u2029":
            path = self.root / "cat" / f"a{character}b.png"
            path.touch()
            with self.assertRaisesRegex(DataError, "a name with a line break or another control character; rename it"):
                load(self.root)
            path.unlink()

    def test_what_is_no_regular_file_is_left_out(self):
        self.write("", "cat", "dog")
        os.mkfifo(self.root / "cat" / "fifo.png")
        os.mkfifo(self.root / "pipe")
        splits, log = self.load()
        self.assertEqual(sum(len(part) for part in (splits.train, splits.validation, splits.test)), 24)
        self.assertIn(f"{self.root}: left out 2 files that are no pictures: pipe, cat/fifo.png", log)


@unittest.skipUnless(os.environ.get("TFPIPE_MNIST_DIR"), "TFPIPE_MNIST_DIR names no folder with MNIST's IDX files")
class MnistAsPicturesTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters((None,), ((48, 24),))
    @pytest.mark.exhaustive
    def test_trains_to_the_same_bits_as_the_rows_of_the_idx_files(self, image_size):
        root = pathlib.Path(self.create_tempdir().full_path)
        mnist = load(os.environ["TFPIPE_MNIST_DIR"], validation_split=1, split_order="end")
        sizes = {"train": (mnist.train, 3000), "test": (mnist.test, 1000)}
        rows = {}
        for split, (examples, count) in sizes.items():
            for row in range(count):
                path = root / "pictures" / split / str(examples.labels[row]) / f"{row:05}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(examples.images[row]).save(path)
            # The order of the pictures is the folder's own: the rows are found by their content.
            rows[split] = {examples.images[row].tobytes(): row for row in range(count)}
            self.assertLen(rows[split], count)
        plain = load(root / "pictures", validation_split=500, split_order="end")
        in_order = {
            "train": [rows["train"][i.tobytes()] for part in (plain.train, plain.validation) for i in part.images],
            "test": [rows["test"][image.tobytes()] for image in plain.test.images],
        }
        (root / "idx").mkdir()
        for split, prefix in (("train", "train"), ("test", "t10k")):
            examples = sizes[split][0]
            images = examples.images[in_order[split]]
            if image_size:
                widened = [Image.fromarray(i).resize((image_size[1], 28), Image.Resampling.BILINEAR) for i in images]
                enlarged = [i.resize(image_size[::-1], Image.Resampling.BILINEAR) for i in widened]
                images = np.stack([np.asarray(i) for i in enlarged])
            (root / "idx" / f"{prefix}-images-idx3-ubyte").write_bytes(made.idx_bytes(images))
            labels = made.idx_bytes(examples.labels[in_order[split]])
            (root / "idx" / f"{prefix}-labels-idx1-ubyte").write_bytes(labels)

        config = TrainConfig(batch_size=100, epochs=10, select="error", device="cpu")
        results = [
            train(config, splits)
            for splits in (
                load(root / "pictures", validation_split=500, image_size=image_size),
                load(root / "idx", validation_split=500),
            )
        ]
        self.assertEqual(*[result.model.W.numpy().tobytes() for result in results])
        self.assertEqual(*[result.report["grid"] for result in results])
        self.assertEqual(results[0].report["image_shape"], list(image_size or (28, 28)))
        self.assertLess(results[0].report["test_error"], 0.2)


if __name__ == "__main__":
    tf.test.main()
