"""End to end: the command and its contract with people and scripts."""

import functools
import gzip
import json
import os
import pathlib
import pickle
import pty
import re
import signal
import struct
import subprocess
import sys
import termios

import numpy as np
import pytest
from absl.testing import absltest, parameterized

from tests import made
from tests.command import Command, python, read_until, result, tfpipe, tfpipe_afresh, without_root_rights
from tfpipe.disk.checkpoints import Checkpoints
from tfpipe.model import artifact

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 143
FIRST_VALIDATION = r"epoch \d+/"
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class CommandTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        self.workdir = self.folder / "run"

    def assert_fails(self, process, status, *words):
        """One line on stderr that holds all `words`, nothing on stdout."""
        self.assertEqual(process.returncode, status, process.stderr)
        self.assertEqual(process.stdout, "")
        lines = process.stderr.splitlines()
        self.assertLen(lines, 1, process.stderr)
        for word in words:
            self.assertIn(str(word), lines[0])


class HelpTest(CommandTest):
    def test_help_exits_0_and_names_what_there_is(self):
        overview = tfpipe("--help")
        self.assertEqual(overview.returncode, 0)
        self.assertIn("  train ", overview.stdout)
        help_of_train = tfpipe("train", "--help")
        self.assertEqual(help_of_train.returncode, 0)
        for flag in ("--dataset  (default: digits)", "--workdir", "--learning_rate", "--[no]shuffle", "--flagfile"):
            self.assertIn(flag, help_of_train.stdout)
        self.assertIn("--pdb", tfpipe("train", "--helpfull").stdout)
        for form in ("-h", "-help", "--help=true", "--helpshort"):
            self.assertEqual(tfpipe(form).stdout, overview.stdout)
        for form in ("-h", "--help=true", "--helpshort"):
            self.assertEqual(tfpipe("train", form).stdout, help_of_train.stdout)

    def test_help_imports_nothing_heavy(self):
        # Half a second is the promise; what would break it is an import of TensorFlow, scikit-learn or NumPy.
        for arguments in (["--help"], ["train", "--help"], ["train", "--only_check_args"]):
            program = (
                "import sys; from tfpipe.cli.main import main\n"
                f"try: main(['tfpipe', *{arguments}])\nexcept SystemExit as end: assert not end.code\n"
                "assert not {'tensorflow', 'sklearn', 'numpy'} & set(sys.modules)"
            )
            subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)

    def test_what_is_wrong_is_said_before_anything_heavy_is_imported(self):
        for arguments, status, unused in (
            (["--batch_size=-3"], WRONG_USAGE, ("tensorflow", "sklearn", "numpy")),
            (["--l2=0.1", "--solver=newton"], WRONG_USAGE, ("tensorflow", "sklearn", "numpy")),
            ([f"--dataset={self.folder}/none.npz"], FAILED, ("tensorflow", "sklearn", "scipy", "matplotlib")),
        ):
            process = python(
                "import sys; from tfpipe.cli.main import main\n"
                f"try: main(['tfpipe', 'train', *{arguments}])\n"
                f"finally: print([name for name in {unused} if name in sys.modules])"
            )
            self.assertEqual((process.returncode, process.stdout), (status, "[]\n"), process.stderr)

    def test_version(self):
        process = tfpipe("--version")
        self.assertEqual(process.returncode, 0)
        self.assertRegex(process.stdout, r"^\d+\.\d+\.\d+\n$")


class WrongUsageTest(CommandTest):
    @parameterized.parameters(
        ((), ("no command", "train")),
        (("fit",), ("unknown command 'fit'", "train")),
        (("--epochs=3", "train"), ("unknown command '--epochs=3'", "train")),
        (("train", "--batchsize=3"), ("Unknown command line flag 'batchsize'", "batch_size")),
        (("train", "digits"), ("unexpected argument 'digits'",)),
        (("train", "--batch_size=-3"), ("--batch_size=-3", "an integer of at least 1")),
        (("train", "--batch_size=many"), ("--batch_size=many",)),
        (("train", "--learning_rate=0.1,fast"), ("--learning_rate=0.1,fast", "'fast' is not a number")),
        (("train", "--learning_rate="), ("--learning_rate=", "is not a number")),
        (("train", "--learning_rate=0.1,-1"), ("--learning_rate=0.1,-1", "-1.0 is not a number above 0")),
        (("train", "--l2=nan"), ("--l2=nan", "nan is not a number of at least 0")),
        (("train", "--l2=log:1e-5:1e-1"), ("'log:1e-5:1e-1' is not a range", "log:FIRST:LAST:COUNT")),
        (("train", "--l2=lin:1:2:3"), ("'lin:1:2:3' is not a range", "log:FIRST:LAST:COUNT")),
        (("train", "--l2=log:0:1:3"), ("'log:0:1:3': FIRST and LAST must be above 0",)),
        (("train", "--l2=log:1:inf:3"), ("'log:1:inf:3': FIRST and LAST must be above 0, and finite",)),
        (("train", "--l2=log:1:2:1"), ("'log:1:2:1': COUNT must be an integer of at least 2",)),
        (("train", "--l2=log:1:2:2.5"), ("'log:1:2:2.5': COUNT must be an integer",)),
        (("train", "--l2=log:1:x:3"), ("'x' is not a number",)),
        (("train", "--epochs=0"), ("--epochs=0",)),
        (("train", "--validation_split=1.5"), ("--validation_split=1.5", "fraction")),
        (("train", "--validation_split=half"), ("--validation_split=half", "'half' is not a number")),
        (("train", "--device=tpu"), ("--device=tpu", "auto|cpu|gpu")),
        (("train", "--flagfile=/no/such.flags"), ("/no/such.flags",)),
        (("train", f"--flagfile={sys.executable}"), ("codec can't decode",)),
        (("train", "--stderrthreshold=loud"), ("loud",)),
        (("train", "--dataset=a\nb"), (r"--dataset=a\nb: must be a name or a path of characters that can be shown",)),
        (("train", "--dataset="), ("--dataset=: must be a name or a path",)),
        (("train", "--workdir="), ("--workdir=: must be a path",)),
        (("evaluate", "--workdir= "), ("--workdir=' ': must be a path",)),
        (
            ("evaluate", "--model=a", "--output=~nobodyx/x"),
            ("--output=~nobodyx/x: is in the home of a user who is not",),
        ),
        (("predict", "--workdir=~nobodyx/run", "x.png"), ("--workdir=~nobodyx/run: is in the home of a user who is",)),
        (("export", "--format=npz", "--model=~nobodyx/m.npz"), ("--model=~nobodyx/m.npz: is in the home of a user",)),
        (("export", "--format=npz", "--model=a", "--output=~nobodyx/x"), ("--output=~nobodyx/x: is in the home of",)),
        (("describe", "--contact_sheet=~nobodyx/x"), ("--contact_sheet=~nobodyx/x: is in the home of a user",)),
        (("train", "--overwrite"), ("--overwrite=True: goes with --noresume",)),
        (("train", "--checkpoint_every=-1"), ("--checkpoint_every=-1.0: must be a number of at least 0",)),
        (("train", f"--epochs={10**21}"), ("at most 2147483647",)),
        (
            ("train", "--solver=lbfgs", "--noshuffle"),
            ("--shuffle=False: is an option of sgd, and does not go with solver=lbfgs",),
        ),
        (
            ("train", "--solver=sgd", "--refit"),
            ("--refit=True: is an option of lbfgs, and does not go with solver=sgd",),
        ),
        (
            ("train", "--epochs=3", "--folds=5"),
            ("--folds=5: is an option of lbfgs, and does not go with epochs, one of sgd",),
        ),
        (("train", "--solver=adam"), ("--solver=adam", "auto|lbfgs|sgd")),
        (("train", "--select=accuracy"), ("--select=accuracy", "cost|error")),
        (("train", "--folds=1"), ("--folds=1: must be auto, 0 (the validation split), or a number of folds",)),
        (("train", "--folds=some"), ("--folds=some: expected an integer, or auto",)),
        (("train", "--tolerance=0"), ("--tolerance=0.0: must be a number above 0",)),
        (("train", "--standardize=rows"), ("--standardize=rows: must be none, columns, or both: none,columns",)),
        (
            ("train", "--standardize=columns,none", "--epochs=3"),
            ("--standardize=columns,none: are scales for solver=lbfgs; sgd takes one",),
        ),
        (("train", "--standardize", "--pixel_max=3"), ("--pixel_max=3.0: does not go with standardize",)),
        (("train", "--test_split=0.0"), ("--test_split=0.0: must be a number", "; 0, an integer, takes none")),
        (
            ("train", "--test_split=0", "--solver=sgd"),
            ("--test_split=0: goes with solver=lbfgs; sgd measures its models on test examples: take at least 1",),
        ),
        (("train", "--epochs=3", "--test_split=0"), ("--test_split=0: goes with solver=lbfgs; sgd measures",)),
    )
    def test_one_line_and_status_2(self, arguments, words):
        self.assert_fails(tfpipe(*arguments), WRONG_USAGE, *words)

    def test_only_check_args_checks_and_does_nothing(self):
        process = tfpipe("train", "--only_check_args", f"--workdir={self.workdir}")
        self.assertEqual((process.returncode, process.stdout), (0, ""))
        self.assertFalse(self.workdir.exists())
        self.assert_fails(tfpipe("train", "--only_check_args", "--epochs=0"), WRONG_USAGE, "--epochs=0")


class BadInputTest(CommandTest):
    def assert_refused(self, dataset, *words):
        process = tfpipe("train", f"--dataset={dataset}", f"--workdir={self.workdir}")
        self.assert_fails(process, FAILED, *words)
        self.assertFalse(self.workdir.exists())

    def test_tensorboard_that_is_not_installed_is_found_out_before_the_data_is_read(self):
        process = python(
            "import sys; sys.modules['tensorboard'] = None\n"
            "from tfpipe.cli import main; main.main(['tfpipe', 'train', '--dataset=nowhere'])"
        )
        self.assertEqual(process.returncode, 1)
        self.assertEqual(
            process.stderr,
            "tfpipe train: --tensorboard=True: needs a package that is not there: pip install tensorboard, or "
            "--notensorboard\n",
        )

    def test_a_path_that_is_not_there(self):
        self.assert_refused("/no/such/data", "/no/such/data: no such data; expected 'digits'")

    def test_a_folder_without_idx_files(self):
        self.assert_refused(
            self.folder,
            "an empty folder; expected 'digits', a folder with IDX files, class folders or .npy files",
        )

    @parameterized.parameters(
        ("train-images-idx3-ubyte", lambda data: data[:-1], "its header promises 90 x 4 x 6 = 2160 bytes"),
        ("train-images-idx3-ubyte", lambda data: b"", "0 bytes, too few for the header"),
        ("train-labels-idx1-ubyte", lambda data: b"\0\0\x08\x03" + data[4:], "starts with 00000803, expected 00000801"),
        ("t10k-images-idx3-ubyte", lambda data: data[:4] + struct.pack(">I", 2**31) + data[8:], "truncated"),
        ("t10k-labels-idx1-ubyte", lambda data: made.idx_bytes(np.zeros(29)), "29 labels, but t10k-images"),
        ("t10k-labels-idx1-ubyte", lambda data: made.idx_bytes(np.full(30, 9)), "label 9 of example 0 is out of range"),
        ("train-labels-idx1-ubyte", lambda data: made.idx_bytes(np.ones(90)), "expected at least two classes"),
    )
    def test_damaged_idx_files(self, name, damage, words):
        data = made.write_idx_folder(self.folder / "data")
        path = data / name
        path.write_bytes(damage(path.read_bytes()))
        self.assert_refused(data, name, words)

    @parameterized.parameters(lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"no gzip" + data)
    def test_damaged_gzip_files(self, damage):
        data = made.write_idx_folder(self.folder / "data", compress=True)
        path = data / "train-images-idx3-ubyte.gz"
        path.write_bytes(damage(path.read_bytes()))
        self.assert_refused(data, path)

    def test_nan_in_images(self):
        images = np.zeros((4, 6), np.float32)
        images[2, 3] = np.nan
        path = self.folder / "mnist.pkl.gz"
        path.write_bytes(gzip.compress(pickle.dumps(((images, np.arange(4)),) * 3)))
        self.assert_refused(path, "mnist.pkl.gz (train): row 2, column 3 is NaN; expected finite numbers")

    def test_a_pickle_that_would_run_a_command(self):
        trace = self.folder / "ran"

        class Hostile:
            def __reduce__(self):
                return os.system, (f"touch {trace}",)

        path = self.folder / "mnist.pkl.gz"
        path.write_bytes(gzip.compress(pickle.dumps(Hostile())))
        self.assert_refused(path, "mnist.pkl.gz: refused: it names posix.system")
        self.assertFalse(trace.exists())

    def test_more_validation_examples_than_there_are(self):
        process = tfpipe("train", "--validation_split=5000", f"--workdir={self.workdir}")
        self.assert_fails(process, FAILED, "--validation_split=5000: would take 5000 of the 1438 examples")

    def test_a_folder_that_cannot_be_written(self):
        self.folder.chmod(0o555)
        process = tfpipe("train", f"--workdir={self.workdir}", prepare=without_root_rights)
        self.assert_fails(process, FAILED, f"--workdir={self.workdir}: {self.folder} cannot be written")

    def test_a_workdir_that_is_a_file(self):
        self.workdir.write_text("mine")
        process = tfpipe("train", f"--workdir={self.workdir}/sub")
        self.assert_fails(process, FAILED, f"--workdir={self.workdir}/sub: {self.workdir} is a file")
        self.assertEqual(self.workdir.read_text(), "mine")

    @pytest.mark.exhaustive
    def test_a_gpu_that_is_not_there(self):
        process = tfpipe("train", "--device=gpu", f"--workdir={self.workdir}", env={"CUDA_VISIBLE_DEVICES": ""})
        self.assert_fails(process, FAILED, "--device=gpu: TensorFlow", "finds no usable GPU: ", "cuInit")
        self.assertFalse(self.workdir.exists())

    def test_a_gpu_that_does_not_work(self):
        # The memory of all GPUs grows: that is asked for before one computes.
        process = tfpipe("train", "--device=gpu", f"--workdir={self.workdir}", prepare=with_gpus)
        self.assertEqual((process.returncode, process.stdout), (FAILED, "GPU:0 grows\nGPU:1 grows\n"))
        self.assertStartsWith(process.stderr, "tfpipe train: --device=gpu: the GPU does not work: ")
        self.assertFalse(self.workdir.exists())

    def test_all_heads_diverge(self):
        process = tfpipe("train", "--learning_rate=1e38", f"--workdir={self.workdir}", "--verbosity=-2")
        self.assert_fails(
            process, FAILED, "every head diverged", "learning_rate=1e+38", "at iteration", "try a smaller"
        )


def with_gpus():
    """Two GPUs are there, as it seems."""
    import tensorflow as tf

    gpus = [tf.config.PhysicalDevice(f"GPU:{number}", "GPU") for number in range(2)]
    tf.config.list_physical_devices = lambda device_type: gpus
    tf.config.experimental.set_memory_growth = lambda gpu, enable: print(gpu.name, "grows" if enable else "")


class TrainTest(CommandTest):
    def test_a_run_on_digits_and_its_workdir(self):
        flags = ("--learning_rate=0.1,0.5", "--l2=0,0.001", "--epochs=20", f"--workdir={self.workdir}")
        process = tfpipe_afresh("train", *flags)
        summary = result(process)
        self.assertEqual(
            list(summary),
            ["validation_error", "test_error", "test_error_interval", "test_examples", "learning_rate", "l2", "heads",
             "epochs", "iterations", "best_iteration", "solver", "certificate", "converged", "evaluations",
             "standardize", "seconds", "epochs_per_second", "device", "workdir", "interrupted"],
        )  # fmt: skip
        self.assertEqual((summary["solver"], summary["standardize"]), ("sgd", "none"))
        self.assertEqual([summary[name] for name in ("certificate", "converged", "evaluations")], [None] * 3)
        report = json.loads((self.workdir / "report.json").read_text())
        self.assertEqual({name: report[name] for name in summary}, summary)
        self.assertEqual((summary["heads"], summary["test_examples"], summary["epochs"]), (4, 359, 20))
        self.assertEqual((summary["workdir"], summary["interrupted"]), (str(self.workdir), False))
        self.assertLess(summary["test_error"], 0.2)
        low, high = summary["test_error_interval"]
        self.assertIn(f"test: error {summary['test_error']:.2%} ({low:.2%} to {high:.2%}), cost", process.stderr)

        *_, look = process.stderr.splitlines()
        self.assertEqual(look, f"to look at it: tensorboard --logdir={self.workdir}/tensorboard")
        table = process.stderr.splitlines()[-8:-3]
        self.assertRegex(table[0], "learning rate  +l2  +validation error")
        self.assertRegex(table[1], r"^\*")
        costs = [float(re.search(r"\d+\.\d\d% +(\S+)", line)[1]) for line in table[1:]]
        self.assertEqual(costs, sorted(costs))

        # The kept flags give the same run again, elsewhere.
        again = result(tfpipe("train", f"--flagfile={self.workdir}/flags.txt", f"--workdir={self.folder / 'again'}"))
        times = ("seconds", "epochs_per_second", "workdir")
        self.assertEqual(
            {name: value for name, value in again.items() if name not in times},
            {name: value for name, value in summary.items() if name not in times},
        )
        first, second = (artifact.load(folder / "model.npz") for folder in (self.workdir, self.folder / "again"))
        self.assertEqual(first.W.tobytes() + first.b.tobytes(), second.W.tobytes() + second.b.tobytes())

        # And never over the first one.
        kept = {path: path.read_bytes() for path in self.workdir.iterdir() if path.is_file()}
        process = tfpipe("train", "--solver=sgd", f"--workdir={self.workdir}")
        self.assert_fails(
            process,
            FAILED,
            f"--workdir={self.workdir}: holds a run with l2=0.0,0.001, not 0.0; learning_rate=0.1,0.5, not 0.17; give",
        )
        self.assertEqual({path: path.read_bytes() for path in kept}, kept)

    @pytest.mark.exhaustive
    def test_a_run_from_before_there_was_a_choice_goes_by_the_error(self):
        flags = ("--epochs=2", "--notensorboard", f"--workdir={self.workdir}")
        expected = result(tfpipe("train", "--select=error", *flags))
        kept = self.workdir / "flags.txt"
        lines = [line for line in kept.read_text().splitlines() if not line.startswith(("--select=", "--solver="))]
        kept.write_text("".join(f"{line}\n" for line in lines))
        for again in (flags, (f"--flagfile={kept}",)):
            self.assertEqual(result(tfpipe("train", *again)), expected)
        self.assertContainsSubset(["--select=error", "--solver=sgd"], kept.read_text().splitlines())
        self.assert_fails(tfpipe("train", "--select=cost", *flags), FAILED, "holds a run with select=error, not cost;")

    def test_runs_without_a_workdir_get_new_ones_even_at_the_same_moment(self):
        runs = [Command("train", cwd=self.folder, prepare=leave_a_file_instead_of_training) for _ in range(3)]
        for run in runs:
            self.assert_fails(run.finished(), FAILED, "trained enough")
        self.assertLen(list(self.folder.glob("runs/*/trained")), 3)

    @pytest.mark.exhaustive
    def test_streams_that_cannot_be_written(self):
        process = tfpipe("describe", stdout="/dev/full")
        self.assertEqual(process.returncode, FAILED)
        last = process.stderr.splitlines()[-1]
        self.assertEqual(last, "tfpipe describe: standard output cannot be written: No space left on device")
        # Of a run all is kept that does not go there.
        process = tfpipe("train", "--epochs=1", f"--workdir={self.workdir}", stdout="/dev/full", stderr="/dev/full")
        self.assertEqual(process.returncode, FAILED)
        self.assertEqual(json.loads((self.workdir / "report.json").read_text())["epochs"], 1)

    def test_a_standard_error_that_is_closed(self):
        command = f"{sys.executable} -m tfpipe describe 2>&-"
        process = subprocess.run(command, shell=True, stdout=subprocess.PIPE, text=True, check=False)
        self.assertEqual(result(process)["splits"]["test"]["examples"], 359)

    def test_a_reader_that_goes_away_is_one_line(self):
        process = subprocess.run(
            f"{sys.executable} -m tfpipe train --help | true; exit ${{PIPESTATUS[0]}}",
            shell=True, executable="/bin/bash", stderr=subprocess.PIPE, text=True, check=False,
            env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        )  # fmt: skip
        # Whether the reader is gone before the help is written is a race.
        broken = (FAILED, "tfpipe: standard output cannot be written: Broken pipe\n")
        self.assertIn((process.returncode, process.stderr), [(0, ""), broken])

    @parameterized.parameters(*SIGNALS)
    def test_a_signal_before_the_training_leaves_nothing_behind(self, number):
        process = tfpipe("train", f"--workdir={self.workdir}", prepare=functools.partial(when_data_is_loaded, number))
        self.assert_fails(process, INTERRUPTED, f"tfpipe train: stopped by {signal.Signals(number).name}")
        self.assertFalse(self.workdir.exists())

    def test_a_hangup_that_is_ignored_as_by_nohup_stops_nothing(self):
        process = tfpipe("describe", prepare=functools.partial(when_data_is_loaded, signal.SIGHUP, is_ignored=True))
        self.assertEqual(result(process)["splits"]["test"]["examples"], 359)

    def test_a_signal_while_tfds_prepares_leaves_nothing_half_prepared(self):
        process = tfpipe("describe", "--dataset=tiny_rows", f"--data_dir={self.workdir}", prepare=when_tfds_prepares)
        self.assertEqual((process.returncode, process.stdout), (INTERRUPTED, ""))
        self.assertEqual(process.stderr.splitlines()[-1], "tfpipe describe: stopped by SIGTERM")
        self.assertEmpty(list(self.workdir.glob("tiny_rows/*")))

    @pytest.mark.exhaustive
    def test_a_signal_after_the_training_loses_no_result(self):
        process = tfpipe("train", "--epochs=1", cwd=self.folder, prepare=when_the_result_is_told)
        summary = result(process)
        self.assertFalse(summary["interrupted"])
        self.assertIn("\nSIGTERM: ending with what there is", process.stderr)
        report = json.loads((self.folder / summary["workdir"] / "report.json").read_text())
        self.assertFalse(report["interrupted"])

    def test_a_signal_ends_the_run_with_what_it_has(self):
        run, stderr = self.start_endless_run()
        run.send_signal(signal.SIGINT)
        read_until("SIGINT: ending with what there is", stderr)
        self.assert_ended_with_what_it_has(run)

    @pytest.mark.exhaustive
    def test_a_terminal_that_is_closed_ends_the_run_with_what_it_has(self):
        terminal, end = pty.openpty()
        termios.tcsetwinsize(end, (24, 80))
        run = self.endless_run("/dev/null", prepare=functools.partial(in_a_terminal, os.ttyname(end)))
        read_until(FIRST_VALIDATION, terminal)
        os.close(end)
        os.close(terminal)  # Which hangs up, and leaves the run without standard error.
        self.assert_ended_with_what_it_has(run)

    @pytest.mark.exhaustive
    def test_a_terminal_that_is_closed_with_standard_output_on_it(self):
        terminal, end = pty.openpty()
        termios.tcsetwinsize(end, (24, 80))
        run = self.endless_run(
            "/dev/null", prepare=functools.partial(in_a_terminal, os.ttyname(end), numbers=(0, 1, 2))
        )
        read_until(FIRST_VALIDATION, terminal)
        os.close(end)
        os.close(terminal)
        self.assertEqual(run.finished(timeout=60).returncode, INTERRUPTED)
        self.assertTrue(json.loads((self.workdir / "report.json").read_text())["interrupted"])

    @pytest.mark.exhaustive
    def test_a_second_signal_ends_the_process_at_once(self):
        run, _ = self.start_endless_run()
        run.send_signal(signal.SIGSTOP)  # So that both are there before it can look.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCONT):
            run.send_signal(number)
        self.assertEqual(run.finished(timeout=60).returncode, INTERRUPTED)
        self.assertFalse((self.workdir / "report.json").exists())
        self.assertTrue(Checkpoints(self.workdir / "checkpoints").load())

    def start_endless_run(self):
        """A run after its first validation, which keeps a model; and what it says from then on."""
        pipe = self.folder / "stderr"
        os.mkfifo(pipe)
        stderr = os.open(pipe, os.O_RDWR)
        self.addCleanup(os.close, stderr)
        run = self.endless_run(pipe)
        read_until(FIRST_VALIDATION, stderr)
        return run, stderr

    def endless_run(self, stderr, **options):
        flags = ("--epochs=1000000", "--patience=1000000000", f"--workdir={self.workdir}")
        run = Command("train", *flags, stderr=stderr, **options)
        self.addCleanup(run.kill)
        return run

    def assert_ended_with_what_it_has(self, run):
        process = run.finished(timeout=60)
        self.assertEqual(process.returncode, INTERRUPTED)
        summary = json.loads(process.stdout.splitlines()[-1])
        self.assertTrue(summary["interrupted"])
        self.assertEqual(json.loads((self.workdir / "report.json").read_text())["iterations"], summary["iterations"])
        artifact.load(self.workdir / "model.npz")
        states = sorted(path.name for path in (self.workdir / "checkpoints").glob("*.npz"))
        self.assertEqual(states[-1], f"{summary['iterations']:012d}.npz")


class SignalsTest(parameterized.TestCase):
    @parameterized.parameters(
        (("SIGHUP",), True),
        (("SIGHUP", "SIGHUP", "SIGTERM", "SIGHUP"), True),  # A shell sends it too, and may send both.
        (("SIGINT", "SIGHUP"), True),
        (("SIGTERM", "SIGINT"), False),
        (("SIGHUP", "SIGTERM", "SIGTERM"), False),
    )
    def test_nothing_but_a_second_signal_of_a_person_ends_a_run_at_once(self, names, goes_on):
        process = python(
            "import os, signal; from tfpipe.cli import interruption\n"
            "interruption.listen()\n"
            "with interruption.deferred() as came:\n"
            "    assert not came()\n"
            f"    for name in {names}: os.kill(os.getpid(), signal.Signals[name])\n"
            "    print(came())"
        )
        self.assertEqual((process.returncode, process.stdout), (0, "True\n") if goes_on else (INTERRUPTED, ""))
        at_once = "SIGTERM twice" if names[0] == "SIGHUP" else "once more"
        self.assertEqual(process.stderr, f"\n{names[0]}: ending with what there is; {at_once} to end at once\n")

    def test_a_signal_that_ended_what_came_before_is_forgotten(self):
        process = python(
            "import os, signal; from tfpipe.cli import interruption\n"
            "interruption.listen()\n"
            "for _ in range(2):\n"
            "    try: os.kill(os.getpid(), signal.SIGTERM)\n"
            "    except interruption.Interrupted: print('stopped')\n"
            "    with interruption.deferred() as came:\n"
            "        print(came())\n"
            "        os.kill(os.getpid(), signal.SIGTERM)\n"
            "        print(came())\n"
            "    interruption.listen()"
        )
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertEqual(process.stdout.split(), ["stopped", "False", "True"] * 2)


def when_data_is_loaded(number, *, is_ignored=False):
    """The process sends itself a signal when it begins to load its data."""
    from tfpipe.data import loading

    loaded = loading.loaded
    loading.loaded = lambda *given, **options: os.kill(os.getpid(), number) or loaded(*given, **options)
    if is_ignored:
        signal.signal(number, signal.SIG_IGN)


def when_tfds_prepares():
    from tests import tiny_builders

    tiny_builders.TinyRows._generate_examples = lambda builder: os.kill(os.getpid(), signal.SIGTERM)


def when_the_result_is_told():
    from tfpipe.training import report

    table = report.table
    report.table = lambda content: os.kill(os.getpid(), signal.SIGTERM) or table(content)


def leave_a_file_instead_of_training():
    from tfpipe.training import loop

    def leave(config, splits, workdir, **options):
        (workdir.path / "trained").touch(exist_ok=False)
        raise RuntimeError("trained enough")

    loop.train = leave


def in_a_terminal(path, numbers=(0, 2)):
    """Makes a terminal the controlling one, with the streams `numbers`: standard input, output and error are 0 to 2."""
    os.setsid()
    with open(path, "r+b", buffering=0) as terminal:
        for number in numbers:
            os.dup2(terminal.fileno(), number)


class ThreadsTest(CommandTest):
    @parameterized.parameters((100, 1), (100_000, 0))  # 0: as many threads as cores.
    def test_small_programs_have_one_thread(self, n_in, expected):
        np.savez(self.folder / "data.npz", images=np.random.default_rng(0).random((40, n_in)), labels=np.arange(40) % 2)
        flags = (f"--dataset={self.folder}/data.npz", f"--workdir={self.workdir}", "--solver=sgd", "--device=cpu")
        process = tfpipe("train", *flags, prepare=tell_threads_instead_of_training)
        self.assert_fails(process, FAILED, f"RuntimeError: {expected} threads")


def tell_threads_instead_of_training():
    import tensorflow as tf

    from tfpipe.training import loop

    def told(*arguments, **options):
        raise RuntimeError(f"{tf.config.threading.get_intra_op_parallelism_threads()} threads")

    loop.train = told


class CompilationTest(CommandTest):
    def test_two_programs_are_compiled_in_a_run(self):
        # Training and validation images are of one file, the test images have one of their own. And sizes that the
        # batch size does not divide, validations inside epochs, two heads, spans of several lengths.
        data = made.write_idx_folder(self.folder / "data", n_train=97, n_test=31)
        dump = self.folder / "dump"
        process = tfpipe(
            "train", f"--dataset={data}", f"--workdir={self.workdir}", "--batch_size=10", "--validation_frequency=7",
            "--learning_rate=0.1,0.2", "--patience=25", "--epochs=9", "--validation_split=23", "--notensorboard",
            env={"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_dump_to={dump} --xla_dump_hlo_as_text"},
        )  # fmt: skip
        self.assertGreater(result(process)["iterations"], 14)
        programs = sorted(re.search(r"a_inference_+([a-z]+)", path.name)[1] for path in dump.glob("*before_opt*.txt"))
        self.assertEqual(programs, ["advance", "measured"])


if __name__ == "__main__":
    absltest.main()
