"""`tfpipe compare`: which examples are the same, what is said of them, and what is refused."""

import contextlib
import dataclasses
import html.parser
import io
import json
import math
import os
import pathlib
import shutil

import numpy as np
from absl import flags
from absl.testing import absltest, parameterized
from PIL import Image
from scipy import stats

from tests import made
from tests.command import python, result, tfpipe
from tfpipe import Examples, Splits, load
from tfpipe.cli import compare
from tfpipe.config import DataConfig, flag_lines
from tfpipe.exceptions import ConfigError, DataError
from tfpipe.model import artifact, comparison, matching
from tfpipe.statistics import paired

CLASSES = ("cat", "dog", "eel")


def fitted(splits, seed=0, noise=0.0):
    """A model that is right more often than not: least squares on the training examples, and noise."""
    x = splits.train.images.reshape(len(splits.train), -1).astype(np.float64)
    W = np.linalg.lstsq(np.c_[x, np.ones(len(x))], np.eye(splits.n_out)[splits.train.labels], rcond=1e-3)[0]
    W = 8 * (W + noise * np.std(W) * np.random.default_rng(seed).normal(size=W.shape))
    summary = {"fingerprint": splits.fingerprint}
    return artifact.TrainedModel(
        W[:-1], W[-1], splits.class_names, splits.image_shape, splits.white_pixel, summary, reading=splits.reading or
        artifact.Reading(),
    )  # fmt: skip


def arrays(n=90, n_test=40, **changes):
    """A data set of rows of features with a test split of its own, `[n_test, 6]`."""
    parts = {}
    for name, size in (("train", n), ("validation", 20), ("test", n_test)):
        random = np.random.default_rng(len(name))
        labels = random.integers(0, 3, size)
        images = (np.eye(3)[labels] @ np.ones((3, 6)).cumsum(axis=1) + random.normal(size=(size, 6))).astype(np.float32)
        of_split = {key: value for key, value in changes.items() if name == "test" or key == "class_names"}
        names = of_split.pop("class_names", None)
        parts[name] = Examples(images, labels if names is None else np.array(names)[labels], **of_split)
    return Splits(**parts, class_names=changes.get("class_names", CLASSES))


def measured(name, splits, model=None, part="test"):
    return matching.measure(name, f"{name}.npz", model or fitted(splits), splits, getattr(splits, part))


def renumbered(splits, order):
    """The same examples, their classes in another order."""
    names = tuple(splits.class_names[k] for k in order)
    place = np.argsort(order)
    parts = {}
    for name in ("train", "validation", "test"):
        part = getattr(splits, name)
        files = None if part.files is None else list(part.files)
        parts[name] = Examples(part.images, place[part.labels], weights=part.weights, groups=part.groups, files=files)
    return Splits(**parts, class_names=names)


class MatchTest(parameterized.TestCase):
    def test_rows_with_classes_in_another_order(self):
        splits = arrays()
        others = renumbered(splits, [2, 0, 1])
        first, second = fitted(splits), fitted(others, seed=3, noise=1)
        found = matching.match([measured("a", splits, first), measured("b", others, second)], "test")
        self.assertEqual((found.by, found.class_names), ("rows", CLASSES))
        np.testing.assert_array_equal(found.names, np.arange(40))
        # By the classes' names.
        truth = np.array(CLASSES)[splits.test.labels]
        for wrong, loss, model, part in zip(
            found.wrong, found.loss, (first, second), (splits.test, others.test), strict=True
        ):
            p = model.probabilities(part.images)
            predicted = np.array(model.class_names)[p.argmax(axis=1)]
            np.testing.assert_array_equal(wrong, predicted != truth)
            own = [model.class_names.index(name) for name in truth]
            np.testing.assert_allclose(loss, -np.log(p[np.arange(40), own]), rtol=1e-12)

    def test_files_in_another_order_of_which_each_run_lacks_some(self):
        files = [f"{number:02d}.png" for number in range(40)]
        splits = arrays(files=files)
        order = np.random.default_rng(0).permutation(40)[:35]
        test = splits.test
        shuffled = Examples(test.images[order], test.labels[order], files=[files[number] for number in order])
        others = dataclasses.replace(splits, test=shuffled)
        fewer = dataclasses.replace(splits, test=test.take(np.arange(2, 40)))
        model = fitted(splits)
        runs = [measured(name, of, model) for name, of in (("a", splits), ("b", others), ("c", fewer))]
        with self.assertLogs("absl", "WARNING") as logs:
            found = matching.match(runs, "test")
        expected = sorted(set(order) & set(range(2, 40)))
        self.assertEqual(found.by, "files")
        self.assertEqual(list(found.names), [files[number] for number in expected])
        (line,) = logs.output
        counts = f"{len(expected)} files are in the test split of every run, and these are compared"
        self.assertIn(f"{counts}: of 40 of a, 35 of b, 38 of c", line)
        np.testing.assert_array_equal(found.loss, np.broadcast_to(found.loss[0], found.loss.shape))

    def test_rows_where_one_run_alone_has_files(self):
        with_files = arrays(files=[f"{number}.png" for number in range(40)])
        found = matching.match([measured("a", with_files), measured("b", arrays())], "test")
        self.assertEqual(found.by, "rows")

    def refused(self, message, *runs, split="test"):
        with self.assertRaisesRegex(DataError, message):
            matching.match(runs, split)

    def test_a_folder_of_pictures_and_its_features_in_the_order_of_the_paths(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        random, features, labels = np.random.default_rng(0), [], []
        paths = sorted(f"{of_class}/{number:02}.png" for of_class in CLASSES for number in random.permutation(100)[:20])
        for path in paths:
            (folder / "pictures" / path).parent.mkdir(parents=True, exist_ok=True)
            pixels = random.integers(0, 256, (4, 4)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "pictures" / path)
            features.append(pixels.ravel() / 255)
            labels.append(path.partition("/")[0])
        np.savez(folder / "features.npz", X=np.array(features, np.float32), y=labels)
        words = random.permutation(["train"] * 40 + ["validation"] * 5 + ["test"] * 15)
        (folder / "splits.txt").write_text("\n".join(words))
        of_files, of_rows = (
            load(folder / name, split_file=folder / "splits.txt") for name in ("pictures", "features.npz")
        )
        found = matching.match([measured("a", of_files), measured("b", of_rows)], "test")
        self.assertEqual(found.by, "rows")
        self.assertEqual(sorted(found.names.tolist()), np.flatnonzero(words == "test").tolist())
        for place, row in enumerate(found.names):
            first, second = (part.test.images[found.places[i][place]] for i, part in enumerate((of_files, of_rows)))
            np.testing.assert_allclose(first.ravel() / 255, second, atol=1e-6)
            np.testing.assert_allclose(second, features[row], atol=1e-6)

    def test_what_cannot_be_matched(self):
        splits = arrays()
        ours = measured("a", splits)
        fewer = arrays(n_test=39)
        self.refused(
            r"^a and b: 40 rows in a\.npz, 39 in b\.npz; expected the same examples", ours, measured("b", fewer)
        )
        labels = splits.test.labels.copy()
        labels[[7, 9]] = (labels[[7, 9]] + 1) % 3
        other_labels = dataclasses.replace(splits, test=Examples(splits.test.images, labels))
        names = CLASSES[splits.test.labels[7]], CLASSES[labels[7]]
        self.refused(
            f"^a and b: other labels in 2 of 40 examples: row 7 is '{names[0]}', and '{names[1]}'; expected the same",
            ours,
            measured("b", other_labels),
        )
        named = arrays(class_names=("cat", "dog", "fox"))
        self.refused(
            "^a and b: other classes: a alone has eel, b alone has fox; expected the same", ours, measured("b", named)
        )
        self.refused("^b and a: other classes: b alone has fox, a alone has eel", measured("b", named), ours)

    def test_other_splits_of_the_same_rows(self):
        splits = arrays()
        parts = [np.arange(begin, 90, 3) for begin in range(3)]
        first, second, third = (splits.train.take(numbers) for numbers in parts)
        ours = Splits(first, second, third, CLASSES)
        theirs = Splits(first, second, splits.train.take(np.union1d(parts[2][:20], parts[1][20:])), CLASSES)
        self.refused(
            "^a and b: other test splits: 30 and 30 rows, 20 of them shared; expected one split_seed",
            measured("a", ours),
            measured("b", theirs),
        )
        # Of labels of rows in other splits too: as many examples of each class are in the test.
        labels = splits.train.labels.copy()
        labels[0] = (labels[0] + 1) % 3
        relabelled = Examples(splits.train.stored, labels)
        moved = Splits(*(relabelled.take(numbers) for numbers in parts), CLASSES)
        self.refused("other labels in 1 of 90 examples: row 0 is", measured("a", ours), measured("b", moved))

    def test_files_that_are_others(self):
        first, second = (arrays(files=[f"{name}/{number}.png" for number in range(40)]) for name in "xy")
        self.refused(
            "^a and b: share no file in the test split: 'x/0.png' is of the first, 'y/0.png' of the other; expected",
            measured("a", first),
            measured("b", second),
        )
        # Two of three runs share some, and all three none.
        names = [f"{number}.png" for number in range(40)]
        runs = [
            measured(
                name, arrays(files=[names[number] if number in those else f"{name}{number}" for number in range(40)])
            )
            for name, those in (("a", range(40)), ("b", range(20)), ("c", range(20, 40)))
        ]
        self.refused("^a, b, c: no file is in the test split of all of them", *runs)
        # And one that was moved to another class.
        splits = arrays(files=names)
        labels = splits.test.labels.copy()
        labels[3] = (labels[3] + 1) % 3
        moved = dataclasses.replace(splits, test=Examples(splits.test.images, labels, files=names))
        self.refused("other labels in 1 of 40 examples: 3.png is", measured("a", splits), measured("b", moved))

    def test_weights_and_groups(self):
        weights = np.random.default_rng(0).integers(0, 3, 40).astype(float)
        groups = np.arange(40) // 3
        splits = arrays(weights=weights, groups=groups)
        renamed = arrays(weights=weights, groups=99 - groups)
        found = matching.match([measured("a", splits), measured("b", renamed)], "test")
        np.testing.assert_array_equal(found.weights, weights)
        self.assertLen(np.unique(found.groups), 14)
        # One that knows none takes the other's; weights have to be the same ones.
        with self.assertLogs("absl", "WARNING") as logs:
            found = matching.match([measured("a", arrays()), measured("b", splits)], "test")
        self.assertIn("the runs weigh these examples differently, so each counts once here", logs.output[0])
        self.assertIsNone(found.weights)
        self.assertLen(np.unique(found.groups), 14)
        halves = arrays(groups=np.arange(40) // 2)
        self.refused(
            "^a and b: other groups of the same examples", measured("a", arrays(groups=groups)), measured("b", halves)
        )
        none = arrays(weights=np.where(np.arange(40) < 39, 0.0, 1.0))
        none = dataclasses.replace(none, test=none.test.take(np.arange(39)))
        self.refused("^a: the weight of every shared example is 0", measured("a", none), measured("b", none))
        alike = arrays(weights=np.full(40, 2.0))
        self.assertIsNone(matching.match([measured("a", alike), measured("b", alike)], "test").weights)


class PairsTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        # Of two classes: the largest probabilities, and whether they are of the label.
        self.labels = np.array([0, 1, 0, 1, 0, 1])
        self.of_labels = {
            "a": np.array([0.9, 0.8, 0.4, 0.3, 0.7, 0.6]),
            "b": np.array([0.9, 0.4, 0.45, 0.9, 0.2, 0.1]),
        }

    def matched(self, *names, weights=None, groups=None):
        rows, runs = np.arange(len(self.labels)), []
        for name in names:
            p = self.of_labels[name]
            predicted = np.where(p > 0.5, self.labels, 1 - self.labels)
            with np.errstate(divide="ignore"):
                loss = -np.log(p)
            of_examples = self.labels, predicted, np.maximum(p, 1 - p), loss, None, rows, self.labels, weights, groups
            runs.append(matching.Measured(name, "d", ("no", "yes"), *of_examples))
        return matching.match(runs, "test")

    def test_by_hand(self):
        matched = self.matched("a", "b")
        (pair,) = comparison.pairs(matched)
        # a is wrong on 2 and 3, b on 1, 2, 4 and 5.
        self.assertEqual(pair.counts.tolist(), [[1, 3], [1, 1]])
        self.assertEqual((pair.test, pair.p_value, pair.p_holm), ("mcnemar", 10 / 16, 10 / 16))
        self.assertEqual(pair.error, paired.error_difference(1, 3, 6))
        gains = np.log(self.of_labels["b"]) - np.log(self.of_labels["a"])
        expected = stats.ttest_1samp(gains, 0)
        np.testing.assert_allclose(pair.cost.value, gains.mean(), rtol=1e-12)
        interval = expected.confidence_interval()
        np.testing.assert_allclose((pair.cost.low, pair.cost.high), interval, rtol=1e-10)
        self.assertEqual(pair.first_better.tolist(), [5, 4, 1])
        self.assertEqual(pair.second_better.tolist(), [3, 2])

        told = comparison.content(matched, [pair], "test")
        self.assertEqual(json.loads(json.dumps(told, allow_nan=False)), told)
        self.assertEqual(
            {name: told[name] for name in ("split", "matched_by", "examples", "groups", "weighted", "confidence")},
            {
                "split": "test",
                "matched_by": "rows",
                "examples": 6,
                "groups": None,
                "weighted": False,
                "confidence": 0.95,
            },
        )
        self.assertEqual([run["error"] for run in told["runs"]], [2 / 6, 4 / 6])
        self.assertAlmostEqual(told["runs"][0]["cost"], -np.log(self.of_labels["a"]).mean(), delta=1e-14)
        (one,) = told["pairs"]
        counts = {"both_right": 1, "only_first_wrong": 1, "only_second_wrong": 3, "both_wrong": 1}
        self.assertEqual({name: one[name] for name in counts}, counts)
        self.assertEqual((one["first"], one["second"], one["p_value"]), ("a", "b", 10 / 16))
        example = one["first_better"][0]
        self.assertEqual((example["row"], example["file"], example["class"]), (5, None, "yes"))
        self.assertEqual((example["first"]["class"], example["second"]["class"]), ("yes", "no"))
        self.assertAlmostEqual(example["second"]["probability"], 0.9)
        self.assertAlmostEqual(example["second"]["loss"], -math.log(0.1))

    def test_groups_and_weights(self):
        groups, weights = np.array([0, 0, 1, 1, 2, 2]), np.array([1.0, 2, 1, 1, 0, 3])
        wrong = np.array([0, -1, 0, 1, -1, -1.0])
        gains = np.log(self.of_labels["b"]) - np.log(self.of_labels["a"])
        for given in ({"groups": groups}, {"weights": weights}, {"groups": groups, "weights": weights}):
            matched = self.matched("a", "b", **given)
            (pair,) = comparison.pairs(matched)
            both = {"weights": None, "groups": None} | given
            np.testing.assert_allclose(pair.error, paired.mean_difference(wrong, **both), rtol=1e-12)
            np.testing.assert_allclose(pair.cost, paired.mean_difference(gains, **both), rtol=1e-12)
            self.assertEqual((pair.test, pair.p_value), ("sign_flips", paired.sign_flips(wrong, **both)))
            told = comparison.content(matched, [pair], "test")
            self.assertEqual((told["groups"], told["weighted"]), (3 if "groups" in given else None, "weights" in given))
        self.assertAlmostEqual(told["runs"][0]["error"], 2 / 8)

    def test_losses_without_bound(self):
        self.of_labels["b"] = np.array([0.9, 0.0, 0.45, 0.9, 0.2, 0.0])
        self.of_labels["c"] = np.array([0.9, 0.0, 0.4, 0.3, 0.7, 0.6])
        matched = self.matched("a", "b", "c")
        found = comparison.pairs(matched)
        self.assertEqual([math.isnan(pair.cost.value) for pair in found], [True, True, True])
        self.assertEqual(found[0].first_better.tolist(), [1, 5, 4])
        self.assertEqual(found[2].second_better.tolist(), [5, 4])  # Example 1 tells b and c not apart.
        told = comparison.content(matched, found, "test")
        json.dumps(told, allow_nan=False)
        self.assertIsNone(told["runs"][1]["cost"])
        self.assertEqual(told["pairs"][0]["cost_difference"], dict.fromkeys(("value", "standard_error", "low", "high")))
        self.assertIsNone(told["pairs"][0]["first_better"][0]["second"]["loss"])

    def test_holms_correction_from_three_runs_on(self):
        random = np.random.default_rng(0)
        self.labels = random.integers(0, 2, 300)
        for name, error in (("a", 0.1), ("b", 0.2), ("c", 0.3)):
            self.of_labels[name] = np.where(random.random(300) < error, 0.3, 0.8)
        found = comparison.pairs(self.matched("a", "b", "c"))
        self.assertEqual([(pair.first, pair.second) for pair in found], [(0, 1), (0, 2), (1, 2)])
        raw = np.array([pair.p_value for pair in found])
        order = np.argsort(raw)
        expected = np.empty(3)
        expected[order] = np.maximum.accumulate(raw[order] * [3, 2, 1]).clip(max=1)
        np.testing.assert_allclose([pair.p_holm for pair in found], expected, rtol=1e-14)


class Page(html.parser.HTMLParser):
    """The text of a page's cells and headings, its pictures, and its elements."""

    def __init__(self, text):
        super().__init__()
        self.cells, self.headings, self.pictures, self.elements = [], [], [], set()
        self._open = None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.add(tag)
        self._open = {"td": self.cells, "th": self.cells, "h2": self.headings}.get(tag)
        if self._open is not None:
            self._open.append("")
        if tag == "img":
            self.pictures.append(dict(attributes))

    def handle_endtag(self, tag):
        self._open = None

    def handle_data(self, data):
        if self._open is not None:
            self._open[-1] += data


def made_run(folder, noise=0.0, saw_validation=False, **data):
    """A run as it is left, of a model that is not trained but fitted here."""
    config = DataConfig(**data)
    splits = load(**dataclasses.asdict(config))
    model = fitted(splits, seed=len(folder.name), noise=noise)
    folder.mkdir()
    artifact.save(folder / "model.npz", model._replace(summary=model.summary | {"saw_validation": saw_validation}))
    (folder / "flags.txt").write_text("\n".join([*flag_lines(config), "--solver=lbfgs"]))
    return folder, splits, model


def run_here(*arguments):
    """What the command writes to stdout and stderr, in this process."""
    values = flags.FlagValues()
    compare.define(values)
    work = compare.prepare(values, values(["tfpipe compare", *map(str, arguments)])[1:])
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        assert work() == 0
    return json.loads(output.getvalue()), errors.getvalue()


class CompareTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    def pictures(self):
        """A folder of pictures of classes with names that HTML has to escape."""
        images, labels = made.images(150, (12, 10), seed=5)
        images = np.minimum(255, images + 60 * np.random.default_rng(1).normal(size=images.shape)).clip(0)
        for number, (image, label) in enumerate(zip(images.astype(np.uint8), labels, strict=True)):
            path = self.folder / "data" / ("<b>&", "dog", "eel")[label] / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
        return str(self.folder / "data")

    def features(self):
        """Two sets of features of the same examples."""
        random = np.random.default_rng(2)
        labels = random.integers(0, 3, 200)
        latent = np.eye(3)[labels] + 0.5 * random.normal(size=(200, 3))
        np.save(self.folder / "y.npy", labels)
        found = []
        for width in (4, 9):
            np.save(self.folder / f"{width}.npy", (latent @ random.normal(size=(3, width))).astype(np.float32))
            found.append({"dataset": str(self.folder / f"{width}.npy"), "labels": str(self.folder / "y.npy")})
        return found

    def test_two_sizes_of_the_same_pictures(self):
        data = self.pictures()
        small, splits, first = made_run(self.folder / "small", dataset=data, image_size=(4, 3))
        large, other_splits, second = made_run(self.folder / "large", noise=1.5, dataset=data, image_size=(12, 10))
        page = self.folder / "compare.html"
        process = tfpipe("compare", small, large, f"--output={page}")
        told = result(process)
        self.assertEqual((told["matched_by"], told["examples"]), ("files", len(splits.test)))
        self.assertEqual([run["run"] for run in told["runs"]], [str(small), str(large)])
        wrong = [
            model.probabilities(of.test.images).argmax(axis=1) != of.test.labels
            for model, of in ((first, splits), (second, other_splits))
        ]
        only = int((wrong[0] & ~wrong[1]).sum()), int((wrong[1] & ~wrong[0]).sum())
        self.assertGreater(sum(only), 0)
        (pair,) = told["pairs"]
        self.assertEqual((pair["only_first_wrong"], pair["only_second_wrong"]), only)
        self.assertAlmostEqual(pair["p_value"], stats.binomtest(only[0], sum(only)).pvalue, delta=1e-12)
        self.assertAlmostEqual(pair["error_difference"]["value"], wrong[0].mean() - wrong[1].mean(), delta=1e-12)
        example = pair["first_better"][0]
        number = list(splits.test.files).index(example["file"])
        p = first.probabilities(splits.test.images[[number]])[0]
        self.assertEqual(example["class"], splits.class_names[splits.test.labels[number]])
        self.assertEqual(example["first"]["probability"], p.max())
        self.assertIn(f"{len(splits.test)} test examples, matched by the names of their files", process.stderr)
        self.assertRegex(process.stderr, rf"#1 - #2 +{only[0]} +{only[1]} ")
        # The page says the same, in text.
        shown = Page(page.read_text())
        self.assertLessEqual({"#1 - #2", str(only[0]), f"{pair['p_value']:.3g}", example["file"]}, set(shown.cells))
        self.assertContainsSubset([f"{run['error']:.2%}" for run in told["runs"]], shown.cells)
        self.assertNotIn("b", shown.elements)
        self.assertTrue(any(cell.startswith("<b>&") for cell in shown.cells))
        self.assertEqual(shown.headings[3:], ["Where #1 is farthest ahead of #2", "Where #2 is farthest ahead of #1"])
        self.assertLen(shown.pictures, 3)
        self.assertTrue(all(one["src"].startswith("data:image/png;base64,") for one in shown.pictures))
        # It stays unless that is asked for.
        with self.assertRaisesRegex(DataError, f"{page}: is there already; give another path, or --overwrite"):
            run_here(large, small, f"--output={page}")
        before = page.read_bytes()
        told, _ = run_here(large, small, f"--output={page}", "--overwrite")
        self.assertEqual(told["pairs"][0]["only_first_wrong"], only[1])
        self.assertNotEqual(page.read_bytes(), before)
        self.assertCountEqual(os.listdir(self.folder), ["compare.html", "data", "large", "small"])

    def test_features_of_the_same_examples(self):
        four, nine = self.features()
        runs = [
            made_run(self.folder / name, noise=noise, **data)[0]
            for name, noise, data in (("a", 0.0, four), ("bb", 0.5, four), ("ccc", 0.0, nine))
        ]
        page = self.folder / "compare.html"
        told, errors = run_here(*runs, f"--output={page}")
        self.assertEqual((told["matched_by"], told["examples"], len(told["pairs"])), ("rows", 40, 3))
        raw = sorted(pair["p_value"] for pair in told["pairs"])
        corrected = min(pair["p_holm"] for pair in told["pairs"])
        self.assertAlmostEqual(corrected, min(1, 3 * raw[0]))
        self.assertIn("p (Holm)", errors)
        # None are pictures, so one shows the differences, and rows stand for the examples.
        shown = Page(page.read_text())
        self.assertLen(shown.pictures, 1)
        self.assertIn(f"row {told['pairs'][0]['first_better'][0]['row']}", shown.cells)

    def test_groups(self):
        four, nine = self.features()
        (self.folder / "groups.txt").write_text("\n".join(str(number // 4) for number in range(200)))
        groups = {"groups": str(self.folder / "groups.txt")}
        runs = [made_run(self.folder / name, **data, **groups)[0] for name, data in (("a", four), ("b", nine))]
        told, errors = run_here(*runs)
        self.assertEqual((told["groups"], told["examples"], told["pairs"][0]["test"]), (10, 40, "sign_flips"))
        self.assertIn("40 test examples, in 10 groups, matched by their rows and labels", errors)
        self.assertIn("p (sign flips)", errors)

    def test_what_is_said_of_other_splits(self):
        four, nine = self.features()
        first, *_ = made_run(self.folder / "a", **four)
        second, *_ = made_run(self.folder / "b", saw_validation=True, **nine)
        with self.assertLogs("absl", "WARNING") as logs:
            told, _ = run_here(first, second, "--split=validation")
        self.assertEqual((told["split"], told["examples"]), ("validation", 40))
        (line,) = logs.output
        self.assertIn(f"{second}: the model was fitted on the validation examples: it has seen them", line)
        drawn, *_ = made_run(self.folder / "c", split_seed=1, **nine)
        with self.assertRaisesRegex(DataError, f"^{first} and {drawn}: other test splits: 40 and 40 rows, "):
            run_here(first, drawn)
        none, *_ = made_run(self.folder / "d", test_split=0, **nine)
        with self.assertRaisesRegex(ConfigError, f"split=test: {none} has no such examples"):
            run_here(first, none)

    def test_data_that_has_changed_or_gone(self):
        four, nine = self.features()
        runs = [made_run(self.folder / name, **data)[0] for name, data in (("a", four), ("b", nine))]
        np.save(nine["dataset"], np.load(nine["dataset"]) + 1)
        with self.assertRaisesRegex(
            DataError, r"b/flags.txt: the data that it names has changed .* train again on the"
        ):
            run_here(*runs)
        os.remove(nine["dataset"])
        with self.assertRaisesRegex(DataError, r"9\.npy.*b/flags.txt; train again on the data as it is now"):
            run_here(*runs)
        with self.assertRaisesRegex(DataError, r"none/model\.npz: cannot be read"):
            run_here(runs[0], self.folder / "none")

    @parameterized.parameters(
        ((), ("0 RUN; give the folders of two finished runs, or more (see tfpipe compare --help)",)),
        (("a",), ("1 RUN; give the folders",)),
        (("a", "b", "./a"), ("./a is given twice",)),
        (("a", ""), ("--workdir='': must be a path",)),
        (("a", "b", "--split=all"), ("--split=all", "train|validation|test")),
        (("a", "b", "--output="), ("--output=: must be the path of a file",)),
    )
    def test_wrong_usage(self, arguments, words):
        process = tfpipe("compare", *arguments)
        self.assertEqual((process.returncode, process.stdout), (2, ""))
        (line,) = process.stderr.splitlines()
        for word in words:
            self.assertIn(word, line)

    @parameterized.parameters(("none/page.html", "is no folder; give a path in one"), ("data", "is there, and no file"))
    def test_an_output_that_cannot_be_written(self, name, words):
        (self.folder / "data").mkdir()
        with self.assertRaisesRegex(DataError, words):
            run_here(self.folder / "a", self.folder / "b", f"--output={self.folder / name}", "--overwrite")

    def test_without_tensorflow(self):
        four, nine = self.features()
        runs = [str(made_run(self.folder / name, **data)[0]) for name, data in (("a", four), ("b", nine))]
        process = python(
            "import sys; from tfpipe.cli.main import main\n"
            "try:\n"
            f"    main(['tfpipe', 'compare', *{runs}, '--output={self.folder}/page.html'])\n"
            "finally:\n"
            "    print([name for name in ('tensorflow', 'sklearn') if name in sys.modules])"
        )
        self.assertEqual(process.stdout.splitlines()[-1], "[]", process.stderr)
        self.assertLen(process.stdout.splitlines(), 2)
        shutil.rmtree(self.folder / "a")
        self.assertIn("--split  (default: test)", tfpipe("compare", "--help").stdout)


if __name__ == "__main__":
    absltest.main()
