import io
import pathlib
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from absl.testing import absltest, parameterized

from tfpipe.config import AS_STORED, Column, Reading
from tfpipe.exceptions import DataError
from tfpipe.model import artifact


def model(**changes):
    values = {
        "W": np.arange(12, dtype=np.float32).reshape(6, 2),
        "b": np.array([0.5, -0.5], np.float32),
        "class_names": ("cat", "dög"),
        "image_shape": (2, 3),
        "white": 255.0,
        "summary": {"test_error": 0.25, "l2": 0.0},
    }
    return artifact.TrainedModel(**(values | changes))


class ArtifactTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.path = pathlib.Path(self.create_tempdir().full_path) / "model.npz"

    def test_what_is_saved_is_loaded(self):
        artifact.save(self.path, model())
        loaded = artifact.load(self.path)
        np.testing.assert_array_equal(loaded.W, model().W)
        np.testing.assert_array_equal(loaded.b, model().b)
        self.assertEqual(loaded[2:], model()[2:])
        self.assertEqual(loaded.color_mode, "grayscale")

    def test_the_summary_holds_whatever_json_can_hold(self):
        settings = {"solver": "sgd", "learning_rate": 0.13, "l2": [0.0, 1e-5], "patience": None, "shuffle": True}
        summary = {"test_error": 0.25, "fingerprint": "9f" * 32, "settings": settings, "Žluťoučký": {"": []}}
        artifact.save(self.path, model(summary=summary))
        self.assertEqual(artifact.load(self.path).summary, summary)
        for value in (np.nan, np.inf):
            with self.assertRaises(ValueError):
                artifact.save(self.path, model(summary={"cost": value}))
        self.assertEqual(artifact.load(self.path).summary, summary)

    @parameterized.parameters(255.0, ([1.0, 0.5, 2.0, 1e-30, 1e30, 3.0],))
    def test_the_scale_is_loaded_where_there_is_one(self, scale):
        artifact.save(self.path, model(scale=np.array(scale)))
        loaded = artifact.load(self.path)
        np.testing.assert_array_equal(loaded.scale, np.array(scale), strict=True)
        artifact.save(self.path, model())  # As every file was, before there was one.
        with np.load(self.path) as arrays:
            self.assertNotIn("scale", arrays)
        self.assertIsNone(artifact.load(self.path).scale)

    def test_the_temperature_is_loaded_where_there_is_one(self):
        artifact.save(self.path, model(temperature=1.5))
        loaded = artifact.load(self.path)
        self.assertEqual(loaded.temperature, 1.5)
        W, b = loaded.fitted
        np.testing.assert_array_equal(W, np.arange(12.0).reshape(6, 2) * 1.5, strict=True)
        np.testing.assert_array_equal(b, [0.75, -0.75])
        artifact.save(self.path, model())  # As every file was, before there was one.
        with np.load(self.path) as arrays:
            self.assertNotIn("temperature", arrays)
        self.assertIsNone(artifact.load(self.path).temperature)
        np.testing.assert_array_equal(artifact.load(self.path).fitted[1], [0.5, -0.5])

    @parameterized.parameters(
        (Reading(),), (Reading("stored", "black", 4095, "crop", "full"),), (Reading(gray_max=None),), (AS_STORED,)
    )
    def test_how_pictures_are_read_is_loaded(self, reading):
        artifact.save(self.path, model(reading=reading))
        self.assertEqual(artifact.load(self.path).reading, reading)

    def test_a_file_from_before_there_was_a_choice_has_pictures_as_they_are_stored(self):
        artifact.save(self.path, model())
        with np.load(self.path) as file:
            arrays = dict(file)
        for name in ("orientation", "background", "gray_max", "fit", "decoding"):
            del arrays[name]
        np.savez(self.path, **arrays | {"format_version": 2})
        loaded = artifact.load(self.path)
        self.assertEqual(loaded.reading, AS_STORED)
        self.assertEqual(loaded.reading, Reading("stored", "none", 65535, "stretch", "full"))
        np.testing.assert_array_equal(loaded.W, model().W)
        np.savez(self.path, **arrays)
        with self.assertRaisesRegex(DataError, "model.npz: not a model that can be read: KeyError: .*orientation"):
            artifact.load(self.path)

    def test_the_columns_of_a_table_are_loaded_where_there_are_some(self):
        columns = (Column("a"), Column("b", "x,\u202f\0"), Column("b", ""), Column("b=x"), Column("b", "="), Column(""))
        artifact.save(self.path, model(columns=columns))
        self.assertEqual(artifact.load(self.path).columns, columns)
        artifact.save(self.path, model())  # As every file was, before there were some.
        with np.load(self.path) as arrays:
            self.assertNotIn("columns", arrays)
        self.assertIsNone(artifact.load(self.path).columns)

    def test_whether_a_file_would_be_refused_is_told_without_one(self):
        for names in (("a", "a"), ("a", "a\0")):  # NumPy does not keep the zero.
            content = artifact.encode(model(class_names=names))
            with self.assertRaisesRegex(DataError, "^the data: .* two classes of one name"):
                artifact.decode("the data", io.BytesIO(content))
        self.assertEqual(artifact.decode("the data", io.BytesIO(artifact.encode(model())))[2:], model()[2:])

    @parameterized.parameters(((6,), None), ((2, 3, 1), "grayscale"), ((1, 2, 3), "rgb"), ((3, 2, 1, 1), None))
    def test_the_shape_tells_the_colours(self, shape, expected):
        self.assertEqual(model(image_shape=shape).color_mode, expected)

    def test_probabilities_by_hand(self):
        W, b = np.array([[1.0, 0.0], [0.0, 2.0]], np.float32), np.array([0.0, 1.0], np.float32)
        trained = model(W=W, b=b, image_shape=(2,))
        x = np.array([[3, 1], [0, 0], [200, 100]], np.uint8)  # z: (3, 3), (0, 1), (200, 201).
        e = np.e
        expected = [[0.5, 0.5], [1 / (1 + e), e / (1 + e)], [1 / (1 + e), e / (1 + e)]]
        np.testing.assert_allclose(trained.probabilities(x), expected, rtol=1e-15)

    def test_the_same_model_gives_the_same_bytes(self):
        artifact.save(self.path, model())
        first = self.path.read_bytes()
        artifact.save(self.path, model())
        self.assertEqual(self.path.read_bytes(), first)

    @parameterized.parameters(
        ({"W": np.zeros((5, 2), np.float32)}, "do not fit"),
        ({"b": np.zeros(3, np.float32)}, "do not fit"),
        ({"W": np.zeros((6, 2))}, "W is float64 and b float32"),
        ({"b": np.array([0, np.nan], np.float32)}, "not finite"),
        ({"white": 0.0}, r"color_mode grayscale, resize bilinear, white 0 do not fit images \(2, 3\)"),
        ({"reading": Reading("sideways")}, "ConfigError: orientation=sideways: must be one of upright, stored"),
        ({"reading": Reading(background="pink")}, "background=pink: must be one of white, black, none"),
        ({"reading": Reading(fit="squeeze")}, "fit=squeeze: must be one of stretch, crop, pad"),
        ({"reading": Reading(decoding="half")}, "decoding=half: must be one of reduced, full"),
        ({"reading": Reading(gray_max=0)}, "gray_max=0: must be an integer of at least 1"),
        ({"white": np.inf}, "white inf do not fit"),
        ({"image_shape": (-2, -3)}, "cannot be right"),
        ({"class_names": ("cat", "cat")}, "two classes of one name, cannot be right"),
        ({"scale": np.ones(5)}, r"scale is float64 \(5,\); expected float64, \(\) or \(6,\)"),
        ({"scale": np.ones(6, np.float32)}, r"scale is float32 \(6,\); expected float64"),
        ({"scale": np.array([1, 1, 1, 1, 1, 0.0])}, "scale holds a value that is not a finite number above 0"),
        ({"scale": np.array(np.nan)}, "scale holds a value"),
        ({"temperature": 0.0}, "temperature 0 is not a finite number above 0"),
        ({"temperature": np.nan}, "temperature nan is not a finite number above 0"),
        ({"temperature": [1.0, 2.0]}, "not a model that can be read: TypeError"),
        ({"columns": tuple(map(Column, "abcde"))}, r"5 columns, or two of one name, do not fit W \(6, 2\)"),
        ({"columns": tuple(map(Column, "abcdea"))}, "6 columns, or two of one name, do not fit W"),
        ({"columns": (("a", 3),)}, "not a model that can be read: ValueError: columns that are no text"),
        ({"columns": (("a",), ("a", "b", "c"))}, "not a model that can be read: TypeError"),
        ({"W": np.zeros((6, 2), int)}, "W is int64 and b float32; expected float32, or float64"),
    )
    def test_parts_that_do_not_fit_are_refused(self, changes, message):
        artifact.save(self.path, model(**changes))
        with self.assertRaisesRegex(DataError, f"model.npz: .*{message}"):
            artifact.load(self.path)

    def test_missing_damaged_or_foreign_files(self):
        with self.assertRaisesRegex(DataError, "model.npz: cannot be read: No such file or directory"):
            artifact.load(self.path)
        artifact.save(self.path, model())
        data = self.path.read_bytes()
        for size in (0, 1, 100, len(data) // 2, len(data) - 1):
            self.path.write_bytes(data[:size])
            with self.assertRaisesRegex(DataError, "model.npz: not an .npz archive, or damaged"):
                artifact.load(self.path)
        np.savez(self.path, W=np.zeros(3))
        with self.assertRaisesRegex(DataError, "format_version"):
            artifact.load(self.path)

    def check_flipped(self, every):
        data = bytes(artifact.encode(model()))
        refused = 0
        for place in range(0, len(data), every):
            damaged = bytearray(data)
            damaged[place] ^= 0xFF
            try:
                loaded = artifact.decode("model.npz", io.BytesIO(damaged))
            except DataError as error:
                self.assertRegex(str(error), r"^model.npz( \(\w+\))?: ")
                refused += 1
            else:  # A byte that says nothing, such as a date.
                np.testing.assert_array_equal(loaded.W, model().W)
                np.testing.assert_array_equal(loaded.b, model().b)
        self.assertGreater(refused, len(data) / every / 2)

    def test_a_flipped_byte_is_an_error_or_harmless(self):
        self.check_flipped(every=31)

    @pytest.mark.exhaustive
    def test_every_flipped_byte_is_an_error_or_harmless(self):
        self.check_flipped(every=1)

    def test_another_version(self):
        np.savez(self.path, format_version=2.9)
        with self.assertRaisesRegex(DataError, "format version 2.9; this program reads 2 and 3"):
            artifact.load(self.path)
        np.savez(self.path, format_version=1)
        with self.assertRaisesRegex(DataError, "format version 1; this program reads 2 and 3"):
            artifact.load(self.path)

    def test_a_pickle_inside_is_not_executed(self):
        trace = self.path.parent / "ran"

        class Hostile:
            def __reduce__(self):
                return open, (str(trace), "w")

        with zipfile.ZipFile(self.path, "w") as archive:
            archive.writestr("format_version.npy", pickle.dumps(Hostile()))
        with self.assertRaisesRegex(DataError, r"model.npz \(format_version\): not an .npy array"):
            artifact.load(self.path)
        np.savez(self.path, format_version=np.array(Hostile(), object))
        with self.assertRaisesRegex(DataError, r"model.npz \(format_version\): refused: an array of type object"):
            artifact.load(self.path)
        self.assertFalse(trace.exists())

    def test_needs_no_tensorflow(self):
        program = "import sys, tfpipe.model.artifact; sys.exit('tensorflow' in sys.modules)"
        subprocess.run([sys.executable, "-c", program], check=True)


if __name__ == "__main__":
    absltest.main()
