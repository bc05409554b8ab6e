"""The commands for a model that is there: evaluate, predict, export."""

import atexit
import csv
import functools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from absl.testing import absltest, parameterized
from PIL import Image
from sklearn import metrics

from tests import made
from tests.command import python, result, tfpipe, without_root_rights
from tfpipe import load
from tfpipe.config import Column, Reading
from tfpipe.model import artifact


def rows(process):
    return list(csv.DictReader(process.stdout.splitlines()))


@functools.cache
def trained():
    """A folder with pictures in folders, `data`, and a run on them, `run`."""
    folder = pathlib.Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    images, labels = made.images(120, (6, 5))
    for split, part in (("train", slice(0, 90)), ("test", slice(90, 120))):
        save_pictures(folder / "data" / split, images[part], labels[part])
    train(folder / "data", folder / "run")
    return folder


def save_pictures(folder, images, labels, classes="cde"):
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / classes[label] / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def train(data, workdir, *more):
    flags = ("--batch_size=10", "--epochs=30", "--device=cpu", "--notensorboard", *more)
    return result(tfpipe("train", f"--dataset={data}", f"--workdir={workdir}", *flags))


def tell_of_each_loading():
    from tfpipe.data import loading

    loaded = loading.loaded
    loading.loaded = lambda *arguments: print("loaded", flush=True) or loaded(*arguments)


def tell_pictures_at_once_on_one_core():
    from tfpipe.model import inference

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    inference.predict = lambda model, paths, *, at_once: print(at_once, "at once", flush=True) or iter(())


class ModelTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.scratch = pathlib.Path(self.create_tempdir().full_path)
        self.folder = trained()
        self.run_ = self.folder / "run"

    def assert_fails(self, process, status, *words):
        self.assertEqual((process.returncode, process.stdout), (status, ""))
        (line,) = process.stderr.splitlines()
        for word in words:
            self.assertIn(word, line)


class PredictTest(ModelTest):
    def test_a_line_for_each_picture(self):
        process = tfpipe("predict", f"--workdir={self.run_}", self.folder / "data" / "test")
        self.assertEqual((process.returncode, process.stderr), (0, ""))
        found = rows(process)
        self.assertEqual(process.stdout.splitlines()[0], "path,class,probability,error")
        self.assertLen(found, 30)
        wrong = sum(row["class"] != pathlib.Path(row["path"]).parent.name for row in found)
        self.assertEqual(wrong / 30, json.loads((self.run_ / "report.json").read_text())["test_error"])
        model = artifact.load(self.run_ / "model.npz")
        for row in found[:5]:
            pixels = np.asarray(Image.open(row["path"]))
            p = model.probabilities(pixels[np.newaxis])[0]
            self.assertEqual((row["class"], float(row["probability"])), ("cde"[p.argmax()], p.max()))

    def test_json_and_top_k(self):
        picture = next((self.folder / "data" / "test").rglob("*.png"))
        process = tfpipe("predict", f"--model={self.run_}/model.npz", "--format=json", "--top_k=3", picture, "gone.png")
        self.assertEqual(process.returncode, 1)
        first, second = (json.loads(line) for line in process.stdout.splitlines())
        self.assertEqual(second, {"path": "gone.png", "error": "No such file or directory"})
        self.assertEqual({one["class"] for one in first["top"]}, set("cde"))
        probabilities = [one["probability"] for one in first["top"]]
        self.assertEqual(probabilities, sorted(probabilities, reverse=True))
        self.assertAlmostEqual(sum(probabilities), 1.0, places=12)
        self.assertEqual((first["class"], first["probability"]), tuple(first["top"][0].values()))
        self.assertEqual(process.stderr.splitlines(), ["tfpipe predict: 1 of 2 could not be read; its line says why"])

    def test_a_damaged_picture_has_its_line_and_the_rest_goes_on(self):
        (self.scratch / "bad.png").write_bytes(b"\x89PNG")
        good = next((self.folder / "data" / "test").rglob("*.png"))
        process = tfpipe("predict", f"--workdir={self.run_}", self.scratch / "bad.png", good)
        self.assertEqual(process.returncode, 1)
        bad, fine = rows(process)
        self.assertEqual((bad["class"], bad["probability"]), ("", ""))
        self.assertIn("is no picture that Pillow reads", bad["error"])
        self.assertEqual(fine["error"], "")

    def test_a_list_on_standard_input_is_answered_line_by_line(self):
        pictures = [str(path) for path in sorted((self.folder / "data" / "test").rglob("*.png"))[:3]]
        process = subprocess.Popen(
            [sys.executable, "-m", "tfpipe", "predict", f"--workdir={self.run_}", "-"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.assertEqual(process.stdout.readline(), "path,class,probability,error\n")
        for picture in pictures:
            process.stdin.write(f"{picture}\n")
            process.stdin.flush()
            self.assertStartsWith(process.stdout.readline(), f"{picture},")
        process.communicate()
        self.assertEqual(process.returncode, 0)

    def test_names_of_any_bytes(self):
        good = next((self.folder / "data" / "test").rglob("*.png"))
        strange = os.fsencode(self.scratch) + b"/a\n,\xff.png"
        shutil.copy(good, strange)
        listed = b"".join([os.fsencode(good), b"\n\xff.png\n", os.fsencode(good), b"\n"])
        for arguments, given, count in (((strange, good), b"", 2), (("-",), listed, 3)):
            process = subprocess.run(
                [sys.executable, "-m", "tfpipe", "predict", f"--workdir={self.run_}", *arguments],
                capture_output=True, check=False, env=os.environ | {"PYTHONIOENCODING": "utf-8:strict"}, input=given,
            )  # fmt: skip
            text = process.stdout.decode(errors="surrogateescape")
            lines = list(csv.reader(text.splitlines(keepends=True)))
            self.assertEqual({len(line) for line in lines}, {4}, process.stderr)
            self.assertLen(lines, 1 + count)
        self.assertEqual(os.fsencode(lines[2][0]), b"\xff.png")

    @pytest.mark.exhaustive
    def test_a_closed_standard_input(self):
        command = f"{sys.executable} -m tfpipe predict --workdir={self.run_} - <&-"
        process = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
        self.assertEqual((process.returncode, process.stdout), (0, "path,class,probability,error\n"), process.stderr)

    def test_rows_of_an_npy(self):
        np.save(self.scratch / "rows.npy", np.zeros((3, 30), np.uint8))
        process = tfpipe("predict", f"--workdir={self.run_}", self.scratch / "rows.npy")
        self.assertEqual([row["path"] for row in rows(process)], [f"{self.scratch}/rows.npy[{n}]" for n in range(3)])

    def test_many_pictures_take_no_more_memory_than_few(self):
        picture = str(next((self.folder / "data" / "test").rglob("*.png")))
        program = (
            "import contextlib, io, resource, sys; from tfpipe.cli.main import main\n"
            "sys.stdin = io.StringIO({picture!r} * {count})\n"
            "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
            "    main(['tfpipe', 'predict', '--workdir={run}', '-'])\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        few, many = (
            int(python(program.format(picture=f"{picture}\n", count=count, run=self.run_)).stdout)
            for count in (100, 10_000)
        )
        self.assertLess(many - few, 20_000)  # kB: the text of the answers and of the list has 3,000.

    def test_as_many_pictures_at_once_as_cores_that_the_process_may_use(self):
        process = tfpipe("predict", f"--workdir={self.run_}", "a.png", prepare=tell_pictures_at_once_on_one_core)
        self.assertEqual(process.stdout.splitlines()[-1], "2 at once", process.stderr)

    @parameterized.parameters(
        ((), ("--workdir=: give the folder of a run, or --model=FILE",)),
        (("--workdir=", "a.png"), ("--workdir=: give the folder of a run",)),
        (("--workdir=a", "--model=b"), ("--model=b: does not go with --workdir",)),
        (("--workdir=a",), ("no FILE",)),
        (("--workdir=a", "--format=xml", "b.png"), ("--format=xml", "csv|json")),
        (("--workdir=a", "--top_k=0", "b.png"), ("top_k",)),
    )
    def test_wrong_usage(self, arguments, words):
        self.assert_fails(tfpipe("predict", *arguments), 2, *words)

    def test_models_that_cannot_be_used(self):
        model = artifact.load(self.run_ / "model.npz")
        path = self.scratch / "model.npz"

        def assert_refused(*words):
            self.assert_fails(tfpipe("predict", f"--model={path}", "a.png"), 1, f"{path}", *words)

        assert_refused("cannot be read: No such file or directory")
        path.write_bytes(b"PK\3\4 no archive")
        assert_refused("not an .npz archive, or damaged")
        np.savez(path, format_version=1)
        assert_refused("a model of format version 1; this program reads 2")
        W = model.W.copy()
        W[0, 0] = np.nan
        artifact.save(path, model._replace(W=W))
        assert_refused("W or b holds a value that is not finite")
        artifact.save(path, model._replace(W=W[1:]))
        assert_refused("do not fit")
        artifact.save(path, model)
        self.assert_fails(tfpipe("predict", f"--model={path}", "--top_k=4", "a.png"), 1, "--top_k=4: the model has 3")

    def test_it_starts_without_tensorflow(self):
        picture = next((self.folder / "data" / "test").rglob("*.png"))
        process = python(
            "import sys; from tfpipe.cli.main import main\n"
            "try:\n"
            f"    main(['tfpipe', 'predict', '--workdir={self.run_}', '{picture}'])\n"
            "finally:\n"
            "    print([name for name in ('tensorflow', 'sklearn', 'matplotlib') if name in sys.modules])"
        )
        self.assertEqual(process.stdout.splitlines()[-1], "[]")


class EvaluateTest(ModelTest):
    def test_the_test_split_of_the_run(self):
        process = tfpipe("evaluate", f"--workdir={self.run_}", "--top_k=2", f"--output={self.scratch}/found.csv")
        found = result(process)
        report = json.loads((self.run_ / "report.json").read_text())
        self.assertEqual((found["error"], found["examples"]), (report["test_error"], 30))
        self.assertEqual(found["confusion_matrix"], report["confusion_matrix"])
        self.assertEqual({name: found[name] for name in report["test"]}, report["test"])
        low, high = found["figures"]["error"]["interval"]
        self.assertIn(f"test: error {found['error']:.2%} ({low:.2%} to {high:.2%}), cost", process.stderr)
        self.assertEqual([one["class"] for one in found["classes"]], ["c", "d", "e"])
        p = artifact.load(self.run_ / "model.npz").probabilities(load(self.folder / "data").test.images)
        labels = load(self.folder / "data").test.labels
        self.assertAlmostEqual(found["top_k_error"], 1 - metrics.top_k_accuracy_score(labels, p, k=2), places=12)
        self.assertGreater(found["calibration_error"], 0)
        self.assertRegex(process.stderr, r"class +precision +recall +f1 +examples\n +c ")
        lines = list(csv.DictReader((self.scratch / "found.csv").read_text().splitlines()))
        self.assertLen(lines, 30)
        truth, predicted = ([line[name] for line in lines] for name in ("class", "predicted"))
        self.assertEqual(metrics.confusion_matrix(truth, predicted).tolist(), found["confusion_matrix"])
        self.assertEqual(lines[0]["split"], "test")
        split = load(self.folder / "data").test
        paths = sorted((self.folder / "data" / "test").rglob("*.png"))
        self.assertEqual([line["file"] for line in lines], split.files.tolist())
        self.assertEqual([paths[int(line["row"])] for line in lines], [self.folder / "data" / f for f in split.files])

    def test_other_splits_and_other_data(self):
        found = result(tfpipe("evaluate", f"--workdir={self.run_}", "--split=all"))
        self.assertEqual(found["examples"], 120)
        report = json.loads((self.run_ / "report.json").read_text())
        found = result(tfpipe("evaluate", f"--workdir={self.run_}", "--split=validation"))
        self.assertEqual(found["error"], report["validation_error"])
        self.assertAlmostEqual(found["cost"], report["validation_cost"], places=6)
        self.assertEqual({figure["interval"] for figure in found["figures"].values()}, {None})  # It chose the model.
        data = self.folder / "data" / "test"
        found = result(tfpipe("evaluate", f"--model={self.run_}/model.npz", f"--dataset={data}", "--split=all"))
        self.assertEqual(found["error"], report["test_error"])
        # Pictures of another size and in colours are brought to what the model takes.
        for path in data.rglob("*.png"):
            larger = self.scratch / "larger" / path.relative_to(data)
            larger.parent.mkdir(parents=True, exist_ok=True)
            Image.open(path).resize((50, 60), Image.Resampling.NEAREST).convert("RGB").save(larger)
        found = result(tfpipe("evaluate", f"--workdir={self.run_}", f"--dataset={self.scratch}/larger", "--split=all"))
        self.assertAlmostEqual(found["error"], report["test_error"], delta=0.101)

    def test_a_list_of_pictures_is_read_as_the_model_says(self):
        data = self.folder / "data" / "test"
        paths = sorted(data.rglob("*.png"))
        lines = [f"{path.stem},{path.parent.name}\n" for path in paths]
        folder = self.scratch / "pictures"
        folder.mkdir()
        for path in paths:  # Larger, and in colours.
            Image.open(path).resize((10, 12), Image.Resampling.NEAREST).convert("RGB").save(folder / path.name)
        (self.scratch / "list.csv").write_text("id,kind\n" + "".join(lines))
        flags = [f"--dataset={self.scratch}/list.csv", f"--images_dir={folder}", "--split=all"]
        found = result(tfpipe("evaluate", f"--workdir={self.run_}", *flags))
        model = artifact.load(self.run_ / "model.npz")
        splits = load(self.scratch / "list.csv", images_dir=folder, image_size=(6, 5), color_mode="grayscale")
        parts = splits.train, splits.validation, splits.test
        predicted = [model.probabilities(part.images).argmax(axis=1) for part in parts]
        wrong = np.concatenate([p != part.labels for p, part in zip(predicted, parts, strict=True)])
        self.assertEqual((found["examples"], found["error"]), (30, wrong.mean()))
        report = json.loads((self.run_ / "report.json").read_text())
        self.assertAlmostEqual(found["error"], report["test_error"], delta=0.101)

    def test_pictures_that_are_read_otherwise_are_warned_of(self):
        data = self.folder / "data" / "test"
        flags = ["--background=black", "--fit=crop", "--orientation=upright", "--split=all"]
        process = tfpipe("evaluate", f"--workdir={self.run_}", f"--dataset={data}", *flags)
        self.assertEqual(result(process)["examples"], 30)
        self.assertIn(
            f"{data}: --background=black --fit=crop, and the model was trained with --background=white --fit=stretch: "
            "the figures are of pictures that are read otherwise than the training pictures, and than predict reads",
            process.stderr,
        )

    def test_data_that_does_not_fit(self):
        process = tfpipe("evaluate", f"--workdir={self.run_}", "--dataset=digits")
        self.assert_fails(process, 1, "digits: images of 8 x 8, and the model takes 6 x 5")
        process = tfpipe("evaluate", f"--workdir={self.run_}", "--pixel_max=2")
        self.assert_fails(process, 2, "--pixel_max=2.0: goes with --dataset")
        process = tfpipe("evaluate", f"--model={self.run_}/model.npz")
        self.assert_fails(process, 2, "--dataset=: must tell on what data")
        process = tfpipe("evaluate", f"--workdir={self.run_}", "--output=/")
        self.assert_fails(process, 2, "--output=/: must be the path of a file")

    @parameterized.parameters(
        (b"garbage", "names no data"),
        (b"--dataset=", "names no data, which came from a program"),
        (b"--dataset=digits\n--test_split=abc", "test_split=abc"),
        (b"--dataset=digits\n--test_split=-3", "test_split=-3: must be a number"),
        (b"--dataset=moved/elsewhere", "moved/elsewhere: no such"),
        (b"\xff", "cannot be read"),
    )
    def test_flags_of_a_run_that_do_not_lead_to_its_data(self, text, words):
        shutil.copytree(self.run_, self.scratch / "run")
        flags = self.scratch / "run" / "flags.txt"
        flags.write_bytes(text)
        process = tfpipe("evaluate", f"--workdir={self.scratch}/run")
        self.assert_fails(process, 1, words, str(flags), "--dataset names the data, where it is now")

    def test_data_that_has_changed_since_the_run_is_refused(self):
        # Noise: to be right by more than chance, a model must have seen what it is tested on.
        random = np.random.default_rng(0)
        data, workdir = self.scratch / "data", self.scratch / "run"
        save_pictures(data, random.integers(0, 256, (200, 6, 5), np.uint8), np.arange(200) % 2)
        summary = train(data, workdir)
        found = result(tfpipe("evaluate", f"--workdir={workdir}"))
        self.assertEqual(found["error"], summary["test_error"])
        Image.new("L", (5, 6)).save(data / "c" / "100a.png")
        process = tfpipe("evaluate", f"--workdir={workdir}")
        changed = f"{workdir}/flags.txt: the data that it names has changed since the run, so training examples may be"
        self.assert_fails(process, 1, changed, "by --dataset, with --split=all")
        # By whatever name.
        link = self.scratch / "link"
        link.symlink_to(data)
        for name, cwd in ((data, None), ("data", self.scratch), (link, None)):
            self.assert_fails(tfpipe("evaluate", f"--workdir={workdir}", f"--dataset={name}", cwd=cwd), 1, changed)
        # Without the run nothing tells what its data was.
        process = tfpipe("evaluate", f"--model={workdir}/model.npz", f"--dataset={data}")
        self.assertEqual((result(process)["examples"], result(process)["split"]), (201, "all"))
        self.assertIn(
            f"{data}: brings no splits, so all of its 201 examples are taken; if the model was", process.stderr
        )
        (data / "c" / "100a.png").unlink()
        for flags in ((), (f"--dataset={link}",)):
            process = tfpipe("evaluate", f"--workdir={workdir}", *flags)
            self.assertEqual(result(process)["error"], summary["test_error"])
            self.assertNotIn("drawn", process.stderr)

    @pytest.mark.exhaustive
    def test_weights_and_groups_of_the_run_are_those_of_its_data(self):
        random = np.random.default_rng(0)
        images, labels = random.integers(0, 256, (200, 6, 5), np.uint8), random.integers(0, 2, 200)
        np.savez(self.scratch / "data.npz", images=images, labels=labels)
        np.save(self.scratch / "weights.npy", random.integers(0, 3, 200))
        (self.scratch / "groups.txt").write_text("".join(f"patient {number // 8}\n" for number in range(200)))
        flags = ["--dataset=data.npz", "--sample_weight=weights.npy", "--groups=groups.txt", "--epochs=5"]
        process = tfpipe("train", *flags, "--workdir=run", cwd=self.scratch)
        summary = result(process)
        self.assertIn("by sample weights; validation and test drawn by split_seed=0 in whole groups", process.stderr)
        self.assertEqual(summary["test_examples"], 40)
        workdir = self.scratch / "run"
        lines = (workdir / "flags.txt").read_text().splitlines()
        self.assertIn(f"--sample_weight={self.scratch}/weights.npy", lines)
        self.assertIn(f"--groups={self.scratch}/groups.txt", lines)
        # By other names they are the same groups; then they are others.
        for values, status in (((199 - np.arange(200)) // 8, 0), (np.arange(200) % 25, 1)):
            (self.scratch / "groups.txt").write_text("".join(f"{value}\n" for value in values))
            process = tfpipe("evaluate", f"--workdir={workdir}")
            self.assertEqual(process.returncode, status, process.stderr)
            if status:
                self.assertIn(f"{workdir}/flags.txt: the data that it names has changed since the run", process.stderr)
            else:
                found = json.loads(process.stdout)
                self.assertEqual((found["examples"], found["error"]), (40, summary["test_error"]))
                self.assertEqual(found["figures"]["error"]["interval"], summary["test_error_interval"])
                self.assertEqual((found["groups"], found["figures"]["error"]["method"]), (5, "bootstrap"))

    @pytest.mark.exhaustive
    def test_another_table_by_the_names_of_its_columns(self):
        random = np.random.default_rng(0)
        n = 150
        kinds, sizes = np.array(["a", "b", "c"])[random.integers(0, 3, n)], random.normal(size=n).round(3)
        labels = np.where((kinds == "a") ^ (sizes + random.normal(size=n) / 4 > 0), "no", "yes")
        words = np.repeat(["train", "val", "test"], [90, 30, 30])
        path, other = self.scratch / "table.csv", self.scratch / "other.csv"
        rows = list(zip(sizes, kinds, words, labels, strict=True))
        path.write_text("size,kind,split,label\n" + "".join(f"{s},{k},{w},{y}\n" for s, k, w, y in rows))
        # The last rows in other columns, of which one has a value less.
        other.write_text("label,kind,size\n" + "".join(f"{y},{k},{s}\n" for s, k, _, y in rows[120:] if k != "b"))
        workdir = self.scratch / "run"
        summary = train(path, workdir, "--categorical=kind")
        self.assertEqual(summary["test_examples"], 30)
        model = artifact.load(workdir / "model.npz")
        self.assertEqual(list(map(str, model.columns)), ["size", "kind=a", "kind=b", "kind=c"])
        self.assertEqual(result(tfpipe("evaluate", f"--workdir={workdir}"))["error"], summary["test_error"])
        of_test = slice(120, None)
        x = np.stack([sizes[of_test], *(kinds[of_test] == kind for kind in "abc")], axis=1)
        wrong = np.array(model.class_names)[model.probabilities(x).argmax(axis=1)] != labels[of_test]
        self.assertEqual(summary["test_error"], wrong.mean())
        found = result(tfpipe("evaluate", f"--workdir={workdir}", f"--dataset={other}"))
        there = kinds[of_test] != "b"
        self.assertEqual((found["examples"], found["error"]), (there.sum(), wrong[there].mean()))
        # The same numbers under another name are the same data, but none for the model.
        path.write_text(path.read_text().replace("size", "weight"))
        process = tfpipe("evaluate", f"--workdir={workdir}")
        self.assertEqual((process.returncode, process.stdout), (1, ""))
        self.assertIn("table.csv: lacks the columns size, which the model takes; it has weight, kind", process.stderr)

    @pytest.mark.exhaustive
    def test_the_data_of_the_run_by_its_name_is_divided_as_in_the_run(self):
        workdir = self.scratch / "run"
        summary = train("digits", workdir, "--test_split=10", "--validation_split=10")
        process = tfpipe("evaluate", f"--workdir={workdir}", "--dataset=digits")
        found = result(process)
        self.assertEqual((found["examples"], found["error"]), (10, summary["test_error"]))
        self.assertNotIn("drawn", process.stderr)
        process = tfpipe("evaluate", f"--workdir={workdir}", "--dataset=digits", "--test_split=300")
        self.assert_fails(process, 1, f"{workdir}/flags.txt: ", ", or --test_split makes it otherwise than it was, so")

    @pytest.mark.exhaustive
    def test_gray_of_more_bits_than_in_training_is_refused(self):
        random = np.random.default_rng(0)
        values = random.integers(0, 4096, (40, 4, 5)).astype(np.uint16)
        for folder, images in (("bytes", (values // 16).astype(np.uint8)), ("deep", values)):
            for number, image in enumerate(images):
                path = self.scratch / folder / "cd"[number % 2] / f"{number:02}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(path)
        workdir, deep = self.scratch / "run", self.scratch / "deep"
        result(
            tfpipe(
                "train",
                f"--dataset={deep.with_name('bytes')}",
                f"--workdir={workdir}",
                "--device=cpu",
                "--notensorboard",
            )
        )
        process = tfpipe("evaluate", f"--workdir={workdir}", f"--dataset={deep}")
        self.assertEqual((process.returncode, process.stdout), (1, ""))
        self.assertRegex(
            process.stderr.splitlines()[-1],
            f"{deep}: holds gray pictures of more than 8 bits .*; --gray_max=VALUE says",
        )
        found = [
            result(tfpipe("evaluate", f"--workdir={workdir}", f"--dataset={folder}", "--split=all", *more))["cost"]
            for folder, more in ((f"{deep}", ("--gray_max=4095",)), (f"{deep.with_name('bytes')}", ()))
        ]
        self.assertEqual(*found)  # Both have the same pixels.
        process = tfpipe("predict", f"--model={workdir}/model.npz", str(deep / "c" / "00.png"))
        self.assertEqual(process.returncode, 1)
        self.assertIn("--gray_max=VALUE tells it in training", process.stdout)

    @parameterized.parameters((), ("--batch_size=10", "--epochs=3"))
    @pytest.mark.exhaustive
    def test_training_evaluate_and_predict_read_pictures_alike(self, *more):
        random = np.random.default_rng(0)
        data, workdir = self.scratch / "data", self.scratch / "run"
        for number in range(60):
            picture = Image.fromarray(random.integers(0, 256, (6, 5, 4)).astype(np.uint8))
            if number % 3 == 1:
                picture = Image.fromarray(random.integers(0, 3000, (6, 5)).astype(np.uint16))
            exif = Image.Exif()
            exif[0x0112] = number % 8 + 1
            path = data / "cd"[number % 2] / f"{number:02}.png"
            if number % 3 == 2:
                path, picture = path.with_suffix(".jpg"), picture.convert("RGB").resize((70, 90))
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path, exif=exif)
        flags = ("--image_size=5,5", "--background=black", "--fit=crop", "--device=cpu", "--notensorboard", *more)
        result(tfpipe("train", f"--dataset={data}", f"--workdir={workdir}", *flags))
        self.assertEqual(artifact.load(workdir / "model.npz").reading, Reading("upright", "black", 4095, "crop"))
        output = self.scratch / "all.csv"
        for named in ((), (f"--dataset={shutil.copytree(data, self.scratch / 'copy')}",)):
            flags = (f"--workdir={workdir}", "--split=all", f"--output={output}", *named)
            self.assertEqual(result(tfpipe("evaluate", *flags))["examples"], 60)
            evaluated = {
                row["file"]: float(row["probability"]) for row in csv.DictReader(output.read_text().splitlines())
            }
            self.assertLen(evaluated, 60)
            for row in rows(tfpipe("predict", f"--workdir={workdir}", data)):
                of_file = evaluated[os.path.relpath(row["path"], data)]
                np.testing.assert_allclose(float(row["probability"]), of_file, rtol=0, atol=1e-12)

    @pytest.mark.exhaustive
    def test_a_run_from_before_pictures_were_turned_reads_them_as_they_are_stored(self):
        images, labels = made.images(90, (6, 6))
        data, workdir = self.scratch / "data", self.scratch / "run"
        save_pictures(data, images, labels)
        turned = Image.Exif()
        turned[0x0112] = 6
        for path in sorted(data.rglob("*.png"))[::2]:  # Transparent too: what is hidden was black.
            gray = Image.open(path)
            alpha = gray.point(lambda value: 255 * (value > 60))
            Image.merge("LA", [gray, alpha]).save(path, exif=turned)
        as_stored = ("--orientation=stored", "--background=none", "--decoding=full", "--image_size=native")
        summary = train(data, workdir, *as_stored)
        flags, lines = workdir / "flags.txt", (workdir / "flags.txt").read_text().splitlines()
        self.assertContainsSubset(as_stored, lines)
        new = ("--orientation", "--background", "--gray_max", "--fit", "--decoding", "--image_size")
        flags.write_text("".join(f"{line}\n" for line in lines if not line.startswith(new)))

        for named in ((), (f"--dataset={data}",)):
            process = tfpipe("evaluate", f"--workdir={workdir}", *named)
            self.assertEqual(result(process)["error"], summary["test_error"])
        process = tfpipe("evaluate", f"--workdir={workdir}", f"--dataset={data}", "--background=white")
        self.assert_fails(process, 1, ", or --background makes it otherwise than it was, so")
        # The command with which it began goes on, and does so again when flags.txt names how pictures are read.
        for _ in range(2):
            self.assertEqual(train(data, workdir), summary)
            expected = [*as_stored, "--gray_max=65535", "--fit=stretch"]
            self.assertContainsSubset(expected, flags.read_text().splitlines())

    @parameterized.parameters((), ("--image_size=9,9",))
    @pytest.mark.exhaustive
    def test_a_run_from_before_large_pictures_became_smaller_reads_them_as_large_as_they_are(self, *given):
        images, labels = made.images(60, (9, 10))
        data, workdir = self.scratch / "data", self.scratch / "run"
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = data / "cde"[label] / f"{number:02}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).resize((150, 135)).save(path)
        summary = train(data, workdir, "--decoding=full", *(given or ("--image_size=native",)))
        self.assertEqual(artifact.load(workdir / "model.npz").image_shape, (9, 9) if given else (135, 150))
        flags = workdir / "flags.txt"
        new = ("--fit", "--decoding", *(() if given else ("--image_size",)))
        old = [line for line in flags.read_text().splitlines() if not line.startswith(new)]
        self.assertIn("--orientation=upright", old)
        flags.write_text("".join(f"{line}\n" for line in old))
        self.assertEqual(result(tfpipe("evaluate", f"--workdir={workdir}"))["error"], summary["test_error"])
        for _ in range(2):  # The second time flags.txt says it.
            self.assertEqual(train(data, workdir, *given), summary)
            expected = ["--fit=stretch", "--decoding=full", *(given or ("--image_size=native",))]
            self.assertContainsSubset(expected, flags.read_text().splitlines())

    @pytest.mark.exhaustive
    def test_a_run_from_before_there_was_a_split_order_was_divided_from_the_end(self):
        # Noise, as above.
        random = np.random.default_rng(0)
        data, workdir = self.scratch / "data.npz", self.scratch / "run"
        np.savez(data, images=random.integers(0, 256, (200, 6, 5), np.uint8), labels=random.integers(0, 2, 200))
        summary = train(data, workdir, "--split_order=end")
        flags = workdir / "flags.txt"
        lines = flags.read_text().splitlines()
        self.assertContainsSubset(["--split_order=end", "--split_seed=0"], lines)
        flags.write_text("".join(f"{line}\n" for line in lines if not line.startswith("--split_")))

        for named in ((), (f"--dataset={data}",)):
            process = tfpipe("evaluate", f"--workdir={workdir}", *named)
            self.assertEqual(result(process)["error"], summary["test_error"])
            self.assertNotIn("drawn", process.stderr)
        process = tfpipe("evaluate", f"--workdir={workdir}", f"--dataset={data}", "--split_order=stratified")
        self.assert_fails(process, 1, ", or --split_order makes it otherwise than it was, so")
        # The command with which it began goes on, and does so again when flags.txt names the order.
        for _ in range(2):
            self.assertEqual(train(data, workdir), summary)
            self.assertEqual(flags.read_text().splitlines(), lines)

    @pytest.mark.exhaustive
    def test_a_run_from_before_labels_named_classes_has_them_as_numbers(self):
        images, labels = made.images(200, (6, 5))
        data, workdir = self.scratch / "data.npz", self.scratch / "run"
        np.savez(data, images=images, labels=labels + 1, class_names=["a", "b", "c"])
        summary = train(data, workdir, "--numbered_classes")
        self.assertEqual(artifact.load(workdir / "model.npz").class_names, ("0", "1", "2", "3"))
        flags = workdir / "flags.txt"
        lines = flags.read_text().splitlines()
        self.assertIn("--numbered_classes", lines)
        flags.write_text("".join(f"{line}\n" for line in lines if line != "--numbered_classes"))
        for named in ((), (f"--dataset={data}",)):
            process = tfpipe("evaluate", f"--workdir={workdir}", *named)
            self.assertEqual(result(process)["error"], summary["test_error"])
        process = tfpipe("evaluate", f"--workdir={workdir}", f"--dataset={data}", "--nonumbered_classes")
        self.assert_fails(process, 1, ", or --numbered_classes makes it otherwise than it was, so")
        # The command with which it began goes on.
        self.assertEqual(train(data, workdir), summary)
        self.assertEqual(flags.read_text().splitlines(), lines)

    @pytest.mark.exhaustive
    def test_a_run_without_test_examples(self):
        workdir = self.scratch / "run"
        images, labels = made.images(120, (6, 5))
        labels[::5] = (labels[::5] + 1) % 3  # Some are wrong, so that no error is 0.
        np.savez(self.scratch / "data.npz", images=images, labels=labels)
        flags = (f"--dataset={self.scratch}/data.npz", "--test_split=0", "--l2=1e-2", f"--workdir={workdir}")
        process = tfpipe("train", *flags, "--device=cpu")
        summary = result(process)
        self.assertEqual((summary["test_error"], summary["test_examples"]), (None, 0))
        self.assertIn("120 training examples in 5 folds, no test examples of 6 x 5 uint8", process.stderr)
        self.assertIn("; validation drawn by split_seed=0\n", process.stderr)
        model = artifact.load(workdir / "model.npz")
        self.assertIsNone(model.summary["test_error"])
        # Its page and its event files tell of no test.
        page = (workdir / "report.html").read_text()
        self.assertIn(f"<h1>tfpipe: validation error {summary['validation_error']:.2%}</h1>", page)
        self.assertIn("<td>test error</td><td>-</td>", page)
        self.assertIn("What each class looks for", page)
        for words in ("nan", "0.00%", "worst classes", "What is taken for what", "mistakes", "probabilities"):
            self.assertNotIn(words, re.sub('src="[^"]*"', "", page))
        runs = {path.parent.relative_to(workdir / "tensorboard").parts for path in workdir.rglob("events.out.*")}
        self.assertEqual(runs, {(), ("train",), ("validation",), ("heads", "0")})
        # flags.txt gives the run again, which is finished.
        again = result(tfpipe("train", f"--flagfile={workdir}/flags.txt", f"--workdir={workdir}"))
        self.assertEqual(again, summary)
        words = "--split=test: has no examples, as test_split=0 says; there are train and validation, or all"
        for flags in ((), ("--split=test",), (f"--dataset={self.scratch}/data.npz",)):
            self.assert_fails(tfpipe("evaluate", f"--workdir={workdir}", *flags), 1, words)
        for split, examples in (("all", 120), ("train", 96), ("validation", 24)):
            process = tfpipe("evaluate", f"--workdir={workdir}", f"--split={split}")
            self.assertEqual(result(process)["examples"], examples)
            self.assertNotIn("drawn", process.stderr)
        # On other data it is measured as ever.
        process = tfpipe("evaluate", f"--workdir={workdir}", f"--dataset={self.folder}/data")
        self.assert_fails(process, 1, "has the classes c, d, e")

    def test_a_split_that_is_drawn_from_other_data_is_warned_of(self):
        data = self.folder / "data" / "test"  # Without train and test in it: 30 pictures, of which 6 become the test.
        for split, examples in (("test", 6), ("validation", 6), ("train", 18), ("all", 30)):
            process = tfpipe("evaluate", f"--workdir={self.run_}", f"--dataset={data}", f"--split={split}")
            self.assertEqual(result(process)["examples"], examples)
            if split in ("test", "validation"):
                self.assert_warns_of_a_drawn_split(process, data, split)
            else:
                self.assertNotIn("drawn", process.stderr)
        process = tfpipe("evaluate", f"--workdir={self.run_}", f"--dataset={data}")
        self.assertEqual((result(process)["examples"], result(process)["split"]), (30, "all"))
        self.assertIn(f"{data}: brings no splits, so all of its 30 examples are taken", process.stderr)
        # A test that the data brings is not drawn; and what was moved is the run's own still.
        shutil.copytree(self.folder / "data", self.scratch / "moved")
        for split in ("test", "validation"):
            process = tfpipe(
                "evaluate", f"--workdir={self.run_}", f"--dataset={self.scratch}/moved", f"--split={split}"
            )
            self.assertGreater(result(process)["examples"], 0)
            self.assertNotIn("drawn", process.stderr)

    def assert_warns_of_a_drawn_split(self, process, data, split):
        (line,) = [line for line in process.stderr.splitlines() if "drawn" in line]
        self.assertIn(
            f"{data}: brings no {split} split, and this one is drawn from data that may hold training examples; "
            f"--split=all for data that the model has not seen",
            line,
        )

    def test_data_of_a_single_class(self):
        found = result(tfpipe("evaluate", f"--workdir={self.run_}"))
        whole = dict(zip("cde", found["confusion_matrix"], strict=True))
        shutil.copytree(self.folder / "data" / "test" / "d", self.scratch / "one" / "d")
        process = tfpipe("evaluate", f"--workdir={self.run_}", f"--dataset={self.scratch}/one")
        found = result(process)
        self.assertEqual((found["split"], found["examples"]), ("all", sum(whole["d"])))
        self.assertEqual(found["confusion_matrix"], [[0, 0, 0], whole["d"], [0, 0, 0]])
        self.assertEqual(found["error"], 1 - whole["d"][1] / sum(whole["d"]))
        # Whether the model knows the class is checked as ever; and nobody trains on one.
        (self.scratch / "one" / "d").rename(self.scratch / "one" / "x")
        process = tfpipe("evaluate", f"--workdir={self.run_}", f"--dataset={self.scratch}/one")
        self.assert_fails(process, 1, "has the classes x, and the model knows c, d, e")
        process = tfpipe("train", f"--dataset={self.scratch}/one", f"--workdir={self.scratch}/run")
        self.assert_fails(process, 1, "every label is x; expected at least two classes")

    def test_wrong_flags_of_pictures_are_told_after_they_are_read_once(self):
        data = self.folder / "data" / "test"
        process = tfpipe(
            "evaluate", f"--workdir={self.run_}", f"--dataset={data}", "--test_split=5000", prepare=tell_of_each_loading
        )
        self.assertEqual((process.returncode, process.stdout), (1, "loaded\n"))
        (line,) = process.stderr.splitlines()
        self.assertIn("--test_split=5000: would take 5000", line)

    def test_a_model_that_tells_no_fingerprint_of_its_data(self):
        shutil.copytree(self.run_, self.scratch / "run")
        path = self.scratch / "run" / "model.npz"
        model = artifact.load(path)
        self.assertEqual(model.summary.pop("fingerprint"), load(self.folder / "data").fingerprint)
        artifact.save(path, model)
        process = tfpipe("evaluate", f"--workdir={self.scratch}/run")
        self.assertEqual(result(process)["examples"], 30)
        self.assertRegex(process.stderr.splitlines()[0], rf"^\S+ {path}: tells no fingerprint: whether the data is")

    def test_an_output_that_cannot_be_written(self):
        self.scratch.chmod(0o555)
        process = tfpipe(
            "evaluate", f"--workdir={self.run_}", f"--output={self.scratch}/found.csv", prepare=without_root_rights
        )
        self.assert_fails(process, 1, "found.csv", "Permission denied")
        self.assertEmpty(os.listdir(self.scratch))


class EvaluateTableTest(parameterized.TestCase):
    """The model takes a number, three values of a column of text, and two of codes."""

    COLUMNS = (Column("size"), *(Column("kind", kind) for kind in "abc"), Column("zip", "01"), Column("zip", "1"))

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        random = np.random.default_rng(0)
        self.model = artifact.TrainedModel(
            random.normal(size=(6, 3)).astype(np.float32), np.zeros(3, np.float32), ("no", "so", "yes"), (6,), 1.0, {},
            columns=self.COLUMNS,
        )  # fmt: skip
        artifact.save(self.folder / "model.npz", self.model)
        n = 40
        self.table = {
            "zip": np.array(["01", "1"])[random.integers(0, 2, n)],
            "kind": np.array(["a", "b", "c"])[random.integers(0, 3, n)],
            "size": random.normal(size=n).round(3),
            "label": np.array(["no", "so", "yes"])[random.integers(0, 3, n)],
        }

    def evaluate(self, *flags, file="table.csv", **changed):
        columns = {name: values for name, values in (self.table | changed).items() if values is not None}
        path = self.folder / file
        if file.endswith(".parquet"):
            pq.write_table(pa.table(columns), path)
        else:
            lines = [columns, *zip(*columns.values(), strict=True)]
            path.write_text("".join(",".join(map(str, line)) + "\n" for line in lines))
        return tfpipe("evaluate", f"--model={self.folder}/model.npz", f"--dataset={path}", *flags)

    def wrong(self):
        """Whether the model is wrong, for each row."""
        zips, kinds, sizes, labels = self.table.values()
        x = np.stack([sizes, *(kinds == kind for kind in "abc"), *(zips == code for code in ("01", "1"))], axis=1)
        return np.array(self.model.class_names)[(x @ self.model.W).argmax(axis=1)] != labels

    @parameterized.parameters("table.csv", "table.parquet")
    def test_categories_are_read_as_the_model_says(self, file):
        found = result(self.evaluate("--split=all", file=file))
        self.assertEqual((found["examples"], found["error"]), (40, self.wrong().mean()))

    @parameterized.parameters(
        ({"kind": None}, "lacks the columns kind, which the model takes; it has size, zip, label"),
        ({"size": None, "zip": None}, "lacks the columns size, zip, which the model takes; it has kind, label"),
        (
            {"kind": None, "sort": ["a"] * 40},
            "lacks the columns kind, which the model takes; it has size, zip, label, ",
        ),
    )
    def test_a_table_that_lacks_columns(self, changed, words):
        for file in ("table.csv", "table.parquet"):
            process = self.evaluate(file=file, **changed)
            self.assertEqual((process.returncode, process.stdout), (1, ""))
            (line,) = process.stderr.splitlines()
            self.assertIn(f"{file}: {words}", line)

    def test_an_unseen_value_is_told_once_for_all_rows(self):
        kinds = self.table["kind"].copy()
        kinds[::4] = "z"
        process = self.evaluate("--split=all", kind=kinds)
        self.assertEqual(result(process)["examples"], 40)
        lines = [line for line in process.stderr.splitlines() if "has not seen" in line]
        self.assertLen(lines, 1)
        self.assertIn("10 of 40 rows have values in the column 'kind' that the model has not seen", lines[0])

    def test_all_rows_are_for_the_test(self):
        found = result(self.evaluate(split=["test"] * 40))
        self.assertEqual((found["split"], found["examples"], found["error"]), ("test", 40, self.wrong().mean()))
        (self.folder / "splits.txt").write_text("test\n" * 30 + "val\n" * 10)
        found = result(self.evaluate(f"--split_file={self.folder}/splits.txt"))
        self.assertEqual((found["examples"], found["error"]), (30, self.wrong()[:30].mean()))
        process = self.evaluate("--split=train", split=["test"] * 40)
        self.assertEqual((process.returncode, process.stdout), (1, ""))
        self.assertIn("--split=train: has no examples; there are test, or all", process.stderr)

    def test_a_class_that_the_training_rows_lack(self):
        is_yes = self.table["label"] == "yes"
        found = result(self.evaluate("--split=test", split=np.where(is_yes, "test", "train")))
        self.assertEqual((found["examples"], found["error"]), (is_yes.sum(), self.wrong()[is_yes].mean()))
        labels = np.where(is_yes, "other", self.table["label"])
        process = self.evaluate("--split=test", split=np.where(is_yes, "test", "train"), label=labels)
        self.assertEqual((process.returncode, process.stdout), (1, ""))
        self.assertIn("has the classes other, and the model knows no, so, yes", process.stderr)


class ExportTest(ModelTest):
    @parameterized.parameters("saved_model", "keras", "onnx", "npz")
    @pytest.mark.exhaustive
    def test_each_form(self, format):
        output = self.scratch / {"keras": "it.keras"}.get(format, "it")
        process = tfpipe("export", f"--workdir={self.run_}", f"--format={format}", f"--output={output}")
        self.assertEqual(result(process)["output"], str(output))
        self.assertEqual(process.stderr, "")
        self.assertEqual(os.listdir(self.scratch), [output.name])
        again = tfpipe("export", f"--workdir={self.run_}", f"--format={format}", f"--output={output}")
        self.assert_fails(again, 1, f"{output}: is there already; give another path, or --overwrite")

    def test_wrong_usage(self):
        self.assert_fails(tfpipe("export", f"--workdir={self.run_}"), 2, "--format=: must be one of saved_model, keras")
        self.assert_fails(tfpipe("export", f"--workdir={self.run_}", "--format=tflite"), 2, "--format=tflite")
        process = tfpipe("export", f"--workdir={self.run_}", "--format=keras", f"--output={self.scratch}/model")
        self.assert_fails(process, 2, "model: must end in .keras, by which Keras knows its files")

    @pytest.mark.exhaustive
    def test_a_folder_that_cannot_be_written(self):
        self.scratch.chmod(0o555)
        process = tfpipe(
            "export", f"--workdir={self.run_}", "--format=onnx", f"--output={self.scratch}/model.onnx",
            prepare=without_root_rights,
        )  # fmt: skip
        self.assert_fails(process, 1, "model.onnx", "Permission denied")
        self.assertEmpty(os.listdir(self.scratch))


if __name__ == "__main__":
    absltest.main()
