import dataclasses
import io
import pathlib
import sys
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from absl.testing import absltest, parameterized

from tfpipe import load
from tfpipe.config import DataConfig
from tfpipe.data import description, loading
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

    def test_a_column_that_float32_cannot_tell_apart(self):
        seconds = 1_700_000_000 + np.arange(60)
        of_types = [seconds, seconds.astype(np.int32), seconds.astype(np.uint64), seconds + 0.5]
        paths = [self.csv({"t": seconds, "label": self.labels})]
        paths += [
            self.parquet({"a": self.rows[:, 0], "t": times, "label": self.labels}, f"{number}.parquet")
            for number, times in enumerate(of_types)
        ]
        for path in paths:
            with self.assertRaisesRegex(
                DataError,
                f"^{path}: column 't' lies at 1700000030 varying by 17.3, which float32, .* cannot tell apart; take",
            ):
                load(path)
        days = self.parquet({"t": seconds * 86_400 % 10**9, "label": self.labels})
        np.testing.assert_array_equal(
            load(days, split_order="end").train.images[:, 0], (seconds * 86_400 % 10**9)[:36].astype(np.float32)
        )

    def test_columns_that_are_seldom_features_are_told(self):
        more = {"ID": range(60), "weight": np.ones(60, int), "groups": range(60)}
        path = self.csv({**self.columns, **more, "label": self.labels})
        with self.assertLogs("absl", "WARNING") as logged:
            self.assertEqual(load(path).image_shape, (6,))
        (line,) = logged.output
        self.assertEqual(
            line,
            f"WARNING:absl:{path}: 'ID', 'weight', 'groups' are features like any other; if not meant so, "
            "leave them out, and give --sample_weight=FILE and --groups=FILE",
        )
        with self.assertNoLogs("absl", "WARNING"):
            load(self.csv({**self.columns, "y": self.labels}))

    @parameterized.parameters(
        (["1.5"] * 40 + ["n/k"] + ["2"] * 19, "column 'x', row 40 .*: 'n/k' is no number, as most values there are"),
        (
            ['"0,126"'] * 60,
            "column 'x', row 0 .*: '0,126' is no number; expected a decimal point and no comma, such as 0.126",
        ),
        (
            ["1"] * 7 + ['"-1,5"'] * 53,
            "column 'x', row 7 .*: '-1,5' is no number; expected a decimal point and no comma, such as -1.5",
        ),
        (["a", "b"] * 30, r"no numbers in the columns x \(string\)"),
    )
    def test_text_among_numbers_is_named(self, values, message):
        with self.assertRaisesRegex(DataError, message):
            load(self.csv({"x": values, "label": self.labels}))

    def test_files_that_are_not_in_utf_8(self):
        names = np.array(["caf\u00e9", "t\u00e9", "lait"])[self.labels]
        plain = {"x": range(60), "label": names}
        long = ["a" * 300, "b"] * 29 + ["caf\u00e9"] * 2  # Not where the first line is read.
        for columns, encoding, message in (
            (plain, "utf-16", "is in UTF-16; save it as UTF-8"),
            (plain, "latin-1", "is no text in UTF-8; save it as UTF-8"),
            (
                {"label": long, "x": range(60)},
                "latin-1",
                "is no text in UTF-8, in the column 'label'; save it as UTF-8",
            ),
        ):
            path = self.csv(columns, encoding=encoding)
            with self.assertRaisesRegex(DataError, f"^{path}: {message}"):
                load(path)

    def test_names_of_columns_with_other_delimiters_in_quotes(self):
        path = self.csv({'"a;b;c;d"': range(60), "x": range(60), "label": self.labels})
        self.assertEqual([str(column) for column in load(path).columns], ["a;b;c;d", "x"])

    def test_a_line_for_excel_is_refused(self):
        path = self.csv(self.columns | {"label": self.labels}, delimiter=";")
        path.write_text("sep=;\n" + path.read_text())
        with self.assertRaisesRegex(
            DataError, "the first line is sep=;; expected the names of the columns: remove this"
        ):
            load(path)

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

    @parameterized.parameters(
        (["007", "7", "12"], ["007", "12", "7"], [0, 2, 1]),
        (["01", "02", "01"], ["01", "02"], [0, 1, 0]),
        (["+1", "1", "2"], ["+1", "1", "2"], [0, 1, 2]),
        (["0", "10", "2"], [str(number) for number in range(11)], [0, 10, 2]),
        (["1", "10", "2.0"], ["1", "2", "10"], [0, 2, 1]),
    )
    def test_codes_as_labels_of_csv(self, labels, class_names, numbers):
        labels = np.array(labels)[np.arange(60) % 3]
        self.assert_reads(
            self.csv({**self.columns, "y": labels}), np.array(numbers)[np.arange(60) % 3], tuple(class_names)
        )

    def test_codes_as_numbers_of_classes(self):
        labels = [f"{label:02}" for label in self.labels]
        self.assert_reads(self.csv({**self.columns, "y": labels}), numbered_classes=True)

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
         r"no numbers in the columns b \(string\), c \(date32\[day\]\); --categorical=b makes .*, or leave them out$"),
        ("b,c,y\n2020-01-01,0,0\n2020-01-02,1,1\n", r"no numbers in .* b \(date32\[day\]\); leave them out, or make n"),
        ("b,c,y\nx.png,0,0\nz.png,1,1\n", "--categorical=b makes .*, --images_dir=FOLDER says where pictures lie"),
        ("split,a,y\ntrain,1,0\nholdout,2,1\n", "column 'split': 'holdout' in row 1 .*; expected train, validation or"),
        ("split,a,y\ntrain,1,0\n,2,1\n", "column 'split': 1 of 2 values are missing, the first in row 1"),
        ("split,a,y\ntest,1,0\nval,2,1\n", "no row is for training; expected train in one at least"),
        ("split,Set,a,y\ntest,train,1,0\nval,dev,2,1\n", "the columns split and Set may both say the splits; leave"),
        ("split,a,y\ntrain,1,r\ntrain,1,s\ntest,1,t\n", "an example for test is of the class t, which no training exa"),
        ("split,a,y\ntrain,1,0\ntrain,1,1\ntest,1,2\n", "an example for test is of the class 2, which no training exa"),
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


class CategoriesTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        random = np.random.default_rng(0)
        self.table = {
            "height": random.normal(size=60).round(3),
            "colour": np.array(["red", "blue", "Green"])[random.integers(0, 3, 60)],
            "floor": random.choice([10, 9, -1], 60),
            "y": random.integers(0, 2, 60),
        }

    def write(self, name="data.csv", **changed):
        columns = {name: values for name, values in (self.table | changed).items() if values is not None}
        path = self.folder / name
        if name.endswith(".csv"):
            lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
            path.write_text("\n".join(lines) + "\n")
        else:
            pq.write_table(pa.table(columns), path)
        return path

    def load(self, path, categorical=("colour", "floor"), **options):
        return load(path, categorical=categorical, validation_split=10, test_split=10, split_order="end", **options)

    def rows(self, *columns):
        return np.stack(columns, axis=1).astype(np.float32)

    @parameterized.parameters("data.csv", "data.parquet")
    def test_a_column_of_0_and_1_for_each_value_in_order(self, name):
        splits = self.load(self.write(name))
        titles = ["height", "colour=Green", "colour=blue", "colour=red", "floor=-1", "floor=9", "floor=10"]
        self.assertEqual(list(map(str, splits.columns)), titles)
        colour, floor = self.table["colour"], self.table["floor"]
        of_colour = [colour == value for value in ("Green", "blue", "red")]
        expected = self.rows(self.table["height"], *of_colour, *(floor == value for value in (-1, 9, 10)))
        for part, rows in ((splits.train, slice(40)), (splits.validation, slice(40, 50)), (splits.test, slice(50, 60))):
            np.testing.assert_array_equal(part.images, expected[rows])
        self.assertEqual((splits.pixel_max, splits.train.images.dtype), (1.0, np.float32))
        self.assertEqual(description.describe(splits)["columns"], titles)
        # One column, by its name alone; the other stays a number.
        one = self.load(self.write(name), "colour")
        np.testing.assert_array_equal(one.train.images[:, -1], floor[:40])
        self.assertLen(one.columns, 5)

    def test_other_types_of_categories(self):
        floor = self.table["floor"]
        expected = self.rows(*(floor == value for value in (-1, 9, 10)))
        for values in (
            pa.array(floor, pa.int8()),
            pa.array(floor, pa.float32()),
            pa.array(floor.astype(str)).dictionary_encode(),
            # Of a dictionary with a value that no row has.
            pa.DictionaryArray.from_arrays(pa.array([(9, -1, 7, 10).index(value) for value in floor]), [9, -1, 7, 10]),
        ):
            splits = self.load(self.write("data.parquet", colour=None, height=None, floor=values), ("floor",))
            titles = [str(column) for column in splits.columns]
            self.assertCountEqual(titles, ["floor=-1", "floor=9", "floor=10"])
            order = [titles.index(title) for title in ("floor=-1", "floor=9", "floor=10")]
            np.testing.assert_array_equal(splits.train.images[:, order], expected[:40])
        splits = self.load(self.write("data.parquet", colour=None, height=None, floor=floor == 9), ("floor",))
        self.assertEqual([str(column) for column in splits.columns], ["floor=False", "floor=True"])
        np.testing.assert_array_equal(splits.train.images, self.rows(floor != 9, floor == 9)[:40])

    def test_a_missing_value_has_a_column_of_its_own(self):
        colour = np.where(np.arange(60) % 7 == 0, "", self.table["colour"])
        floor = np.where(np.arange(60) % 5 == 0, np.nan, self.table["floor"])
        titles = ["colour=", "colour=Green", "colour=blue", "colour=red", "floor=", "floor=-1", "floor=9", "floor=10"]
        paths = [
            self.write(colour=colour, floor=["" if np.isnan(value) else int(value) for value in floor]),
            self.write("data.parquet", colour=[value or None for value in colour], floor=floor),
            self.write("other.parquet", colour=colour, floor=pa.array(floor, from_pandas=True)),
        ]
        for path in paths:
            with self.assertLogs("absl", "INFO") as logged:
                splits = self.load(path)
            self.assertIn("column 'colour': 9 of 60 values are missing: that is 'colour='", "".join(logged.output))
            self.assertIn("column 'floor': 12 of 60 values are missing: that is 'floor='", "".join(logged.output))
            self.assertEqual(list(map(str, splits.columns)), ["height", *titles])
            expected = np.stack([colour[:40] == "", np.isnan(floor[:40])], axis=1)
            np.testing.assert_array_equal(splits.train.images[:, [1, 5]], expected)

    def test_bytes_beside_categories_are_numbers(self):
        pixels = np.random.default_rng(0).integers(0, 256, 60).astype(np.uint8)
        splits = self.load(self.write("data.parquet", height=pixels, floor=None), ("colour",))
        np.testing.assert_array_equal(splits.train.images[:, 0], pixels[:40])
        self.assertEqual((splits.train.images.dtype, splits.pixel_max), (np.float32, 1.0))

    def test_codes_of_csv_are_text(self):
        codes = np.array(["01", "1", "001"])[np.arange(60) % 3]
        flags = np.where(np.arange(60) % 2, "true", "false")
        days = np.where(np.arange(60) % 4 == 1, "2020-01-02", "2020-01-01")
        table = {"height": None, "colour": None, "floor": None, "zip": codes, "flag": flags, "day": days}
        splits = self.load(self.write(**table), ("zip", "flag", "day"))
        titles = ["zip=001", "zip=01", "zip=1", "flag=false", "flag=true", "day=2020-01-01", "day=2020-01-02"]
        self.assertEqual(list(map(str, splits.columns)), titles)
        expected = [codes == "001", codes == "01", codes == "1", flags == "false", flags == "true"]
        expected += [days == "2020-01-01", days == "2020-01-02"]
        np.testing.assert_array_equal(splits.train.images, self.rows(*expected)[:40])

    @parameterized.parameters(
        # Numbers, as pandas writes them where one is missing; and codes, beside which they are text.
        (["10.0", "9", "", "NA", "-1.0"], ["c=", "c=-1", "c=9", "c=10"], [3, 2, 0, 0, 1]),
        (["10.0", "9", "", "NA", "009"], ["c=", "c=009", "c=10.0", "c=9", "c=NA"], [2, 3, 0, 4, 1]),
        (["2", "2.0", "2", "1", "1"], ["c=1", "c=2"], [1, 1, 1, 0, 0]),
    )
    def test_numbers_as_text(self, values, titles, places):
        values = np.array(values)[np.arange(60) % 5]
        splits = self.load(self.write(height=None, colour=None, floor=None, c=values), ("c",))
        self.assertEqual(list(map(str, splits.columns)), titles)
        np.testing.assert_array_equal(splits.train.images.argmax(axis=1), np.array(places)[np.arange(40) % 5])
        np.testing.assert_array_equal(splits.train.images.sum(axis=1), np.ones(40))

    def test_too_many_values(self):
        rows = np.arange(1200)
        table = {"colour": None, "floor": None, "height": rows % 7, "y": rows % 2}
        with self.assertRaisesRegex(DataError, "column 'id' has 1001 different values, expected at most 1000; leave "):
            self.load(self.write(**table, id=[f"n{row % 1001}" for row in rows]), ("id",))
        self.assertEqual(self.load(self.write(**table, id=[f"n{row % 1000}" for row in rows]), ("id",)).n_in, 1001)
        table = {name: values if values is None else values[:150] for name, values in table.items()}
        with self.assertRaisesRegex(
            DataError, "column 'id' has 150 different values, one for each row, so they tell no"
        ):
            self.load(self.write(**table, id=[f"n{row}" for row in rows[:150]]), ("id",))

    @parameterized.parameters(
        (("z",), ConfigError, "categorical=z: .*data.csv has no column 'z', but height, colour, floor, y$"),
        (("colour", "y"), ConfigError, "categorical=colour,y: 'y' has the labels, which are categories in any case$"),
        (("height", "colour"), DataError, "column 'height' holds [-.0-9]*; expected text or integers as categories$"),
        (("colour", "colour"), ConfigError, "categorical=colour,colour: names a column twice$"),
        (("a,b",), ConfigError, "categorical=a,b: must be names of columns, with commas between them"),
        (("",), ConfigError, "categorical=: must be names of columns"),
    )
    def test_what_cannot_be_used(self, categorical, error, message):
        with self.assertRaisesRegex(error, message):
            self.load(self.write(), categorical)

    def test_other_types_and_other_data(self):
        path = self.write("data.parquet", floor=[[1]] * 60)
        with self.assertRaisesRegex(DataError, r"column 'floor' is of type list<.*>; expected text or integers as cat"):
            self.load(path)
        with self.assertRaisesRegex(
            ConfigError, "^categorical=a,b: is for tables of features, .*, and digits is none$"
        ):
            load("digits", categorical=("a", "b"))


class SplitColumnTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        random = np.random.default_rng(0)
        self.words = random.permutation(np.repeat(["train", "val", "test"], [30, 10, 20]))
        self.rows = random.normal(size=(60, 2)).round(3).astype(np.float32)
        self.labels = np.arange(60) % 3

    def write(self, name, words, file="data.csv"):
        columns = {"a": self.rows[:, 0], name: words, "b": self.rows[:, 1], "y": self.labels}
        if file.endswith(".parquet"):
            pq.write_table(pa.table(columns), self.folder / file)
        else:
            lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
            (self.folder / file).write_text("\n".join(lines))
        return self.folder / file

    def assert_divided(self, splits, **words):
        for split, of_split in words.items():
            part, rows = getattr(splits, split), np.flatnonzero(np.isin(self.words, of_split))
            np.testing.assert_array_equal(part.images, self.rows[rows])
            np.testing.assert_array_equal(part.labels, self.labels[rows])

    @parameterized.product(name=("split", "Set", "SUBSET"), file=("data.csv", "data.parquet"))
    def test_it_divides_the_rows(self, name, file):
        splits = load(self.write(name, self.words, file))
        self.assert_divided(splits, train="train", validation="val", test="test")
        self.assertEqual((splits.taken, splits.n_in), ((), 2))
        self.assertEqual(set(splits.brought), {"validation", "test"})
        (note,) = splits.notes
        self.assertEndsWith(note, f"the column '{name}' divides the rows: 30 for train, 10 for validation, 20 for test")
        orders = [of_split["split_order"] for of_split in description.describe(splits)["splits"].values()]
        self.assertEqual(orders, [None, None, None])

    def test_other_words_and_categories(self):
        other = {"train": "Training", "val": "dev", "test": "TESTING"}
        self.assert_divided(load(self.write("split", [other[w] for w in self.words])), train="train", validation="val")
        spaces = np.char.add(np.char.add(" ", self.words), " ")
        self.assert_divided(load(self.write("split", spaces)), train="train", validation="val", test="test")
        words = pa.array(self.words).dictionary_encode()
        self.assert_divided(load(self.write("split", words, "data.parquet")), train="train", test="test")

    def test_what_it_does_not_say_is_drawn_from_training(self):
        words = np.where(self.words == "val", "train", self.words)
        splits = load(self.write("split", words), validation_split=12)
        self.assert_divided(splits, test="test")
        self.assertEqual((splits.taken, splits.brought), (("validation",), ("test",)))
        self.assertEqual((len(splits.train), len(splits.validation)), (28, 12))
        self.assertEqual(np.bincount(splits.validation.labels).sum(), 12)
        both = np.concatenate([splits.train.rows, splits.validation.rows])
        np.testing.assert_array_equal(np.sort(both), np.flatnonzero(words == "train"))

    def test_weights_and_groups_stay_with_their_rows(self):
        weights, groups = np.arange(1.0, 61), np.arange(60)
        np.save(self.folder / "weights.npy", weights)
        np.save(self.folder / "groups.npy", groups)
        options = {"sample_weight": self.folder / "weights.npy", "groups": self.folder / "groups.npy"}
        splits = load(self.write("split", self.words), **options)
        for split, word in (("train", "train"), ("validation", "val"), ("test", "test")):
            part, rows = getattr(splits, split), np.flatnonzero(self.words == word)
            np.testing.assert_array_equal(part.weights, weights[rows])
            np.testing.assert_array_equal(part.groups, groups[rows])
        np.save(self.folder / "groups.npy", groups // 30)
        with self.assertRaisesRegex(
            DataError, r"data.csv.*: row \d+, for \w+, is of one group with row \d+, for train"
        ):
            load(self.write("split", self.words), **options)

    def test_numbers_in_such_a_column_are_features(self):
        with self.assertLogs("absl", "WARNING") as logged:
            splits = load(self.write("split", self.labels))
        self.assertEqual((splits.n_in, splits.brought), (3, ()))
        np.testing.assert_array_equal(splits.train.images[:, 1], self.labels[splits.train.rows])
        (line,) = logged.output
        self.assertIn("the column 'split' does not divide the rows: it is of type int64, not text; it is a feat", line)
        self.assertIn("--split_file=FILE; if not, name it in --categorical, or call it something else", line)
        with self.assertRaisesRegex(DataError, r"no numbers in the columns set \(string\)"):
            load(self.write("set", np.where(self.words == "val", "a", "b")))
        with self.assertNoLogs("absl", "WARNING"):
            self.assertEqual(load(self.write("set", self.words), categorical="set").n_in, 5)
            self.assertEqual(load(self.write("set", self.labels), categorical="set").n_in, 5)

    @parameterized.parameters(False, True)
    def test_values_of_categories_are_those_of_training_rows(self, in_file):
        kinds = np.where(np.arange(60) % 2, "b", "a")
        kinds[np.flatnonzero(self.words == "test")[:4]] = ["x", "z", "x", "a"]
        self.labels, labels = kinds, self.labels  # In the place of the column y.
        np.save(self.folder / "weights.npy", np.arange(1.0, 61))
        (self.folder / "splits.txt").write_text("\n".join(self.words))
        path = self.write("label" if in_file else "split", labels if in_file else self.words)
        if not in_file:
            text = path.read_text().splitlines()
            path.write_text("\n".join(f"{line},{end}" for line, end in zip(text, ["label", *labels], strict=True)))
        config = DataConfig(
            str(path), label_column="label", categorical=("y",), sample_weight=str(self.folder / "weights.npy"),
            split_file=str(self.folder / "splits.txt") if in_file else None,
        )  # fmt: skip
        with self.assertLogs("absl", "WARNING") as logged:
            splits = loading.loaded(config)
        (line,) = logged.output
        said = "3 of 60 rows have values that no training row has, and count as none of the values of their columns"
        self.assertIn(f"data.csv: {said}: 'y=x', 'y=z'", line)
        self.assertEqual(list(map(str, splits.columns)), ["a", "b", "y=a", "y=b"])
        expected = np.stack([*self.rows.T, kinds == "a", kinds == "b"], axis=1)
        for split, word in (("train", "train"), ("validation", "val"), ("test", "test")):
            part, rows = getattr(splits, split), np.flatnonzero(self.words == word)
            np.testing.assert_array_equal(part.images, expected[rows])
            np.testing.assert_array_equal(part.labels, labels[rows])
            np.testing.assert_array_equal(part.weights, 1.0 + rows)
        # A model that is measured may know them.
        columns = loading.loaded(config, ("0", "1", "2")).columns
        self.assertEqual(list(map(str, columns)), ["a", "b", "y=a", "y=b", "y=x", "y=z"])

    @parameterized.parameters(False, True)
    def test_to_measure_a_model_none_has_to_be_for_training(self, in_file):
        words = ["test"] * 60
        (self.folder / "splits.txt").write_text("\n".join(words))
        path = self.write("z" if in_file else "split", np.arange(60) if in_file else words)
        config = DataConfig(str(path), split_file=str(self.folder / "splits.txt") if in_file else None)
        with self.assertRaisesRegex(DataError, f"{'splits.txt' if in_file else 'data.csv'}: no row is for training"):
            loading.loaded(config)
        for changed in (config, dataclasses.replace(config, drop_duplicates=True, standardize=("columns",))):
            splits = loading.loaded(changed, ("0", "1", "2"))
            self.assertEqual([len(part) for part in (splits.train, splits.validation, splits.test)], [0, 0, 60])
            np.testing.assert_array_equal(splits.test.images[:, [0, -1]], self.rows)
            np.testing.assert_array_equal(splits.test.labels, self.labels)
            self.assertEqual((splits.brought, splits.taken, len(splits.fingerprint)), (("test",), (), 64))

    @parameterized.parameters(lambda label: "abc"[label], int)
    def test_to_measure_a_model_other_splits_may_have_other_classes(self, name):
        self.labels = np.array([name(label) for label in np.where(self.words == "test", 2, np.arange(60) % 2)])
        path = self.write("split", self.words)
        with self.assertRaisesRegex(DataError, f"an example for test is of the class {name(2)}, which no training"):
            load(path)
        splits = loading.loaded(DataConfig(str(path)), tuple(map(str, map(name, range(3)))))
        self.assertEqual(splits.class_names, tuple(map(str, map(name, range(3)))))
        np.testing.assert_array_equal(splits.test.labels, np.full(20, 2))
        np.testing.assert_array_equal(splits.train.labels, np.flatnonzero(self.words == "train") % 2)

    def test_not_twice(self):
        (self.folder / "splits.txt").write_text("\n".join(self.words))
        with self.assertRaisesRegex(ConfigError, "^split_file=.*splits.txt: .*data.csv brings its own; leave the file"):
            load(self.write("split", self.words), split_file=self.folder / "splits.txt")


if __name__ == "__main__":
    absltest.main()
