import os
import pathlib
import warnings
from unittest import mock

import numpy as np
from absl.testing import absltest, parameterized
from PIL import Image

from tfpipe.config import AS_STORED, Column, Reading
from tfpipe.data.readers import folder
from tfpipe.model import artifact
from tfpipe.model.inference import predict


def model(shape=(4, 6), white=255.0, dtype=np.float32):
    random = np.random.default_rng(0)
    W = random.normal(0, 0.01, (int(np.prod(shape)), 3)).astype(dtype)
    return artifact.TrainedModel(W, random.normal(size=3).astype(dtype), ("cat", "dog", "eel"), shape, white, {})


def by_hand(trained, pixels):
    z = np.float64(pixels).reshape(-1) @ np.float64(trained.W) + trained.b
    return np.exp(z) / np.exp(z).sum()


class PicturesTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        self.pixels = np.random.default_rng(1).integers(0, 256, (4, 6)).astype(np.uint8)

    def save(self, name, pixels=None, **options):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(self.pixels if pixels is None else pixels).save(path, **options)
        return str(path)

    def predict(self, *paths, trained=None, at_once=4):
        return list(predict(trained or model(), paths, at_once=at_once))

    @parameterized.parameters(255.0, 16.0, 1.0)
    def test_a_picture_has_the_scale_of_the_training(self, white):
        trained = model(white=white)
        (prediction,) = self.predict(self.save("a.png"), trained=trained)
        np.testing.assert_allclose(prediction.probabilities, by_hand(trained, self.pixels * (white / 255)), rtol=1e-12)

    @parameterized.parameters(
        (Reading(),), (Reading("upright", "black", 4095, "crop"),), (Reading(fit="pad", decoding="full"),), (AS_STORED,)
    )
    def test_pictures_are_turned_composited_and_scaled_as_the_model_says(self, reading):
        random, paths = np.random.default_rng(3), []
        for number, kind in enumerate(("L", "RGBA", "LA", "P", "CMYK", "I;16") * 2):
            shape = (90, 80, 4) if kind == "CMYK" else (9, 8, 4)
            pixels = random.integers(0, 256, shape).astype(np.uint8)
            picture = Image.fromarray(pixels).convert("RGB" if kind == "P" else kind.removesuffix(";16"))
            options = {"transparency": 3} if kind == "P" else {}
            if kind == "P":
                picture = picture.quantize(16)
            if kind == "I;16":
                picture = Image.fromarray(random.integers(0, 4000, (9, 8)).astype(np.uint16))
            exif = Image.Exif()
            exif[0x0112] = number % 8 + 1
            path = self.folder / "data" / "cat" / f"{number:02}.{'jpg' if kind == 'CMYK' else 'png'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path, exif=exif, **options)
            paths.append(str(path))
        names = ("image_size", "color_mode", "skip_bad_images")
        source = folder.read(
            self.folder / "data", **dict(zip(names, ((4, 6), "rgb", False), strict=True)), **reading._asdict()
        )
        trained = model((4, 6, 3))._replace(reading=source.reading)
        self.assertEqual(source.reading, reading)
        found = np.stack([prediction.probabilities for prediction in self.predict(*paths, trained=trained)])
        np.testing.assert_array_equal(found[source.listing.argsort()], trained.probabilities(source.train.images))

    def test_what_is_left_out_of_a_folder_is_named(self):
        self.save("a.png")
        for name in ("b.eps", "c.txt", "Thumbs.db", "__MACOSX/d.png", "@eaDir/e.png"):
            (self.folder / name).parent.mkdir(exist_ok=True)
            (self.folder / name).touch()
        os.mkfifo(self.folder / "fifo.png")
        outside = self.create_tempdir().full_path
        (self.folder / "linked").symlink_to(outside)
        with self.assertLogs("absl", "WARNING") as log:
            found = self.predict(str(self.folder))
        line = "left out 3 files that are no pictures: b.eps, c.txt, fifo.png; and 1 hidden or of the system"
        self.assertEqual(log.output, [f"WARNING:absl:{self.folder}: {line}"])
        self.assertEqual([os.path.basename(prediction.path) for prediction in found], ["a.png", "linked"])
        self.assertEqual(found[1].problem, "a link to a folder; expected pictures, or folders of them")

    @parameterized.parameters(((4, 6), "L"), ((5, 3), "L"), ((5, 3, 3), "RGB"), ((4, 6, 1), "L"))
    def test_any_size_and_kind_becomes_what_training_would_have_made_of_it(self, shape, mode):
        random = np.random.default_rng(2)
        (self.folder / "data" / "cat").mkdir(parents=True)
        paths = []
        for number, kind in enumerate(("L", "RGB", "RGBA", "1", "P", "I;16")):
            if kind == "I;16":
                picture = Image.fromarray(random.integers(0, 1 << 16, (9, 8)).astype(np.uint16))
            else:
                picture = Image.fromarray(random.integers(0, 256, (9, 8, 3)).astype(np.uint8)).convert(kind)
            paths.append(str(self.folder / "data" / "cat" / f"{number}.png"))
            picture.save(paths[-1])
        color_mode = "grayscale" if mode == "L" else "rgb"
        source = folder.read(self.folder / "data", image_size=shape[:2], color_mode=color_mode, skip_bad_images=False)
        trained = model(shape)._replace(reading=source.reading)
        expected = trained.probabilities(source.train.images)
        found = np.stack([prediction.probabilities for prediction in self.predict(*paths, trained=trained)])
        key = lambda rows: rows[np.lexsort(rows.T)]  # noqa: E731  The folder is read in an order of its own.
        np.testing.assert_array_equal(key(found), key(expected))

    def test_what_cannot_be_read_has_a_line_and_the_rest_goes_on(self):
        whole = self.save("whole.png")
        data = pathlib.Path(whole).read_bytes()
        (self.folder / "half.png").write_bytes(data[: len(data) // 2])
        (self.folder / "text.png").write_text("no picture")
        (self.folder / "empty.png").write_bytes(b"")
        paths = [whole, *(str(self.folder / name) for name in ("half.png", "text.png", "empty.png", "gone.png")), whole]
        found = self.predict(*paths)
        self.assertEqual([prediction.path for prediction in found], paths)
        self.assertEqual(
            [prediction.probabilities is None for prediction in found], [False, True, True, True, True, False]
        )
        problems = [prediction.problem for prediction in found]
        self.assertRegex(problems[1], "^does not decode: .*[Tt]runcated")
        self.assertEqual(problems[3], problems[2])
        self.assertEqual(problems[2], "is no picture that Pillow reads")
        self.assertEqual(problems[4], "No such file or directory")
        np.testing.assert_array_equal(found[0].probabilities, found[-1].probabilities)

    def test_a_bomb_is_refused(self):
        path = self.save("bomb.png", np.zeros((30, 30), np.uint8))
        with mock.patch.object(Image, "MAX_IMAGE_PIXELS", 800), warnings.catch_warnings():  # Pillow would only warn.
            warnings.simplefilter("ignore")
            (prediction,) = self.predict(path)
        self.assertEqual(prediction.problem, "has 30 x 30 pixels; at most 800 are read")
        with mock.patch.object(Image, "MAX_IMAGE_PIXELS", 400):  # Pillow refuses.
            (prediction,) = self.predict(path)
        self.assertRegex(prediction.problem, "does not decode: DecompressionBombError")

    def test_folders_and_patterns_stand_for_their_pictures(self):
        for name in ("b.png", "a.PNG", "deep/c.jpg", ".hidden.png", ".git/d.png"):
            self.save(name)
        (self.folder / "notes.txt").touch()
        names = lambda *paths: [os.path.relpath(a.path, self.folder) for a in self.predict(*paths)]  # noqa: E731
        self.assertEqual(names(str(self.folder)), ["a.PNG", "b.png", "deep/c.jpg"])
        self.assertEqual(names(f"{self.folder}/"), ["a.PNG", "b.png", "deep/c.jpg"])
        self.assertEqual(names(f"{self.folder}/*.png"), ["b.png"])
        self.assertEqual(names(f"{self.folder}/**/*.jpg"), ["deep/c.jpg"])
        self.assertEqual(names(f"{self.folder}/*.bmp"), ["*.bmp"])  # Matches nothing: reported as missing.
        os.rename(self.folder / "b.png", self.folder / "[b]*.png")  # A name that looks like a pattern is a name.
        self.assertEqual(names(f"{self.folder}/[b]*.png"), ["[b]*.png"])

    def test_what_is_no_picture_and_no_folder_of_them(self):
        (self.folder / "none").mkdir()
        os.mkfifo(self.folder / "fifo.png")
        found = self.predict(f"{self.folder}/none", f"{self.folder}/fifo.png")
        self.assertEqual(
            [prediction.problem for prediction in found],
            ["holds no pictures that Pillow reads", "is no file"],
        )

    def test_an_answer_that_is_no_number_is_a_problem(self):
        trained = model(dtype=np.float64)
        (prediction,) = self.predict(self.save("a.png"), trained=trained._replace(W=np.full((24, 3), 1e308)))
        self.assertEqual(prediction.problem, "is too much for the model: its sums are not finite")

    def test_a_model_of_rows_takes_no_pictures(self):
        (prediction,) = self.predict(self.save("a.png"), trained=model((24,)))
        self.assertEqual(prediction.problem, "the model takes rows of 24 numbers, in an .npy file, and no pictures")

    def test_no_more_are_held_than_are_asked_for(self):
        path = self.save("a.png")
        asked = []

        def paths():
            for number in range(100):
                asked.append(number)
                yield path

        for number, _ in enumerate(predict(model(), paths(), at_once=3)):
            self.assertLessEqual(len(asked), number + 3)

    def test_one_at_a_time_is_answered_before_the_next_is_asked_for(self):
        path, answered = self.save("a.png"), []

        def paths():
            for number in range(3):
                self.assertLen(answered, number)
                yield path

        for prediction in predict(model(), paths(), at_once=1):
            answered.append(prediction)
        self.assertLen(answered, 3)


class RowsTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.path = pathlib.Path(self.create_tempdir().full_path) / "rows.npy"

    def test_a_pipe_is_no_file_of_rows(self):
        os.mkfifo(self.path)
        (prediction,) = predict(model(), [str(self.path)], at_once=1)
        self.assertEqual(prediction.problem, "is no regular file; expected an .npy file")

    def predict(self, array, trained=None):
        np.save(self.path, array)
        return list(predict(trained or model(), [str(self.path)], at_once=2))

    @parameterized.parameters(np.uint8, np.float16, np.float64, np.int32, ">f4")
    def test_each_row_is_answered(self, dtype):
        rows = np.random.default_rng(0).integers(0, 256, (600, 4, 6)).astype(dtype)
        for array in (rows, rows.reshape(600, 24)):
            found = self.predict(array)
            self.assertEqual([prediction.path for prediction in found], [f"{self.path}[{n}]" for n in range(600)])
            for number in (0, 255, 256, 599):
                np.testing.assert_allclose(found[number].probabilities, by_hand(model(), rows[number]), rtol=1e-12)

    def test_a_row_that_is_not_finite(self):
        rows = np.ones((3, 24))
        rows[1, 5] = np.nan
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = self.predict(rows)
        self.assertEqual([prediction.problem for prediction in found], ["", "holds a value that is not finite", ""])

    @parameterized.parameters(
        (np.zeros((3, 23)), r"holds an array of shape \(3, 23\); the model takes \[N, 4 x 6\] or flat rows"),
        (np.zeros((3, 6, 4)), r"holds an array of shape \(3, 6, 4\); the model takes \[N, 4 x 6\]"),
        (np.zeros(24), r"holds an array of shape \(24,\)"),
        (np.full((3, 24), "a"), "holds values of type <U1; expected numbers"),
        (np.array([[{}] * 24]), "refused: an array of type object"),
    )
    def test_arrays_that_do_not_fit(self, array, message):
        (prediction,) = self.predict(array)
        self.assertRegex(prediction.problem, message)

    def test_rows_that_do_not_fit_the_columns_of_a_table(self):
        columns = (Column("size"), *(Column("kind", f"{place}") for place in range(23)))
        np.save(self.path, np.zeros((3, 5)))
        (prediction,) = predict(model((24,))._replace(columns=columns), [str(self.path)], at_once=1)
        names = ", ".join(["size", *(f"kind={place}" for place in range(9))])
        self.assertRegex(prediction.problem, rf"the model takes \[N, 24\]: {names} and 14 more")

    def test_a_damaged_file(self):
        np.save(self.path, np.zeros((3, 24)))
        self.path.write_bytes(self.path.read_bytes()[:-1])
        (prediction,) = predict(model(), [str(self.path)], at_once=1)
        self.assertRegex(prediction.problem, "^truncated or damaged")

    def test_it_needs_no_tensorflow(self):
        from tests.command import python

        process = python(
            "import sys, tfpipe.model.inference, tfpipe.model.scores; sys.exit('tensorflow' in sys.modules)"
        )
        self.assertEqual(process.returncode, 0)


if __name__ == "__main__":
    absltest.main()
