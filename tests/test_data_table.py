import io
import pathlib
import sys
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from absl.testing import absltest, parameterized

from tfpipe import load
from tfpipe.exceptions import ConfigError, DataError


class TableTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        random = np.random.default_rng(0)
        self.columns = {
            "height": random.normal(size=60).round(3),
            "count": random.integers(0, 1000, 60),
            "is old": random.integers(0, 2, 60).astype(bool),
        }
        self.labels = random.integers(0, 3, 60)
        self.rows = np.stack(list(self.columns.values()), axis=1).astype(np.float32)

    def csv(self, columns, delimiter=",", name="data.csv", encoding="utf-8"):
        lines = [
            delimiter.join(columns),
            *(delimiter.join(map(str, row)) for row in zip(*columns.values(), strict=True)),
        ]
        (self.folder / name).write_text("\n".join(lines) + "\n", encoding)
        return self.folder / name

    def parquet(self, columns, name="data.parquet"):
        pq.write_table(pa.table(columns), self.folder / name)
        return self.folder / name

    def assert_reads(self, path, labels=None, class_names=("0", "1", "2"), **options):
        splits = load(path, split_order="end", **options)
        np.testing.assert_array_equal(splits.train.images, self.rows[:36])
        np.testing.assert_array_equal(splits.train.labels, (self.labels if labels is None else labels)[:36])
        self.assertEqual((splits.class_names, splits.train.images.dtype), (class_names, np.float32))
        self.assertEqual((splits.pixel_max, splits.scales), (1.0, ("none", "columns")))

    @parameterized.parameters("label", "class", "target", "y", "Label", "Y")
    def test_the_column_of_labels_by_its_name(self, name):
        for write in (self.csv, self.parquet):
            self.assert_reads(write({name: self.labels, **self.columns}))
            self.assert_reads(write({**self.columns, name: self.labels}))

    def test_labels_as_text_and_as_other_numbers(self):
        names = np.array(["NA", "dog", "eel"])
        for write in (self.csv, self.parquet):
            self.assert_reads(
                write({**self.columns, "kind": names[self.labels]}), None, tuple(names), label_column="kind"
            )
            self.assert_reads(write({**self.columns, "y": self.labels + 1}), None, ("1", "2", "3"))
            path = write({**self.columns, "y": self.labels + 1})
            self.assert_reads(path, self.labels + 1, ("0", "1", "2", "3"), numbered_classes=True)
            self.assert_reads(write({**self.columns, "y": self.labels * 1.0}))
        dictionary = pa.array(names[self.labels]).dictionary_encode()
        self.assert_reads(self.parquet({**self.columns, "y": dictionary}), None, tuple(names))

    @parameterized.parameters((";", "utf-8"), ("\t", "utf-8"), (",", "utf-8-sig"))
    def test_forms_of_csv(self, delimiter, encoding):
        self.assert_reads(self.csv({**self.columns, "y": self.labels}, delimiter, encoding=encoding))

    def test_values_in_quotes_and_a_type_that_shows_late(self):
        text = io.StringIO()
        text.write('"wide, high",y,late\r\n')
        for row in range(60_000):
            text.write(f'"{row}",{row % 2},{row if row < 59_999 else 0.5}\r\n')
        (self.folder / "data.csv").write_text(text.getvalue(), newline="")
        splits = load(self.folder / "data.csv", split_order="end")
        self.assertEqual(splits.test.images[-1].tolist(), [59_999, 0.5])
        self.assertEqual(splits.train.images[7].tolist(), [7, 7])

    def test_bytes_in_parquet_stay_bytes(self):
        pixels = np.random.default_rng(0).integers(0, 256, (60, 2), np.uint8)
        splits = load(self.parquet({"a": pixels[:, 0], "label": self.labels, "b": pixels[:, 1]}), split_order="end")
        np.testing.assert_array_equal(splits.train.images, pixels[:36])
        self.assertEqual((splits.train.images.dtype, splits.pixel_max), (np.uint8, 255.0))

    def test_parquet_by_its_content(self):
        self.assert_reads(self.parquet({**self.columns, "y": self.labels}, "part-0"))

    def test_columns_whose_names_are_numbers(self):
        path = self.csv(dict(zip("0124", [*self.columns.values(), self.labels], strict=True)))
        self.assert_reads(path, label_column="4")

    @parameterized.parameters("", "Unnamed: 0")
    def test_row_numbers_are_left_out(self, name):
        with self.assertLogs("absl", "INFO") as logged:
            self.assert_reads(self.csv({name: np.arange(60), **self.columns, "y": self.labels}))
        self.assertIn(f"the column {name!r}, which numbers the rows, is left out", logged.output[0])
        of_others = self.csv({name: np.arange(60)[::-1], **self.columns, "y": self.labels})
        self.assertEqual(load(of_others).n_in, 4)

    @parameterized.parameters(
        ("a,b\n1,2\n", "no column label, class, target, y; --label_column says which it is, of a, b"),
        ("label,y,a\n1,2,3\n", "the columns label and y may be the labels; --label_column says which it is, of label"),
        ("a,a,y\n1,2,3\n", "two columns are called a; expected a name of its own for each"),
        ("a,y\n", "holds no rows; expected one for each example"),
        ("1.5,2,0\n1,2,1\n", "the first line has numbers alone; expected the names of the columns, one of them la"),
        ("a,b,y\n1,2,0\n1,,1\n1,NA,1\n", r"column 'b': 2 of 3 values are missing, the first in row 1 \(counted fr"),
        ("a,y\n1,0\n2,\n", "column 'y': 1 of 2 values are missing, the first in row 1"),
        ("a,y\n1,\n2,x\n", "column 'y': 1 of 2 values are missing, the first in row 0"),
        ("a,b,c,y\n1,x,2020-01-01,0\n2,z,2020-01-02,1\n",
         r"no numbers in the columns b \(string\), c \(date32\[day\]\); leave them out, or .* as pandas.get_dummies"),
        ("y\n1\n", "holds labels alone; expected columns of numbers"),
        ("a,y\n1,0\n2\n", "not a readable table: .*Expected 2 columns, got 1"),
        ("a,y\n1e300,0\n2,1\n", "row 0, column 0 is inf; expected finite numbers"),
        ("a,y\n1,0.5\n2,1\n", r" \(y\): label 0.5 of example 0; expected whole numbers, or text"),
    )  # fmt: skip
    def test_what_cannot_be_used(self, text, message):
        (self.folder / "data.csv").write_text(text)
        with self.assertRaisesRegex(DataError, f"data.csv.*{message}"):
            load(self.folder / "data.csv")

    def test_missing_values_in_parquet(self):
        height = np.where(np.arange(60) == 7, np.nan, self.columns["height"])
        for values in (height, pa.array(height, from_pandas=True)):
            with self.assertRaisesRegex(DataError, "column 'height': 1 of 60 values are missing, the first in row 7"):
                load(self.parquet({"height": values, "y": self.labels}))
        with self.assertRaisesRegex(DataError, r"column 'y' is of type list<.*>; expected integers or text as labels"):
            load(self.parquet({"a": self.labels, "y": [[1]] * 60}))

    def test_options(self):
        path = self.csv({**self.columns, "y": self.labels})
        with self.assertRaisesRegex(
            ConfigError, "^label_column=z: .*data.csv has the columns height, count, is old, y$"
        ):
            load(path, label_column="z")
        with self.assertRaisesRegex(ConfigError, "^label_column=y: is for tables, .*, and digits is none$"):
            load("digits", label_column="y")

    def test_without_the_package(self):
        path = self.csv({**self.columns, "y": self.labels})
        gone = dict.fromkeys(("pyarrow", "pyarrow.csv", "pyarrow.parquet"))
        with mock.patch.dict(sys.modules, gone), self.assertRaisesRegex(
            DataError, r"data.csv: is read by a package that is not there: pip install 'tfpipe\[tables\]'$"
        ):  # fmt: skip
            load(path)

    def damaged(self, step):
        columns = {name: values[:6] for name, values in self.columns.items()} | {"y": self.labels[:6]}
        for write in (self.csv, self.parquet):
            path = write(columns)
            data = path.read_bytes()
            for place in range(0, len(data), step):
                changed = bytearray(data)
                changed[place] ^= 0xFF
                for content in (data[:place], bytes(changed)):
                    path.write_bytes(content)
                    try:
                        load(path, validation_split=1, test_split=1)
                    except (DataError, ConfigError) as error:
                        self.assertNotIn("\n", str(error))

    def test_damaged_files(self):
        self.damaged(step=11)


if __name__ == "__main__":
    absltest.main()
