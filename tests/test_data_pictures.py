import io
import pathlib
import warnings

import numpy as np
from absl.testing import absltest, parameterized
from PIL import Image

from tests import made
from tfpipe import load
from tfpipe.config import AS_STORED, Reading
from tfpipe.data import pictures
from tfpipe.exceptions import DataError

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
        self.assertEqual(splits.reading, Reading())
        with self.assertRaisesRegex(DataError, "pictures are 5 x 7; image_size="):
            load(self.folder / "data", orientation="stored")

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
        expected = np.asarray(Image.fromarray(self.upright).resize((9, 5), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(pictures.decoded(path, (5, 9), "L", Reading()), expected)


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
