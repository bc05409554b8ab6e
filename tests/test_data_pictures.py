import io
import pathlib
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pillow_heif
from absl.testing import absltest, parameterized
from PIL import Image

from tests import made
from tests.photos import photo
from tfpipe import load
from tfpipe.config import AS_STORED, Reading
from tfpipe.data import pictures, sizes
from tfpipe.exceptions import DataError
from tfpipe.model import artifact
from tfpipe.model.artifact import TrainedModel

ORIENTATION = 0x0112
# How a camera stores what it then marks by each orientation, worked out from the table in the EXIF standard.
AS_TURNED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.T,
    6: lambda upright: np.rot90(upright),
    7: lambda upright: upright[::-1, ::-1].T,
    8: lambda upright: np.rot90(upright, -1),
}


def exif(orientation, endian="<"):
    data = Image.Exif()
    data.endian = endian
    data[ORIENTATION] = orientation
    data[0x010F] = "a maker"
    return data.tobytes()


def saved(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, **options)
    return path


class OrientationTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        # Flat squares of 8 x 8, which JPEG keeps.
        self.upright = np.kron(np.random.default_rng(0).integers(0, 256, (2, 3)), np.ones((8, 8))).astype(np.uint8)

    @parameterized.product(
        orientation=list(AS_TURNED),
        form=[("png", {}), ("tif", {}), ("webp", {"lossless": True}), ("jpg", {"quality": 100}), ("jfif", {})],
    )
    def test_upright_from_each_format(self, orientation, form):
        suffix, options = form
        path = saved(
            self.folder / f"a.{suffix}",
            AS_TURNED[orientation](self.upright),
            exif=exif(orientation, "<>"[orientation % 2]),
            **options,
        )
        found = pictures.decoded(path, (16, 24), "L", Reading())
        lossy = 3 if suffix.startswith("j") else 0
        np.testing.assert_allclose(found.astype(int), self.upright, rtol=0, atol=lossy)
        if suffix != "tif":  # Which Pillow turns itself.
            stored = AS_TURNED[orientation](self.upright)
            found = pictures.decoded(path, stored.shape, "L", AS_STORED)
            np.testing.assert_allclose(found.astype(int), stored, rtol=0, atol=lossy)

    def test_a_folder_of_turned_pictures_has_one_size_and_the_upright_pixels(self):
        images, labels = made.images(24, (5, 7))
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            orientation = number % 8 + 1
            path = self.folder / "data" / "cde"[label] / f"{number:02}.png"
            saved(path, AS_TURNED[orientation](image), exif=exif(orientation))
        splits = load(self.folder / "data")
        found = [image.tobytes() for part in (splits.train, splits.validation, splits.test) for image in part.images]
        self.assertEqual(sorted(found), sorted(image.tobytes() for image in images))
        self.assertEqual(splits.reading, Reading(gray_max=None))
        with self.assertRaisesRegex(DataError, "pictures are 5 x 7; image_size="):
            load(self.folder / "data", orientation="stored", image_size="native")

    def test_exif_data_behind_the_pixels_of_a_png(self):
        path = saved(self.folder / "a.png", AS_TURNED[6](self.upright), exif=exif(6))
        data = path.read_bytes()
        begin = data.index(b"eXIf") - 4
        end = begin + 12 + int.from_bytes(data[begin : begin + 4], "big")
        path.write_bytes(data[:begin] + data[end:-12] + data[begin:end] + data[-12:])
        with open(path, "rb") as file, pictures.opened(file, path.name) as picture:
            self.assertEqual(pictures.upright_size(picture, Reading()), (16, 24))
            self.assertEqual(pictures.upright_size(picture, AS_STORED), (24, 16))
        np.testing.assert_array_equal(pictures.decoded(path, (16, 24), "L", Reading()), self.upright)

    @parameterized.parameters(b"", b"II*\0", b"II*\0\x08\0\0\0\xff\xff", b"rubbish", exif(0)[6:], exif(9)[6:])
    def test_damaged_exif_data_turns_nothing(self, data):
        path = saved(self.folder / "a.jpg", self.upright, exif=b"Exif\0\0" + data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, about such data.
            found = pictures.decoded(path, (16, 24), "L", Reading())
        np.testing.assert_allclose(found.astype(int), self.upright, rtol=0, atol=3)

    def test_a_turned_picture_is_resized_to_the_size_it_has_upright(self):
        path = saved(self.folder / "a.png", AS_TURNED[8](self.upright), exif=exif(8))
        expected = resized(self.upright, (5, 9))
        np.testing.assert_array_equal(pictures.decoded(path, (5, 9), "L", Reading()), expected)


def resized(pixels, size, extent=None):
    """By hand: a triangle over one pixel of the coarser picture to each side, across and then down, rounded twice.

    `extent` is the size of what is resized, from the top and the left on.
    """
    for side in (1, 0):
        n_in, n_out = pixels.shape[side], size[side]
        step = (extent or pixels.shape)[side] / n_out
        centres = (np.arange(n_out) + 0.5) * step
        weights = 1 - np.abs(np.arange(n_in) + 0.5 - centres[:, np.newaxis]) / max(1, step)
        weights = weights.clip(0) / weights.clip(0).sum(axis=1, keepdims=True)
        whole = np.floor(weights * 2**22 + 0.5).astype(np.int64)
        pixels = np.moveaxis((np.moveaxis(pixels.astype(np.int64), side, -1) @ whole.T + 2**21) >> 22, -1, side)
    return pixels


class SizeTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        self.random = np.random.default_rng(0)

    @parameterized.parameters(
        ((12, 12), (3, 4), (9, 12)),
        ((12, 10), (3, 4), (8, 10)),  # 7.5 rounded up.
        ((5, 12), (3, 4), (5, 7)),  # 6.67.
        ((5, 12), (7, 7), (5, 5)),
        ((4, 6), (1, 1000), (1, 6)),
        ((300, 400), (300, 400), (300, 400)),
    )
    def test_the_largest_size_of_a_shape(self, outer, shape, expected):
        self.assertEqual(sizes.inscribed(outer, shape), expected)
        self.assertEqual(sizes.inscribed(outer[::-1], shape[::-1]), expected[::-1])

    @parameterized.product(
        sides=[((12, 7), (5, 9)), ((90, 11), (6, 10)), ((7, 90), (30, 4)), ((3, 4), (9, 11)), ((8, 8), (8, 5))],
        colours=[(), (3,)],
    )
    def test_pictures_are_resized_by_triangles(self, sides, colours):
        before, after = sides
        pixels = self.random.integers(0, 256, (*before, *colours)).astype(np.uint8)
        path = saved(self.folder / "a.png", pixels)
        found = pictures.decoded(path, after, "RGB" if colours else "L", Reading())
        np.testing.assert_array_equal(found, resized(pixels, after))

    def test_a_picture_of_another_shape_by_hand(self):
        pixels = np.repeat(np.arange(10, 70, 10, np.uint8)[np.newaxis], 2, axis=0)  # 2 x 6.
        path = saved(self.folder / "a.png", pixels)
        find = lambda size, fit, **reading: pictures.decoded(path, size, "L", Reading(fit=fit, **reading))  # noqa: E731
        # A triangle of two pixels to each side: 120 / 7 of weights 3, 3, 1; 280 / 8 of 1, 3, 3, 1; 370 / 7 of 1, 3, 3.
        np.testing.assert_array_equal(find((2, 3), "stretch"), [[17, 35, 53]] * 2)
        np.testing.assert_array_equal(find((2, 2), "crop"), [[30, 40]] * 2)
        np.testing.assert_array_equal(find((2, 3), "crop"), [[20, 30, 40]] * 2)  # Of two that are in the middle.
        np.testing.assert_array_equal(find((1, 3), "crop"), [[17, 35, 53]])
        ground = [[255] * 6] * 2
        for background in ("white", "none"):
            found = find((6, 6), "pad", background=background)
            np.testing.assert_array_equal(found, [*ground, *pixels.tolist(), *ground])
        np.testing.assert_array_equal(find((2, 9), "pad", background="black"), [[0, 10, 20, 30, 40, 50, 60, 0, 0]] * 2)
        np.testing.assert_array_equal(find((1, 6), "pad"), [[255, 17, 35, 53, 255, 255]])

    def test_a_picture_is_turned_before_it_is_cropped(self):
        upright = self.random.integers(0, 256, (9, 4)).astype(np.uint8)
        for orientation, as_turned in AS_TURNED.items():
            path = saved(self.folder / "a.png", as_turned(upright), exif=exif(orientation))
            found = pictures.decoded(path, (3, 4), "L", Reading(fit="crop"))
            np.testing.assert_array_equal(found, upright[3:6])


class ReducedTest(parameterized.TestCase):
    """JPEG that is decoded smaller than it is."""

    def setUp(self):
        super().setUp()
        self.path = pathlib.Path(self.create_tempdir().full_path) / "a.jpg"

    @parameterized.parameters(
        ((256, 256), (16, 16), "stretch", 8),
        ((255, 256), (16, 16), "stretch", 4),
        ((256, 1000), (16, 16), "stretch", 8),
        ((256, 1000), (16, 32), "stretch", 8),
        ((64, 64), (16, 16), "stretch", 2),
        ((63, 64), (16, 16), "stretch", 1),
        ((10, 10), (16, 16), "stretch", 1),
        ((256, 1000), (16, 32), "crop", 8),
        ((256, 1000), (32, 16), "crop", 4),  # 256 x 128 of it.
        ((256, 1000), (32, 32), "stretch", 4),
        ((256, 1000), (32, 32), "pad", 8),  # To 8 x 32.
        ((4000, 4000), (3, 5), "stretch", 8),
    )
    def test_by_how_much(self, size, wanted, fit, expected):
        self.assertEqual(sizes.reduction(size, wanted, fit), expected)
        self.assertEqual(sizes.reduction(size[::-1], wanted[::-1], fit), expected)

    @parameterized.parameters("RGB", "L", "CMYK")
    def test_as_libjpeg_scales_and_then_by_triangles_over_what_is_the_picture(self, mode):
        photo(0, 130, 206).convert(mode).save(self.path)
        with Image.open(self.path) as by_hand:
            by_hand.draft(None, (206 // 4, 130 // 4))
            self.assertEqual((by_hand.mode, by_hand.size), (mode, (52, 33)))  # Of which 51.5 x 32.5 are the picture.
            expected = resized(np.asarray(by_hand.convert("RGB")), (16, 12), (130 / 4, 206 / 4))
        np.testing.assert_array_equal(pictures.decoded(self.path, (16, 12), "RGB", Reading()), expected)

    @parameterized.product(orientation=list(AS_TURNED), fit=["stretch", "crop", "pad"])
    def test_turned_it_is_the_same(self, orientation, fit):
        stored = photo(0, 130, 206)
        stored.save(self.path)
        reading = Reading(fit=fit, background="black")
        expected = pictures.decoded(self.path, (16, 12), "L", reading).astype(int)
        stored.save(self.path, exif=exif(orientation))
        wanted = (12, 16) if orientation > 4 else (16, 12)
        found = AS_TURNED[orientation](pictures.decoded(self.path, wanted, "L", reading))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1)  # By which side is resized first.
        full = pictures.decoded(self.path, wanted, "L", reading._replace(decoding="full"))
        self.assertTrue((AS_TURNED[orientation](full) != found).any())

    @parameterized.parameters(  # As docs/data.md has them.
        ((96, 128), 4, 0.74), ((60, 80), 8, 1.35), ((40, 53), 4, 0.45), ((32, 32), 3, 0.26)
    )
    def test_how_far_it_is_from_full_decoding(self, size, largest, mean):
        differences = []
        for number in range(6):
            photo(number, 480, 640).save(self.path, quality=85)
            reduced, full = (
                pictures.decoded(self.path, size, "RGB", Reading(decoding=decoding)).astype(int)
                for decoding in ("reduced", "full")
            )
            differences.append(np.abs(reduced - full))
        self.assertBetween(np.max(differences), largest - 1, largest)
        self.assertBetween(np.mean(differences, axis=(1, 2, 3)).max(), mean - 0.05, mean + 0.005)

    def test_what_is_not_much_larger_or_no_jpeg_is_decoded_as_it_is(self):
        picture = photo(0, 63, 90)
        for path, size in ((self.path, (16, 16)), (self.path.with_suffix(".png"), (4, 4))):
            picture.save(path)
            np.testing.assert_array_equal(
                pictures.decoded(path, size, "RGB", Reading()),
                pictures.decoded(path, size, "RGB", Reading(decoding="full")),
            )

    def test_the_first_of_several_pictures(self):
        pair = [photo(number, 200, 300) for number in range(2)]
        path = self.path.with_suffix(".mpo")
        pair[0].save(path, save_all=True, append_images=pair[1:])
        pair[0].save(self.path)
        found = [pictures.decoded(name, (20, 30), "RGB", Reading()) for name in (path, self.path)]
        np.testing.assert_array_equal(*found)


class TransparencyTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    def save(self, kind):
        """A black shape on transparent ground, and where the shape is: all pixels have the value 0."""
        shape = np.random.default_rng(0).random((6, 5)) < 0.5
        path, options = self.folder / f"{kind}.png", {}
        if kind in ("RGBA", "LA"):
            colours = [np.zeros((6, 5), np.uint8)] * (len(kind) - 1)
            picture = Image.merge(kind, [*map(Image.fromarray, colours), Image.fromarray(shape.astype(np.uint8) * 255)])
        else:
            # 1 stands for the ground, in a palette whose colours are black both, or as the colour itself.
            values = (~shape).astype(np.uint8)
            picture = Image.fromarray(values)
            options["transparency"] = 1
            if kind == "P":
                picture = picture.convert("P")
                picture.putpalette([0, 0, 0] * 2)
            elif kind == "RGB":
                picture, options["transparency"] = picture.convert("RGB"), (1, 1, 1)
        picture.save(path, **options)
        return path, shape

    @parameterized.product(kind=["RGBA", "LA", "P", "RGB", "L"], mode=["L", "RGB"])
    def test_a_black_shape_stands_out_from_white(self, kind, mode):
        path, shape = self.save(kind)
        find = lambda background: pictures.decoded(path, (6, 5), mode, Reading(background=background))  # noqa: E731
        expected = np.where(shape, 0, 255)
        np.testing.assert_array_equal(
            find("white"), expected if mode == "L" else expected[..., np.newaxis].repeat(3, 2)
        )
        self.assertFalse(find("black").any())
        self.assertLessEqual(find("none").max(), 1)

    def test_half_transparent_pixels_by_hand(self):
        path = saved(
            self.folder / "a.png", np.array([[[10, 20, 30, 0], [10, 20, 30, 255], [10, 200, 30, 51]]], np.uint8)
        )
        white = [[255, 255, 255], [10, 20, 30], [206, 244, 210]]  # A fifth of the colour, and 4 * 255 / 5 = 204.
        black = [[0, 0, 0], [10, 20, 30], [2, 40, 6]]
        for background, expected in (("white", white), ("black", black)):
            found = pictures.decoded(path, (1, 3), "RGB", Reading(background=background))
            np.testing.assert_array_equal(found[0], expected)


def with_transparency(values, transparent):
    """A gray PNG of 16 bits in which one value is transparent."""
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "png")
    data = buffer.getvalue()
    chunk = b"tRNS" + transparent.to_bytes(2, "big")
    chunk = (2).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    place = data.index(b"IDAT") - 4
    return data[:place] + chunk + data[place:]


def write_signed_tiff(path, pixels):
    """A TIFF of signed 16 bits, which Pillow reads and does not write."""
    saved(path, pixels.astype(np.uint16), tiffinfo={339: 2})


class DeepGrayTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.root = pathlib.Path(self.create_tempdir().full_path) / "data"
        self.values = np.random.default_rng(0).integers(0, 3500, (24, 4, 5)).astype(np.uint16)
        self.values[0, 0, 0] = 3499

    def save(self, suffix="png", folder=""):
        for number, values in enumerate(self.values):
            saved(self.root / folder / "cd"[number % 2] / f"{number:02}.{suffix}", values)

    def images(self, **options):
        splits = load(self.root, **options)
        return splits, sorted(i.tobytes() for p in (splits.train, splits.validation, splits.test) for i in p.images)

    @parameterized.parameters("png", "tif")
    def test_12_bits_keep_their_range(self, suffix):
        self.save(suffix)
        with self.assertLogs("absl", "INFO") as log:
            splits, found = self.images()
        line = "4095 is white, for the largest value in training is 3499; --gray_max says otherwise"
        self.assertRegex("\n".join(log.output), line)
        self.assertRegex("\n".join(splits.notes), line)
        self.assertEqual(splits.reading, Reading(gray_max=4095))
        self.assertEqual(found, sorted((values // 16).astype(np.uint8).tobytes() for values in self.values))

    @parameterized.parameters((65535, lambda v: v >> 8), (255, lambda v: np.minimum(v, 255)), (999, None))
    def test_the_range_that_is_given(self, gray_max, by_hand):
        self.save()
        by_hand = by_hand or (lambda v: np.minimum(v * np.int64(256) // 1000, 255))
        splits, found = self.images(gray_max=gray_max)
        self.assertEqual(splits.reading, Reading(gray_max=gray_max))
        self.assertEqual(found, sorted(by_hand(values).astype(np.uint8).tobytes() for values in self.values))

    def test_the_training_pictures_tell_it(self):
        self.save(folder="train")
        for name in "cd":
            saved(self.root / "test" / name / "bright.png", np.full((4, 5), 65535, np.uint16))
        splits = load(self.root)
        self.assertEqual(splits.reading.gray_max, 4095)
        self.assertEqual(splits.test.images.min(), 255)

    def test_where_no_training_picture_tells_it_others_are_refused(self):
        for number, values in enumerate(self.values):
            saved(self.root / "train" / "cd"[number % 2] / f"{number:02}.png", (values // 16).astype(np.uint8))
        self.assertIsNone(load(self.root).reading.gray_max)
        self.assertEqual(load(self.root, gray_max=4095).reading.gray_max, 4095)
        path = saved(self.root / "test" / "c" / "deep.png", self.values[0])
        with self.assertRaisesRegex(
            DataError, f"^{path}: is gray of more than 8 bits .*; --gray_max=VALUE tells it in training"
        ):
            load(self.root)
        splits = load(self.root, gray_max=4095)
        np.testing.assert_array_equal(splits.test.images[0], self.values[0] // 16)

    def test_training_pictures_that_are_black(self):
        self.values[:] = 0
        self.save()
        splits, _ = self.images()
        self.assertEqual((splits.reading.gray_max, splits.train.images.max()), (255, 0))

    def test_pictures_of_other_splits_beyond_what_training_tells_are_counted(self):
        self.save(folder="train")
        for name, value in (("a", 4095), ("b", 4096), ("c", 65535)):
            saved(self.root / "test" / "c" / f"{name}.png", np.full((4, 5), value, np.uint16))
        line = (
            f"{self.root}: 2 pictures have gray values above 4095, up to 65535, which become white, for no training "
            "picture has such: test/c/b.png, test/c/c.png; --gray_max says otherwise"
        )
        with self.assertLogs("absl", "WARNING") as log:
            splits = load(self.root)
        self.assertEqual(log.output, [f"WARNING:absl:{line}"])
        self.assertIn(line, splits.notes)
        with self.assertNoLogs("absl", "WARNING"):
            load(self.root, gray_max=65535)

    def test_a_tiff_in_which_white_is_0_is_inverted(self):
        for number, values in enumerate(self.values):
            path = self.root / "cd"[number % 2] / f"{number:02}.tif"
            saved(path, 4095 - values if number % 2 else 65535 - values, tiffinfo={262: 0})
            if number % 2:
                saved(path, values)
        splits, found = self.images()
        self.assertEqual(splits.reading.gray_max, 4095)
        self.assertEqual(found, sorted((values // 16).astype(np.uint8).tobytes() for values in self.values))

    @parameterized.parameters(("white", 255), ("black", 0), ("none", 77 // 16))
    def test_the_transparent_value_of_a_png_is_composited(self, background, expected):
        for number, values in enumerate(self.values):
            values[0, :2] = 77
            values[1, 0] = 76
            path = self.root / "cd"[number % 2] / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(with_transparency(values, 77))
        by_hand = (self.values // 16).astype(np.uint8)
        by_hand[self.values == 77] = expected
        self.assertEqual(self.images(background=background)[1], sorted(map(bytes, by_hand)))

    def test_the_transparent_value_tells_no_range(self):
        for number, values in enumerate(self.values):
            values[0, :2] = 65535
            path = self.root / "cd"[number % 2] / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(with_transparency(values, 65535))
        self.assertEqual(load(self.root).reading.gray_max, 4095)
        self.assertEqual(load(self.root, background="none").reading.gray_max, 65535)

    @parameterized.parameters("<i4", "i2")
    def test_gray_below_0_is_refused(self, dtype):
        self.save()
        path = self.root / "c" / "height.tif"
        pixels = np.full((4, 5), -7, dtype)
        if dtype == "i2":
            write_signed_tiff(path, pixels)
        else:
            saved(path, pixels)
        for options in ({}, {"gray_max": 4095}):
            with self.assertRaisesRegex(
                DataError,
                f"^{path}: has gray values below 0, down to -7; expected values from 0 on, or arrays in an .npy; skip_",
            ):
                load(self.root, **options)
        self.assertEqual(sum(map(len, [(s := load(self.root, skip_bad_images=True)).train, s.validation, s.test])), 24)

    def test_floating_point_pixels_are_refused(self):
        self.save()
        path = saved(self.root / "c" / "depth.tif", np.ones((4, 5), np.float32))
        with self.assertRaisesRegex(DataError, f"^{path}: .*floating-point pixels, whose range is not known"):
            load(self.root)


class FormatsTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        self.pixels = np.random.default_rng(0).integers(0, 256, (4, 5)).astype(np.uint8)

    @parameterized.parameters(
        ("a.png", {}), ("a.PNG", {}), ("a.apng", {"format": "png"}), ("a.bmp", {}), ("a.dib", {}), ("a.gif", {}),
        ("a.webp", {"lossless": True}), ("a.tif", {}), ("a.tiff", {"compression": "tiff_lzw"}), ("a.pgm", {}),
        ("a.ppm", {}), ("a.pnm", {}), ("a.tga", {}), ("a.pcx", {}), ("a.jp2", {}), ("a.sgi", {}),
    )  # fmt: skip
    def test_what_keeps_every_pixel(self, name, options):
        path = saved(self.folder / name, self.pixels, **options)
        self.assertTrue(pictures.is_picture(name))
        np.testing.assert_array_equal(pictures.decoded(path, (4, 5), "L", Reading()), self.pixels)

    @parameterized.parameters("a.jpg", "a.jpeg", "a.jpe", "a.jfif", "a.avif")
    def test_what_does_not(self, name):
        path = saved(self.folder / name, np.full((16, 16), 77, np.uint8), quality=95)
        self.assertTrue(pictures.is_picture(name))
        found = pictures.decoded(path, (16, 16), "L", Reading())
        np.testing.assert_allclose(found.astype(int), 77, rtol=0, atol=2)

    @parameterized.parameters("a.heic", "a.HEIF", "a.hif", "a.jpg")
    def test_pictures_of_phones(self, name):
        pixels = np.zeros((32, 64), np.uint8)
        pixels[:, 32:] = 200
        buffer = io.BytesIO()
        pillow_heif.from_pillow(Image.fromarray(pixels)).save(buffer, quality=95, exif=exif(6))
        path = self.folder / name
        path.write_bytes(buffer.getvalue())
        self.assertTrue(pictures.is_picture(name))
        for reading in (Reading(), Reading(orientation="stored")):  # The library turns it in any case.
            with open(path, "rb") as file:
                picture = pictures.opened(file, name)
                self.assertEqual(
                    (picture.format, pictures.orientation(picture), pictures.upright_size(picture, reading)),
                    ("HEIF", 1, (64, 32)),
                )
            found = pictures.decoded(path, (64, 32), "L", reading)
            np.testing.assert_allclose(found.astype(int), np.rot90(pixels, -1).astype(int), rtol=0, atol=6)

    def test_without_the_package_a_line_says_which_reads_them(self):
        saved(self.folder / "cat" / "a.png", self.pixels)
        path = self.folder / "dog" / "a.heic"
        path.parent.mkdir()
        path.write_bytes(b"a picture")
        model = self.folder / "model.npz"
        artifact.save(model, TrainedModel(np.zeros((20, 2)), np.zeros(2), ("cat", "dog"), (4, 5), 255.0, {}))
        program = "import sys; sys.modules['pillow_heif'] = None; from tfpipe.cli.main import main; main()"
        for command, line in (
            (["describe", f"--dataset={self.folder}"], "1 file that Pillow does not read (a.heic)"),
            (["predict", f"--model={model}", str(path)], "is no picture that Pillow reads"),
        ):
            done = subprocess.run([sys.executable, "-c", program, *command], capture_output=True, text=True)
            self.assertIn(f"{line}; pip install 'tfpipe[heif]' to read HEIF", done.stdout + done.stderr)

    @parameterized.parameters("a.txt", "a", "a.pdf", "a.eps", "a.ps", "a.mpg", "a.h5", "a.wmf", "a.npy", "png")
    def test_what_is_no_picture(self, name):
        self.assertFalse(pictures.is_picture(name))

    def test_the_content_tells_the_format(self):
        buffer = io.BytesIO()
        Image.fromarray(self.pixels).save(buffer, "tiff")
        path = self.folder / "a.png"
        path.write_bytes(buffer.getvalue())
        np.testing.assert_array_equal(pictures.decoded(path, (4, 5), "L", Reading()), self.pixels)


if __name__ == "__main__":
    absltest.main()
