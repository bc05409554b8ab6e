import io

import matplotlib
import numpy as np
from absl.testing import absltest, parameterized
from PIL import Image

from tests import made
from tfpipe.model.artifact import TrainedModel
from tfpipe.model.diagnosis import Diagnosis
from tfpipe.monitor import pictures
from tfpipe.monitor.events import Selected

SETTINGS = ("learning_rate", "l2")


def opened(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def model(shape, n_classes=3, names=None):
    W = np.random.default_rng(0).normal(size=(int(np.prod(shape)), n_classes)).astype(np.float32)
    return TrainedModel(
        W, np.zeros(n_classes, np.float32), names or tuple(map(str, range(n_classes))), shape, 255.0, {}
    )


def selected(trained, n=20):
    _, labels = made.images(n, trained.image_shape, n_classes=len(trained.class_names))
    predicted = (labels + (np.arange(n) % 3 == 0)) % len(trained.class_names)
    found = Diagnosis(labels, predicted, np.linspace(0.4, 1, n), len(trained.class_names))
    splits = made.splits(n_test=n, shape=trained.image_shape, n_classes=len(trained.class_names))
    return Selected(9, (0, 7), trained, found, splits.test)


class TemplatesTest(parameterized.TestCase):
    @parameterized.parameters((48, 24), (8, 8), (1, 5))
    def test_every_weight_has_its_colour_where_its_pixel_is(self, height, width):
        trained = model((height, width))
        picture = opened(pictures.of_model(selected(trained))["templates"])
        scale = max(1, 96 // max(height, width))
        limit = np.abs(trained.W).max()
        colours = matplotlib.colormaps["RdBu_r"]
        cell = (picture.shape[1] - 8) // 3
        for k in range(3):
            tile = picture[8 : 8 + height * scale, 8 + k * cell : 8 + k * cell + width * scale]
            for row in range(height):
                for column in range(width):
                    block = tile[row * scale : (row + 1) * scale, column * scale : (column + 1) * scale]
                    weight = trained.W[row * width + column, k]
                    expected = colours(0.5 + 0.5 * float(weight / limit), bytes=True)[:3]
                    np.testing.assert_allclose(block.reshape(-1, 3) - np.array(expected, int), 0, atol=2)

    def test_zero_is_white_and_the_scale_is_symmetric(self):
        red, white, blue = pictures.colours(np.array([1.0, 0.0, -1.0])).astype(int)
        np.testing.assert_allclose(white, 247, atol=1)
        self.assertGreater(red[0], red[2] + 50)
        self.assertGreater(blue[2], blue[0] + 50)

    def test_colours_stay_colours(self):
        trained = model((5, 4, 3))
        tiles, captions = pictures.templates(trained)
        self.assertEqual((tiles.shape, captions), ((3, 5, 4, 3), ["0", "1", "2"]))
        expected = 127.5 * (1 + trained.W.T.reshape(3, 5, 4, 3) / np.abs(trained.W).max())
        np.testing.assert_allclose(tiles, expected, atol=0.5)

    def test_rows_of_numbers_have_none(self):
        drawn = pictures.of_model(selected(model((12,))))
        self.assertEqual(set(drawn), {"confusion_matrix", "reliability"})

    def test_the_confusion_matrix_of_many_classes_is_left_out(self):
        trained = model((12,), n_classes=1001)
        found = Diagnosis(np.array([0, 1]), np.array([0, 2]), np.array([0.5, 0.6]), 1001)
        event = Selected(9, (0, 7), trained, found, made.splits(n_test=2, shape=(12,)).test)
        self.assertEqual(set(pictures.of_model(event)), {"reliability"})


class OthersTest(parameterized.TestCase):
    def test_the_confusion_matrix_tells_its_counts(self):
        counts = np.array([[8, 2, 0], [0, 5, 1], [3, 0, 120]])
        (axis,) = pictures.confusion_matrix(counts, ["a", "b", "c"]).axes
        told = {tuple(map(int, text.get_position()[::-1])): int(text.get_text()) for text in axis.texts}
        self.assertEqual(told, {place: int(count) for place, count in np.ndenumerate(counts) if count})
        self.assertEqual([label.get_text() for label in axis.get_yticklabels()], ["a", "b", "c"])
        self.assertEqual(axis.get_title(), "133 of 139 are right")

    def test_mistakes_are_shown_with_what_they_were_taken_for(self):
        one = selected(model((4, 6)))
        tiles, captions = pictures.mistakes(one.diagnosis, one.examples, ["a", "b", "c"])
        rows = one.diagnosis.mistakes(100)
        self.assertLen(rows, 7)
        self.assertEqual(tiles.shape, (7, 4, 6, 3))
        for tile, caption, row in zip(tiles, captions, rows, strict=True):
            names = ["abc"[number[row]] for number in (one.diagnosis.labels, one.diagnosis.predicted)]
            self.assertEqual(caption, f"{names[0]} → {names[1]}, {one.diagnosis.confidence[row]:.0%}")
            image = one.examples.images[row].astype(float)
            brightest = one.examples.images[rows].max()
            np.testing.assert_allclose(tile[..., 0], image * 255 / brightest, atol=0.5)

    def test_the_heat_map_has_each_error_in_its_place(self):
        grid = [
            {"learning_rate": rate, "l2": l2, "validation_error": error, "diverged": error is None}
            for rate, l2, error in ((0.1, 0.0, 0.25), (0.1, 0.5, 0.125), (1.0, 0.0, None), (1.0, 0.5, 0.5))
        ]
        axis = pictures.heat_map(grid, SETTINGS).axes[0]
        np.testing.assert_array_equal(axis.images[0].get_array().filled(np.nan), [[0.25, np.nan], [0.125, 0.5]])
        self.assertEqual([text.get_text() for text in axis.texts], ["25.00%", "-", "12.50%", "50.00%"])
        (frame,) = axis.patches
        self.assertEqual((round(frame.get_x() + 0.47, 6), round(frame.get_y() + 0.45, 6)), (0, 1))

    def test_a_heat_map_shows_the_two_settings_that_vary_and_of_others_the_best(self):
        grid = [
            {
                "tolerance": 1e-3,
                "l2": l2,
                "momentum": momentum,
                "fold": fold,
                "validation_error": error,
                "diverged": False,
            }
            for l2, momentum, fold, error in (
                (0.1, 0.5, 1, 0.5),
                (0.1, 0.5, 2, 0.25),
                (0.1, 0.9, 1, 0.75),
                (0.2, 0.9, 1, 1),
            )
        ]
        axis = pictures.heat_map(grid, ("tolerance", "l2", "momentum", "fold")).axes[0]
        self.assertEqual((axis.get_xlabel(), axis.get_ylabel()), ("l2", "momentum"))
        np.testing.assert_array_equal(axis.images[0].get_array().filled(np.nan), [[0.25, np.nan], [0.75, 1.0]])

    def test_a_heat_map_of_one_setting_has_one_row(self):
        grid = [{"l2": l2, "validation_error": l2 / 2, "diverged": False} for l2 in (0.5, 0.25)]
        axis = pictures.heat_map(grid, ("l2",)).axes[0]
        np.testing.assert_array_equal(axis.images[0].get_array(), [[0.125, 0.25]])
        self.assertEqual([label.get_text() for label in axis.get_xticklabels()], ["0.25", "0.5"])
        self.assertEqual((axis.get_xlabel(), axis.get_ylabel(), list(axis.get_yticks())), ("l2", "", []))

    def test_a_heat_map_of_hundreds_of_rates_has_a_size_that_can_be_drawn(self):
        grid = [
            {"learning_rate": 1 + n, "l2": 0.0, "validation_error": 1 / (1 + n), "diverged": False} for n in range(1000)
        ]
        drawn = opened(pictures.of_grid(grid, SETTINGS)["heat_map"])
        self.assertLessEqual(max(drawn.shape), 1200)

    def test_a_grid_without_two_errors_has_no_heat_map(self):
        head = {"learning_rate": 1.0, "l2": 0.0, "validation_error": None, "diverged": False}
        others = [head | {"validation_error": 0.5}, head | {"validation_error": 0.1, "diverged": True}]
        self.assertEqual(pictures.of_grid([head, *others], SETTINGS), {})

    @parameterized.parameters(((224, 224),), ((300, 100),))
    def test_large_images_are_made_smaller(self, shape):
        tiles = np.full((3, *shape, 3), (10, 200, 30), np.uint8)
        picture = np.asarray(pictures.sheet(tiles, ["a", "b", "c"]))
        scale = 128 / max(shape)
        height, width = round(shape[0] * scale), round(shape[1] * scale)
        is_tile = (picture == (10, 200, 30)).all(axis=-1)
        self.assertEqual(is_tile.sum(), 3 * height * width)
        self.assertTrue(is_tile[8 : 8 + height, 8 : 8 + width].all())

    def test_reliability_draws_what_was_counted(self):
        calibration = selected(model((4, 6))).diagnosis.calibration(bins=5)
        upper, lower = pictures.reliability(calibration).axes
        heights = [bar.get_height() for bar in upper.patches]
        np.testing.assert_allclose(heights, np.nan_to_num(calibration.accuracy))
        np.testing.assert_allclose([bar.get_height() for bar in lower.patches], calibration.examples)
        self.assertIn(f"{calibration.error:.2%}", upper.get_title())

    def test_a_figure_is_the_file_that_savefig_makes(self):
        counts = np.arange(16).reshape(4, 4)
        expected = io.BytesIO()
        pictures.confusion_matrix(counts, list("abcd")).savefig(expected, format="png", dpi=100)
        self.assertEqual(pictures.png(pictures.confusion_matrix(counts, list("abcd"))), expected.getvalue())

    def test_names_of_many_letters_and_kinds(self):
        names = ("a" * 60, "Žluťoučký", "$<\\&>$")
        drawn = pictures.of_model(selected(model((4, 6), names=names)))
        for picture in drawn.values():
            self.assertGreater(opened(picture).std(), 0)
        self.assertEqual(pictures.shortened("a" * 60), "a" * 15 + "…")

    def test_many_classes(self):
        drawn = pictures.of_model(selected(model((4, 6), n_classes=200), n=300))
        for name, picture in drawn.items():
            self.assertLess(max(opened(picture).shape), 2500, name)


if __name__ == "__main__":
    absltest.main()
