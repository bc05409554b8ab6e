import json
import pathlib

import numpy as np
from absl.testing import absltest
from PIL import Image

from tests import made
from tests.command import tfpipe
from tfpipe import Examples, Splits, load
from tfpipe.data import description
from tfpipe.exceptions import DataError


def splits(images):
    train = Examples(images, np.array([0, 1, 1]))
    return Splits(train, train.take([0]), train.take([1, 2]), ("cat", "dog"), pixel_max=2.0)


class DescriptionTest(absltest.TestCase):
    def test_the_figures(self):
        images = np.arange(18, dtype=np.uint8).reshape(3, 2, 3)
        unknown = {"weight": None, "groups": None, "split_order": None}
        seen = [{"duplicates": {"repeated": 0, "seen": count, "label_differs": 0}} for count in (None, 1, 2)]
        self.assertEqual(
            description.describe(splits(images)),
            {
                "dataset": None,
                "form": "2 x 3 uint8, divided by 2",
                "image_shape": [2, 3],
                "dtype": "uint8",
                "pixel_max": 2.0,
                "standardized": False,
                "class_names": ["cat", "dog"],
                "splits": {
                    "train": {"examples": 3, "range": [0, 17], "classes": [1, 2]} | unknown | seen[0],
                    "validation": {"examples": 1, "range": [0, 5], "classes": [1, 0]} | unknown | seen[1],
                    "test": {"examples": 2, "range": [6, 17], "classes": [0, 2]} | unknown | seen[2],
                },
                "split_seed": None,
                "pictures": None,
                "reading": None,
                "columns": None,
                "notes": [],
                "fingerprint": splits(images).fingerprint,
            },
        )

    def test_weights_and_groups(self):
        train = Examples(np.zeros((4, 2)), [0, 1, 1, 0], weights=[1, 0.5, 0, 2], groups=[7, 7, 3, 7])
        others = Examples(np.zeros((2, 2)), [0, 1])
        figures = description.describe(Splits(train, others, others, ("cat", "dog")))
        found = [(part["weight"], part["groups"]) for part in figures["splits"].values()]
        self.assertEqual(found, [(3.5, 2), (None, None), (None, None)])
        lines = [line.split() for line in description.table(figures).splitlines()]
        self.assertIn(["weight", "3.5", "-", "-"], lines)
        self.assertIn(["groups", "2", "-", "-"], lines)

    def test_the_sheet_holds_the_examples_class_by_class(self):
        for channels in ((), (3,), (1,)):
            images = np.random.default_rng(0).integers(0, 256, (3, 48, 40, *channels)).astype(np.uint8)
            images[:, 0, 0] = 255  # White is there, so that nothing is brightened.
            sheet = np.asarray(description.contact_sheet(splits(images)))
            left = sheet.shape[1] - 10 * 44
            for row, column, image in ((0, 0, 0), (1, 0, 1), (1, 1, 2)):
                top = 4 + row * 52
                tile = sheet[top : top + 48, left + column * 44 : left + column * 44 + 40]
                expected = images[image] if channels == (3,) else np.repeat(images[image].reshape(48, 40, 1), 3, axis=2)
                np.testing.assert_array_equal(tile, expected)
            self.assertTrue((sheet[4:52, left + 44 :] == 255).all())  # One cat alone.
            self.assertTrue((sheet[4:52, :left] < 128).any())  # Its name.

    def test_rows_of_features_are_no_pictures(self):
        with self.assertRaisesRegex(DataError, r"examples of shape \(6,\) are no pictures"):
            description.contact_sheet(splits(np.zeros((3, 6))))

    def test_the_command(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        data = made.write_idx_folder(folder / "data")
        sheet = folder / "sheet.png"
        process = tfpipe("describe", f"--dataset={data}", "--validation_split=20", f"--contact_sheet={sheet}")
        self.assertEqual(process.returncode, 0, process.stderr)
        content = json.loads(process.stdout)
        of_class = np.bincount(made.images(90, seed=1)[1])
        drawn = content["splits"]["validation"]["classes"]
        self.assertLessEqual(np.abs(drawn - of_class * 20 / 90).max(), 1)
        self.assertEqual(content["splits"]["train"]["classes"], (of_class - drawn).tolist())
        orders = [content["splits"][name]["split_order"] for name in ("train", "validation", "test")]
        self.assertEqual((orders, content["split_seed"]), ([None, "stratified", None], 0))
        with Image.open(sheet) as picture:
            self.assertEqual(picture.format, "PNG")
        lines = process.stderr.splitlines()
        self.assertEqual(lines[0], f"{data}: 4 x 6 uint8, divided by 255")
        self.assertEqual(lines[5].split(), ["all", "70", "20", "30"])
        self.assertEqual(lines[7].split(), ["split", "order", "-", "stratified", "-"])

    def test_splits_from_the_end(self):
        path = pathlib.Path(self.create_tempdir().full_path) / "data.npz"
        pixels, labels = made.images(20)
        np.savez(path, images=pixels, labels=labels)
        found = description.describe(load(path, validation_split=3, test_split=0.25, split_order="end"))
        self.assertEqual([found["splits"][name]["split_order"] for name in ("validation", "test")], ["end", "end"])
        self.assertEqual(found["splits"]["test"]["classes"], np.bincount(labels[15:], minlength=3).tolist())
        self.assertIsNone(found["split_seed"])

    def test_without_test_examples(self):
        found = description.describe(load("digits", test_split=0))
        none = {"examples": 0, "range": None, "classes": [0] * 10, "weight": None, "groups": None, "split_order": None}
        none["duplicates"] = {"repeated": 0, "seen": 0, "label_differs": 0}
        self.assertEqual(found["splits"]["test"], none)
        self.assertEqual(found["splits"]["train"]["examples"], 1438)
        lines = [line.split() for line in description.table(found).splitlines()]
        self.assertIn(["all", "1438", "359", "0"], lines)
        self.assertIn(["values", "0", "to", "16", "0", "to", "16", "-"], lines)
        self.assertIn(["split", "order", "-", "stratified", "-"], lines)

    def test_a_sheet_that_cannot_be_written(self):
        process = tfpipe("describe", "--contact_sheet=/no/such/folder/sheet.png")
        self.assertEqual(process.returncode, 1)
        self.assertRegex(process.stderr, r"^tfpipe describe: /no/such/folder/.*: No such file or directory\n$")


if __name__ == "__main__":
    absltest.main()
