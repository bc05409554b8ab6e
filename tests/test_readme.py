"""The pages keep their word: their programs run, and what they name is there."""

import importlib
import os
import pathlib
import types
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

import tfpipe
from experiments.check_exports import PROGRAMS
from tests import made, test_structure
from tfpipe.data.readers import registry
from tfpipe.exceptions import DataError
from tfpipe.model import artifact

REPOSITORY = pathlib.Path(__file__).parent.parent
PAGES = sorted(str(path.relative_to(REPOSITORY)) for path in (*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md")))


def text(page):
    return (REPOSITORY / page).read_text("utf-8")


def blocks(page, language="python"):
    """The examples on a page."""
    return [part.split("```")[0] for part in text(page).split(f"```{language}\n")[1:]]


def block(page, words):
    """The first one that has these words."""
    return next(one for one in blocks(page) if words in one)


def code(page):
    """What stands between backticks on a page, outside of its examples."""
    return "".join(text(page).split("```")[::2]).split("`")[1::2]


def run(program, **names):
    """The names that there are at the end of a program, which has some at its beginning."""
    exec(program, names)
    return names


class ReadmeTest(tf.test.TestCase):
    def test_the_model_needs_numpy_alone(self):
        on_the_page = block("README.md", "np.load")
        self.assertNotIn("tfpipe", on_the_page)
        folder = pathlib.Path(self.create_tempdir().full_path)
        tfpipe.train(tfpipe.TrainConfig(batch_size=10, epochs=1, device="cpu"), made.splits(), folder / "run")
        before = pathlib.Path.cwd()
        os.chdir(folder / "run")
        self.addCleanup(os.chdir, before)
        expected = artifact.load("model.npz").probabilities(np.zeros((1, 24)))
        self.assertAllClose(run(on_the_page)["p"], expected, rtol=1e-12)
        # And it is the program that is asked for all test images of MNIST.
        model, *program = PROGRAMS["numpy"].strip().splitlines()
        self.assertEqual(model, "model = np.load(model)")
        self.assertLen(program, 3)
        self.assertIn("\n".join(program), on_the_page)

    def test_the_python_interface(self):
        names = run(block("README.md", "tfpipe.train("))
        report = names["result"].report
        # The first result on the page; another processor may differ by an example.
        self.assertAlmostEqual(report["validation_error"] * 1438, 46, delta=1.01)
        self.assertAlmostEqual(report["test_error"] * 359, 14, delta=1.01)
        self.assertAlmostEqual(report["l2"], 4.314e-05, delta=1e-08)
        self.assertTrue(report["converged"])
        self.assertEqual(names["model"].W.shape, (64, 10))

    def test_the_estimator(self):
        model = run(block("README.md", "tfpipe.SoftmaxClassifier("))["model"]
        self.assertEqual(model.coef_.shape, (3, 13))
        self.assertLess(model.certificate_, 1e-12)


class FromTheanoTest(tf.test.TestCase):
    def test_the_tutorials_loop_and_train_end_alike(self):
        ours = [one for one in blocks("docs/from_theano.md") if "# Theano" not in one.splitlines()[0]]
        names = run("".join(ours))
        splits, result = names["splits"], names["result"]
        self.assertEqual((names["iteration"], result.report["iterations"]), (219, 220))
        validation, test = ((part.images / 16, part.labels) for part in (splits.validation, splits.test))
        # Both compute in float32, and sum in another order. The rate is one at which what was rounded does not grow, so
        # 220 steps differ by a few 2^-24 each.
        cost = names["model"].negative_log_likelihood(*validation)
        self.assertAllClose(result.history[-1].validation_cost[0], cost, rtol=220 * 2**-23)
        # So an example may fall on the other side, if its two largest probabilities are as near.
        wrong = {"validation": names["best_validation_error"], "test": names["test_error"]}
        for split, (_, labels) in (("validation", validation), ("test", test)):
            self.assertAlmostEqual(wrong[split], result.report[f"{split}_error"], delta=1.01 / len(labels))


class ContributingTest(tf.test.TestCase):
    def test_the_picture_is_the_order_of_imports(self):
        first, *others = blocks("CONTRIBUTING.md", "text")[0].splitlines()
        names = [set(line[: first.index("flags")].split()) for line in (first, *others)]
        there = {path.name.removesuffix(".py") for path in (REPOSITORY / "tfpipe").iterdir()}
        self.assertEqual(names, [layer & there for layer in test_structure.LAYERS])

    def test_the_format(self):
        reader = run(block("CONTRIBUTING.md", "def recognise"))
        entry = eval(
            block("CONTRIBUTING.md", "Format("), {"Format": registry.Format, "csv": types.SimpleNamespace(**reader)}
        )
        path = pathlib.Path(self.create_tempdir().full_path, "digits.csv")
        pixels, labels = made.images(40)
        rows = np.column_stack([labels, pixels.reshape(40, -1)])
        np.savetxt(path, rows, "%d", delimiter=",", header="label,pixels", comments="")
        with mock.patch.object(registry, "FORMATS", (*entry, *registry.FORMATS)):
            splits = tfpipe.load(path)
            self.assertAllEqual(splits.train.stored, pixels.reshape(40, -1))
            self.assertAllEqual(splits.test.labels, labels[splits.test.rows])
            self.assertEqual((len(splits.train), len(splits.validation), len(splits.test)), (24, 8, 8))
            self.assertEqual(splits.pixel_max, 255)
            path.write_text("label,pixels\n1,2,300\n")
            with self.assertRaisesRegex(DataError, r"digits\.csv: not a table of bytes: .*300.*; expected a label"):
                tfpipe.load(path)

    def test_the_solver_is_the_one_of_the_tests(self):
        solver = (REPOSITORY / "tests" / "test_solver.py").read_text("utf-8")
        for words in ("class Momentum", "tf.GradientTape"):
            self.assertIn(block("CONTRIBUTING.md", words), solver)

    def test_the_listener(self):
        config = tfpipe.TrainConfig(batch_size=10, epochs=3, device="cpu")
        history = tfpipe.train(config, made.splits()).history
        path = pathlib.Path(self.create_tempdir().full_path, "best.csv")
        listener = run(block("CONTRIBUTING.md", "class Spreadsheet"))["Spreadsheet"](path)
        listener.validated(history[:2])
        listener.validated(history[2:])
        listener.close()
        expected = [f"{event.iteration},{event.best_error}" for event in history]
        self.assertEqual(path.read_text().splitlines(), expected)
        self.assertEqual(expected[-1].split(",")[0], "29")


class NamesTest(parameterized.TestCase):
    @parameterized.parameters(PAGES)
    def test_links_lead_somewhere(self, page):
        targets = [part.split(")")[0].split("#")[0] for part in text(page).split("](")[1:]]
        for target in targets:
            if target and "://" not in target:
                self.assertTrue(((REPOSITORY / page).parent / target).exists(), f"{page}: {target}")

    @parameterized.parameters(*(page for page in PAGES if page != "CHANGELOG.md"))
    def test_files_are_there(self, page):
        for name in code(page):
            if name.startswith(("tfpipe/", "tests/", "experiments/", "docs/")):
                self.assertTrue((REPOSITORY / name.split()[0]).exists(), f"{page}: {name}")

    @parameterized.parameters(("docs/glossary.md", 50), ("docs/from_theano.md", 10))
    def test_concepts_have_homes(self, page, at_least):
        rows = [line.strip("| ").split(" | ") for line in text(page).splitlines() if line.startswith("| ")]
        homes = [name for row in rows if len(row) == 3 for name in row[2].split("`")[1::2]]
        self.assertGreaterEqual(len(homes), at_least)
        for home in homes:
            self.assertTrue(leads_somewhere(home.split(".")), f"{page}: {home}")


def leads_somewhere(parts):
    """Whether `tfpipe` has a module of such a name, or something in one."""
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(["tfpipe", *parts[:length]]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part, None)
        return found is not None
    return False


if __name__ == "__main__":
    absltest.main()
