import errno
import io
import json
import os
import pathlib
import subprocess
import sys
import warnings
import zlib
from unittest import mock

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from absl.testing import parameterized
from PIL import Image, PngImagePlugin

from tests.photos import blurred_noise
from tests.test_inference import model
from tfpipe import SoftmaxRegression
from tfpipe.config import AS_STORED, Column, Reading
from tfpipe.data import pictures
from tfpipe.exceptions import DataError, OptionError
from tfpipe.model import artifact, encoded, exif, export

REPOSITORY = pathlib.Path(__file__).parent.parent


def chunk(name, data):
    return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")


def png(random, height, width, bits, kind, transparent):
    """A PNG file of noise, of any kind that its standard has; Pillow writes few of them."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    rows = [b"\0" + random.bytes((width * bits * channels + 7) // 8) for _ in range(height)]
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([bits, kind, 0, 0, 0])
    palette = chunk(b"PLTE", random.bytes(3 << bits)) if kind == 3 else b""
    if transparent:
        palette += chunk(b"tRNS", {0: rows[0][1:3] if bits == 16 else b"\0\1", 2: b"\0\1\0\2\0\3", 3: b"\0\x64"}[kind])
    parts = [chunk(b"IHDR", header), palette, chunk(b"IDAT", zlib.compress(b"".join(rows))), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def contents(path):
    return {p: p.read_bytes() for p in (path, *path.rglob("*")) if p.is_file()}


class ExportTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    def check_form(self, format, shape, white, dtype):
        trained = model(shape, white=white, dtype=dtype)
        path = self.folder / f"model.{format}"
        export.write(trained, path, format)
        images = np.random.default_rng(0).integers(0, 256, (7, *shape)).astype(np.uint8)
        images = images if white == 255 else images.astype(np.float32) / 255
        found, numbers = getattr(self, f"ask_{format}")(path, images)
        expected = trained.probabilities(images)
        self.assertAllClose(found, expected, rtol=0, atol=1e-7)
        self.assertAllEqual(numbers, expected.argmax(axis=1))

    @parameterized.product(
        format=["saved_model", "keras", "onnx"],
        kind=[((4, 6), 255.0, np.float32), ((4, 6, 3), 1.0, np.float64), ((24,), 255.0, np.float64)],
    )
    def test_each_form_gives_the_same_probabilities(self, format, kind):
        self.check_form(format, *kind)

    @parameterized.product(
        format=["saved_model", "keras", "onnx"],
        shape=[(4, 6), (4, 6, 3), (24,)],
        white=[255.0, 1.0],
        dtype=[np.float32, np.float64],
    )
    @pytest.mark.exhaustive
    def test_each_form_gives_the_same_probabilities_for_all_kinds_of_models(self, format, shape, white, dtype):
        self.check_form(format, shape, white, dtype)

    def ask_saved_model(self, path, images):
        answers = tf.saved_model.load(str(path)).signatures["serving_default"](images=tf.constant(images))
        names = [name.decode() for name in answers["classes"].numpy()]
        self.assertEqual(names, [("cat", "dog", "eel")[number] for number in answers["numbers"]])
        return answers["probabilities"], answers["numbers"]

    def ask_keras(self, path, images):
        loaded = keras.models.load_model(path)
        kinds = {type(layer).__module__.split(".")[0] for layer in loaded.layers}
        self.assertEqual(kinds, {"keras"})
        found = loaded.predict(images, verbose=0)
        return found, found.argmax(axis=1)

    def ask_onnx(self, path, images):
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.assertEqual(json.loads(session.get_modelmeta().custom_metadata_map["class_names"]), ["cat", "dog", "eel"])
        self.assertEqual({opset.domain for opset in onnx.load(path).opset_import}, {""})
        return session.run(["probabilities", "numbers"], {"images": images})

    def test_onnx_has_the_columns_of_a_table(self):
        columns = (Column("size"), Column("kind", "a"), Column("kind", "b"))
        export.write(model((3,))._replace(columns=columns), self.folder / "a.onnx", "onnx")
        metadata = {entry.key: entry.value for entry in onnx.load(self.folder / "a.onnx").metadata_props}
        self.assertEqual(json.loads(metadata["columns"]), [["size", None], ["kind", "a"], ["kind", "b"]])

    @parameterized.parameters(((9, 7),), ((9, 7, 3),))
    def test_the_bytes_of_pictures(self, shape):
        trained = model(shape)
        export.write(trained, self.folder / "saved", "saved_model")
        encoded = tf.saved_model.load(str(self.folder / "saved")).signatures["encoded"]
        random = np.random.default_rng(0)
        data, pixels = [], []
        mode = {2: "L", 3: "RGB"}[len(shape)]
        for kind, form in (("L", "png"), ("RGB", "png"), ("P", "gif"), ("P", "png"), ("RGBA", "png"), ("LA", "png")):
            picture = Image.fromarray(random.integers(0, 256, (9, 7, 3)).astype(np.uint8)).convert(kind)
            buffer = io.BytesIO()
            picture.save(buffer, form)
            data.append(buffer.getvalue())
            pixels.append(pictures.fitted(Image.open(buffer), (9, 7), mode, Reading()))
        found = encoded(pictures=tf.constant(data))["probabilities"]
        self.assertAllClose(found, trained.probabilities(np.stack(pixels)), rtol=0, atol=1e-7)

    @parameterized.parameters((Reading(),), (Reading(background="black", gray_max=4095),), (AS_STORED,))
    def test_the_bytes_of_pictures_that_are_turned_transparent_or_deep(self, reading):
        trained = model((8, 8, 3))._replace(reading=reading)
        export.write(trained, self.folder / "saved", "saved_model")
        encoded = tf.saved_model.load(str(self.folder / "saved")).signatures["encoded"]
        random, data, expected = np.random.default_rng(0), [], []
        for number, kind in enumerate(("RGBA", "LA", "P", "RGB", "L", "1", "I;16", "RGBA", "JPEG", "JPEG")):
            colours = Image.fromarray(random.integers(0, 256, (8, 8, 4)).astype(np.uint8))
            exif, options = Image.Exif(), {}
            exif.endian = "<>"[number % 2]
            exif[0x010F], exif[0x0112] = "a maker", number % 8 + 1
            if kind == "I;16":
                picture = Image.fromarray(random.integers(0, 4000, (8, 8)).astype(np.uint16))
            elif kind == "P":
                picture, options = colours.convert("RGB").quantize(16), {"transparency": 3}
            elif kind == "JPEG":  # Flat but for two halves, of which it keeps where they are.
                picture = Image.fromarray(np.repeat([[10, 240]], 8, 0).repeat(4, 1).astype(np.uint8))
                options = {"quality": 100}
            else:
                picture = colours.convert(kind)
                options = {"transparency": (picture.getpixel((1, 1)))} if kind in ("RGB", "L") else {}
            path = self.folder / f"a.{'jpg' if kind == 'JPEG' else 'png'}"
            picture.save(path, exif=exif, **options)
            data.append(path.read_bytes())
            expected.append(pictures.decoded(path, (8, 8), "RGB", reading))
        found = encoded(pictures=tf.constant(data))["probabilities"]
        self.assertAllClose(found, trained.probabilities(np.stack(expected)), rtol=0, atol=1e-7)

    def test_what_tensorflow_would_read_otherwise_is_an_error(self):
        export.write(model((8, 8, 3)), self.folder / "saved", "saved_model")
        encoded = tf.saved_model.load(str(self.folder / "saved")).signatures["encoded"]
        colours = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8))
        for name, picture, options, message in (
            ("transparent.gif", colours.quantize(16), {"transparency": 3}, "a transparent GIF"),
            ("smaller.gif", colours.quantize(16), {}, "a GIF whose first frame is smaller than it is"),
            ("a.webp", colours, {}, "no picture of a kind"),
            ("a.tif", colours, {}, "no picture of a kind"),
            ("a.bmp", colours.convert("1"), {}, "a BMP of another kind"),
            ("a.jpg", colours, {"xmp": b'tiff:Orientation="6"'}, "whose orientation may stand in XMP"),
        ):
            path = self.folder / name
            picture.save(path, **options)
            data = bytearray(path.read_bytes())
            if name == "smaller.gif":
                data[6] = 9  # Its width.
            with self.assertRaisesRegex(tf.errors.InvalidArgumentError, message):
                encoded(pictures=tf.constant([bytes(data)]))

    def test_npz(self):
        export.write(model(), self.folder / "other.npz", "npz")
        self.assertAllEqual(artifact.load(self.folder / "other.npz").W, model().W)

    @parameterized.parameters("saved_model", "keras", "onnx", "npz")
    def test_what_is_there_stays_unless_it_is_to_be_replaced(self, format):
        path = self.folder / {"keras": "model.keras"}.get(format, "there")
        export.write(model(), path, format)
        before = contents(path)
        with self.assertRaisesRegex(DataError, "is there already; give another path, or --overwrite"):
            export.write(model(white=16.0), path, format)
        self.assertEqual(contents(path), before)
        export.write(model(white=16.0), path, format, overwrite=True)
        self.assertNotEqual(contents(path), before)
        self.assertEqual([found.name for found in self.folder.iterdir()], [path.name])

    @parameterized.parameters("saved_model", "onnx")
    def test_nothing_but_an_export_is_ever_replaced(self, format):
        (self.folder / "precious" / "thesis").mkdir(parents=True)
        (self.folder / "link").symlink_to(self.folder / "precious")
        (self.folder / "dangling").symlink_to(self.folder / "nothing")
        os.mkfifo(self.folder / "fifo")
        for path in sorted(self.folder.iterdir()):
            with self.assertRaisesRegex(DataError, f"{path.name}: is there, and no export of this kind"):
                export.write(model(), path, format, overwrite=True)
        self.assertTrue((self.folder / "precious" / "thesis").is_dir())
        self.assertLen(list(self.folder.iterdir()), 4)

    def test_a_folder_that_is_not_there_is_not_made(self):
        for format in export.FORMATS:
            with self.assertRaisesRegex(DataError, "gone is no folder; give a path in one that is there"):
                export.write(model(), self.folder / "gone" / "model.keras", format)
        self.assertEmpty(list(self.folder.iterdir()))

    def test_a_folder_whose_place_cannot_be_taken_stays(self):
        path = self.folder / "saved"
        export.write(model(), path, "saved_model")
        before, replace = contents(path), os.replace

        def fail(source, target):
            if target == path and source.name == "saved":
                raise OSError(errno.ENOSPC, "No space left on device")
            replace(source, target)

        with (
            mock.patch.object(os, "replace", fail),
            self.assertRaisesRegex(OSError, "No space left .*saved"),
        ):
            export.write(model(white=16.0), path, "saved_model", overwrite=True)
        self.assertEqual(contents(path), before)
        self.assertEqual([found.name for found in self.folder.iterdir()], ["saved"])

    @parameterized.parameters("saved_model", "keras", "onnx", "npz")
    def test_a_full_disk_leaves_what_was_there_and_nothing_else(self, format):
        path = self.folder / {"keras": "model.keras"}.get(format, "there")
        export.write(model(), path, format)
        before = contents(path)
        full = OSError(errno.ENOSPC, "No space left on device")
        with mock.patch.object(os, "fsync", side_effect=full), self.assertRaisesRegex(OSError, "No space left"):
            export.write(model(white=16.0), path, format, overwrite=True)
        self.assertEqual(contents(path), before)
        self.assertEqual([found.name for found in self.folder.iterdir()], [path.name])

    def test_onnx_that_is_not_installed(self):
        with (
            mock.patch.dict(sys.modules, {"onnx": None}),
            self.assertRaisesRegex(OptionError, r"format=onnx: needs .* pip install 'tfpipe\[onnx\]'"),
        ):
            export.write(model(), self.folder / "model.onnx", "onnx")

    @pytest.mark.exhaustive
    def test_every_program_says_the_same_of_mnist(self):
        if not os.environ.get("TFPIPE_MNIST_DIR"):
            self.skipTest("TFPIPE_MNIST_DIR does not name a folder with MNIST's IDX files")
        script = REPOSITORY / "experiments" / "check_exports.py"
        process = subprocess.run([sys.executable, script, "--images=500"], capture_output=True, text=True, check=False)
        self.assertEqual(process.returncode, 0, process.stderr)
        found = json.loads(process.stdout)
        self.assertLen(found["largest_difference"], 7)
        self.assertLess(max(found["largest_difference"].values()), 1e-6)
        self.assertEqual(set(found["other_classes"].values()), {0})


class EncodedTest(tf.test.TestCase, parameterized.TestCase):
    """The bytes of hard pictures: what the graph makes of them is what Pillow makes of them, to the bit."""

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    def save(self, number, height, width):
        """A picture of coloured blots, of one kind after the other, turned by EXIF where there is any."""
        picture, name = blurred_noise(number, height, width), f"{number:03}"
        exif = Image.Exif()
        exif[0x0112] = number % 8 + 1
        kind = number % 10
        if kind in (0, 1, 2, 3):
            subsampling = ("4:4:4", "4:2:2", "4:2:0")[number % 3]
            options = {"quality": (20, 75, 95)[number // 10 % 3], "progressive": kind == 3, "subsampling": subsampling}
            path = self.folder / f"{name}.jpg"
            (picture.convert("L") if kind == 2 else picture).save(
                path, exif=exif, **(options if kind != 2 else {"quality": 85})
            )
            return path
        path = self.folder / f"{name}.{('png', 'png', 'png', 'bmp', 'bmp', 'gif')[kind - 4]}"
        if kind == 5:
            picture = picture.convert("L")
        elif kind == 6:
            picture.putalpha(blurred_noise(number + 1, height, width).convert("L"))
        elif kind in (8, 9):
            picture = picture.quantize(60)
        picture.save(path, **({"exif": exif} if path.suffix == ".png" else {}))
        return path

    def check(self, paths, size, mode, reading, most=0):
        read = tf.function(
            lambda data: encoded.pixels(data, size, mode, reading), input_signature=[tf.TensorSpec([], tf.string)]
        )
        largest = 0
        for path in paths:
            found = read(tf.constant(path.read_bytes())).numpy()
            expected = pictures.decoded(path, size, mode, reading)
            self.assertEqual((found.shape, found.dtype), (expected.shape, np.float64))
            difference = np.abs(found - expected).max()
            self.assertLessEqual(difference, most, path)
            largest = max(largest, difference)
        self.assertEqual(largest, most)

    KINDS = (
        ((9, 7), "L", Reading()),
        ((24, 40), "RGB", Reading(fit="crop", background="black")),
        ((40, 24), "RGB", Reading(fit="pad", background="none")),
        ((1, 1), "L", Reading(fit="pad", decoding="full")),
        ((96, 128), "L", Reading(fit="crop", decoding="full")),
        ((96, 128), "RGB", AS_STORED),
    )

    @parameterized.parameters(*KINDS[:3])
    def test_every_pixel(self, size, mode, reading):
        sides = np.exp(np.random.default_rng(0).uniform(np.log(2), np.log(400), (30, 2))).astype(int).tolist()
        self.check([self.save(number, *side) for number, side in enumerate(sides)], size, mode, reading)

    @parameterized.parameters(*KINDS)
    @pytest.mark.exhaustive
    def test_every_pixel_of_many(self, size, mode, reading):
        sides = np.exp(np.random.default_rng(1).uniform(0, np.log(700), (240, 2))).astype(int).tolist()
        self.check([self.save(number, *side) for number, side in enumerate(sides)], size, mode, reading)

    @parameterized.parameters((Reading(),), (Reading(background="black", gray_max=4095),))
    def test_every_kind_of_png(self, reading):
        random, paths = np.random.default_rng(0), []
        depths = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
        for kind, bits in ((kind, bits) for kind, of_kind in depths.items() for bits in of_kind):
            for transparent in (False, True) if kind < 4 else (False,):
                paths.append(self.folder / f"{kind} {bits} {transparent}.png")
                paths[-1].write_bytes(png(random, 30, 40, bits, kind, transparent))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of palettes with alpha, where gray is made of them.
            self.check(paths, (30, 40), "RGB", reading)

    def test_transparency_that_may_stand_behind_what_is_looked_at_is_an_error(self):
        data = png(np.random.default_rng(0), 30, 40, 8, 2, True)
        head, path = data.index(b"IHDR") + 21, self.folder / "a.png"
        for size, is_read in ((1 << 16, True), (1 << 17, False)):
            path.write_bytes(data[:head] + chunk(b"teXt", bytes(size)) + data[head:])
            if is_read:
                self.check([path], (30, 40), "RGB", Reading())
                continue
            with self.assertRaisesRegex(tf.errors.InvalidArgumentError, "whose pixels begin behind 131072 bytes"):
                self.check([path], (30, 40), "RGB", Reading())
            self.check([path], (30, 40), "RGB", Reading(background="none"))

    def test_gray_of_16_bits_is_an_error_where_white_is_not_known(self):
        random, reading = np.random.default_rng(0), Reading(gray_max=None)
        paths = [self.folder / f"{bits}.png" for bits in (8, 16)]
        for path, bits in zip(paths, (8, 16), strict=True):
            path.write_bytes(png(random, 30, 40, bits, 0, False))
        self.check(paths[:1], (30, 40), "L", reading)
        with self.assertRaisesRegex(tf.errors.InvalidArgumentError, "what is white is not known without --gray_max"):
            self.check(paths[1:], (30, 40), "L", reading)

    def test_jpeg_in_cmyk_is_less_by_one_at_most(self):
        random = np.random.default_rng(0)
        bands = [Image.fromarray(random.integers(0, 256, (90, 70)).astype(np.uint8)) for _ in range(4)]
        Image.merge("CMYK", bands).save(self.folder / "a.jpg")
        self.check([self.folder / "a.jpg"], (90, 70), "RGB", Reading(), most=1)

    def test_jpeg_whose_colours_have_half_the_lines(self):
        # As a picture with half the columns becomes that is turned without decoding; Pillow writes none.
        blurred_noise(0, 256, 256).save(self.folder / "a.jpg", subsampling="4:2:2")
        data = bytearray((self.folder / "a.jpg").read_bytes())
        place = data.index(b"\xff\xc0") + 11
        self.assertEqual(data[place], 0x21)
        data[place] = 0x12
        (self.folder / "a.jpg").write_bytes(data)
        self.check([self.folder / "a.jpg"], (60, 60), "RGB", Reading())


class OrientationTest(tf.test.TestCase):
    """What the graph finds in a file is what Pillow finds, or is an error."""

    XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    def data(self, suffix, orientation=None, size=(9, 7), **options):
        """A file of noise, which says its orientation, if it has one."""
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = self.folder / f"a.{suffix}"
        picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8))
        picture.save(path, **options | ({"exif": exif} if orientation else {}))
        return path.read_bytes()

    def text(self, keyword, value, orientation=None, **options):
        info = PngImagePlugin.PngInfo()
        (info.add_itxt if keyword.startswith("XML") else info.add_text)(keyword, value, **options)
        return self.data("png", orientation, pnginfo=info)

    def find(self, data):
        is_png, is_jpeg = (tf.constant(data.startswith(mark)) for mark in (b"\x89PNG", b"\xff\xd8"))
        return int(exif.orientation(tf.constant(data), is_png, is_jpeg))

    def check(self, data, expected):
        with pictures.opened(io.BytesIO(data), "a") as picture:
            self.assertEqual(pictures.orientation(picture), expected)
        self.assertEqual(self.find(data), expected)

    def test_exif_data_behind_much_else(self):
        jpeg = self.data("jpg", 6)
        far = jpeg[:2] + 3 * (b"\xff\xfe\xff\xff" + bytes(65533)) + jpeg[2:]
        self.assertGreater(far.index(b"Exif\0\0"), 3 * 65536)
        self.check(far, 6)
        png = self.data("png", 6, (300, 200))
        begin = png.index(b"eXIf") - 4
        end = begin + 12 + int.from_bytes(png[begin : begin + 4], "big")
        late = png[:begin] + png[end:-12] + png[begin:end] + png[-12:]
        self.assertGreater(late.index(b"eXIf"), 1 << 17)
        self.check(late, 6)

    def test_what_only_looks_like_exif_data(self):
        begin = self.data("jpg", 6).index(b"Exif\0\0")
        text = b"no " + self.data("jpg", 6)[begin : begin + 32]
        for orientation in (None, 8):
            jpeg = self.data("jpg", orientation)
            comment = b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text
            self.check(jpeg[:2] + comment + jpeg[2:], orientation or 1)
            self.check(self.text("Comment", "the chunk eXIf", orientation), orientation or 1)

    def test_an_orientation_that_may_stand_elsewhere_is_an_error(self):
        profile = self.data("jpg", 6).partition(b"Exif\0\0")[2][:26].hex()
        for data in (
            self.data("jpg", xmp=self.XMP.encode()),
            self.text("XML:com.adobe.xmp", self.XMP),
            self.text("XML:com.adobe.xmp", self.XMP, zip=True),
            self.text("Raw profile type exif", f"\nexif\n      26\n{profile}", zip=True),
        ):
            with pictures.opened(io.BytesIO(data), "a") as picture:
                self.assertEqual(pictures.orientation(picture), 6)
            with self.assertRaisesRegex(tf.errors.InvalidArgumentError, "whose orientation may stand in XMP"):
                self.find(data)

    def test_an_orientation_in_exif_data_is_taken_before_that_in_xmp(self):
        self.check(self.data("jpg", 3, xmp=self.XMP.encode()), 3)
        self.check(self.text("XML:com.adobe.xmp", self.XMP, 8), 8)


class KerasTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        trained = model()
        self.model = SoftmaxRegression.from_arrays(trained.W, trained.b)
        self.x = np.random.default_rng(0).random((50, 24)).astype(np.float32)
        self.y = np.arange(50) % 3

    def test_there_and_back(self):
        as_keras = self.model.to_keras()
        self.assertAllClose(as_keras.predict(self.x, verbose=0), self.model.predict_proba(self.x), rtol=0, atol=1e-6)
        back = SoftmaxRegression.from_keras(as_keras)
        self.assertAllEqual(back.W, self.model.W)
        self.assertAllEqual(back.b, self.model.b)

    def test_it_trains_on_in_keras(self):
        as_keras = self.model.to_keras()
        before = self.model.negative_log_likelihood(self.x, self.y)
        as_keras.optimizer.learning_rate = 0.1
        as_keras.fit(self.x, self.y, batch_size=50, epochs=1, verbose=0)
        with tf.GradientTape() as tape:
            cost = self.model.negative_log_likelihood(self.x, self.y)
        g_W, g_b = tape.gradient(cost, (self.model.W, self.model.b))
        after = SoftmaxRegression.from_keras(as_keras)
        self.assertAllClose(after.W, self.model.W - 0.1 * g_W, rtol=0, atol=1e-6)
        self.assertAllClose(after.b, self.model.b - 0.1 * g_b, rtol=0, atol=1e-6)
        self.assertLess(after.negative_log_likelihood(self.x, self.y), before)

    def test_what_is_no_softmax_regression_is_refused(self):
        layers = keras.layers
        for stack, message in (
            ([layers.Dense(4), layers.Dense(3, "softmax")], "layers Dense, Dense; expected"),
            ([layers.Dense(3, "softmax", use_bias=False)], "layers Dense"),
            ([layers.Dense(3, "relu")], "layers Dense"),
            ([layers.Dense(3), layers.ReLU(), layers.Softmax()], "layers Dense, ReLU, Softmax"),
            ([layers.Rescaling(1 / 255), layers.Dense(3, "softmax")], "layers Rescaling, Dense"),
            ([layers.Flatten()], "layers Flatten"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                SoftmaxRegression.from_keras(keras.Sequential([keras.Input((24,)), *stack]))


if __name__ == "__main__":
    tf.test.main()
