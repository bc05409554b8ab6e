"""End to end: the command and its contract with people and scripts."""

import gzip
import json
import os
import pathlib
import pickle
import re
import signal
import struct
import subprocess
import sys

import numpy as np
from absl.testing import absltest, parameterized

from tests import made
from tests.command import python, result, tfpipe, without_root_rights
from tfpipe.disk.checkpoints import Checkpoints
from tfpipe.model import artifact

REPOSITORY = pathlib.Path(__file__).parent.parent
FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 143


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

    def test_version(self):
        self.assertRegex(tfpipe("--version").stdout, r"^\d+\.\d+\.\d+\n$")


class WrongUsageTest(CommandTest):
    @parameterized.parameters(
        ((), ("no command", "train")),
        (("fit",), ("unknown command 'fit'", "train")),
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
        (("train", "--overwrite"), ("--overwrite=True: goes with --noresume",)),
        (("train", "--checkpoint_every=-1"), ("--checkpoint_every=-1.0: must be a number of at least 0",)),
        (("train", f"--epochs={10**21}"), ("at most 2147483647",)),
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
            self.folder, "no file train-images-idx3-ubyte", "expected the IDX files of MNIST, or class folders"
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
        self.assert_refused(path, "mnist.pkl.gz (train): image 2 holds a value that is not finite")

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
        process = tfpipe("train", f"--workdir={self.workdir}", preexec_fn=without_root_rights)
        self.assert_fails(process, FAILED, f"--workdir={self.workdir}: {self.folder} cannot be written")

    def test_a_workdir_that_is_a_file(self):
        self.workdir.write_text("mine")
        process = tfpipe("train", f"--workdir={self.workdir}/sub")
        self.assert_fails(process, FAILED, f"--workdir={self.workdir}/sub: {self.workdir} is a file")
        self.assertEqual(self.workdir.read_text(), "mine")

    def test_a_gpu_that_is_not_there(self):
        process = tfpipe(
            "train", "--device=gpu", f"--workdir={self.workdir}", env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}
        )
        self.assert_fails(process, FAILED, "--device=gpu: TensorFlow", "finds no usable GPU: ", "cuInit")
        self.assertFalse(self.workdir.exists())

    def test_all_heads_diverge(self):
        process = tfpipe("train", "--learning_rate=1e38", f"--workdir={self.workdir}", "--verbosity=-2")
        self.assert_fails(
            process, FAILED, "every head diverged", "learning_rate=1e+38", "at iteration", "try a smaller"
        )


class TrainTest(CommandTest):
    def test_a_run_on_digits_and_its_workdir(self):
        process = tfpipe("train", "--learning_rate=0.1,0.5", "--l2=0,0.001", "--epochs=20", f"--workdir={self.workdir}")
        summary = result(process)
        self.assertEqual(
            list(summary),
            ["validation_error", "test_error", "test_examples", "learning_rate", "l2", "heads", "epochs", "iterations",
             "best_iteration", "seconds", "epochs_per_second", "device", "workdir", "interrupted"],
        )  # fmt: skip
        report = json.loads((self.workdir / "report.json").read_text())
        self.assertEqual({name: report[name] for name in summary}, summary)
        self.assertEqual((summary["heads"], summary["test_examples"], summary["epochs"]), (4, 359, 20))
        self.assertEqual((summary["workdir"], summary["interrupted"]), (str(self.workdir), False))
        self.assertLess(summary["test_error"], 0.2)

        *_, look = process.stderr.splitlines()
        self.assertEqual(look, f"to look at it: tensorboard --logdir={self.workdir}/tensorboard")
        table = process.stderr.splitlines()[-7:-2]
        self.assertRegex(table[0], "learning rate  +l2  +validation error")
        self.assertRegex(table[1], r"^\*")
        errors = [float(re.search(r"(\d+\.\d\d)%", line)[1]) for line in table[1:]]
        self.assertEqual(errors, sorted(errors))

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
        process = tfpipe("train", f"--workdir={self.workdir}")
        self.assert_fails(
            process,
            FAILED,
            f"--workdir={self.workdir}: holds a run with learning_rate=0.1,0.5, not 0.13; l2=0.0,0.001, not 0.0; give",
        )
        self.assertEqual({path: path.read_bytes() for path in kept}, kept)

    def test_runs_without_a_workdir_get_new_ones_even_at_the_same_moment(self):
        command = [sys.executable, "-m", "tfpipe", "train", "--epochs=1", "--verbosity=-1"]
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        runs = [
            subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            for _ in range(2)
        ]
        workdirs = {json.loads(run.communicate()[0])["workdir"] for run in runs}
        self.assertLen(workdirs, 2)
        for workdir in workdirs:
            self.assertTrue((self.folder / workdir / "model.npz").exists())

    def test_results_that_cannot_be_written_are_a_failure_but_the_run_is_kept(self):
        with open("/dev/full", "w") as full:
            command = [
                sys.executable,
                "-m",
                "tfpipe",
                "train",
                "--epochs=1",
                "--verbosity=-1",
                f"--workdir={self.workdir}",
            ]
            process = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        self.assertEqual(process.returncode, FAILED)
        last = process.stderr.splitlines()[-1]
        self.assertEqual(last, "tfpipe train: standard output cannot be written: No space left on device")
        self.assertTrue((self.workdir / "report.json").exists())

    def test_a_run_does_not_depend_on_standard_error(self):
        command = f"{sys.executable} -m tfpipe train --epochs=1 --workdir={self.workdir}"
        for number, redirection in enumerate(("2>/dev/full", "2>&-")):
            process = subprocess.run(
                f"{command}{number} {redirection}", shell=True, capture_output=True, text=True, check=False
            )
            self.assertEqual(result(process)["epochs"], 1)

    def test_a_reader_that_goes_away_is_one_line(self):
        process = subprocess.run(
            f"{sys.executable} -m tfpipe train --help | true; exit ${{PIPESTATUS[0]}}",
            shell=True, executable="/bin/bash", stderr=subprocess.PIPE, text=True, check=False,
            env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        )  # fmt: skip
        # Whether the reader is gone before the help is written is a race.
        broken = (FAILED, "tfpipe: standard output cannot be written: Broken pipe\n")
        self.assertIn((process.returncode, process.stderr), [(0, ""), broken])

    @parameterized.parameters(signal.SIGTERM, signal.SIGINT)
    def test_a_signal_before_the_training_leaves_nothing_behind(self, number):
        # Sent by the process itself when it begins to load its data.
        program = (
            "import os, tfpipe.data; from tfpipe.cli.main import main\n"
            f"tfpipe.data.load = lambda **options: os.kill(os.getpid(), {int(number)})\n"
            f"main(['tfpipe', 'train', '--workdir={self.workdir}'])"
        )
        process = python(program)
        self.assertEqual((process.returncode, process.stdout), (INTERRUPTED, ""))
        name = signal.Signals(number).name
        self.assertEqual(process.stderr, f"tfpipe train: stopped by {name}\n")
        self.assertFalse(self.workdir.exists())

    def test_a_signal_while_tfds_prepares_leaves_nothing_half_prepared(self):
        program = (
            "import os; from tests import tiny_builders; from tfpipe.cli.main import main\n"
            f"tiny_builders.TinyRows._generate_examples = lambda self: os.kill(os.getpid(), {int(signal.SIGTERM)})\n"
            f"main(['tfpipe', 'describe', '--dataset=tiny_rows', '--data_dir={self.workdir}'])"
        )
        process = python(program)
        self.assertEqual((process.returncode, process.stdout), (INTERRUPTED, ""))
        self.assertEqual(process.stderr.splitlines()[-1], "tfpipe describe: stopped by SIGTERM")
        self.assertEmpty(list(self.workdir.glob("tiny_rows/*")))

    def test_a_signal_after_the_training_loses_no_result(self):
        program = (
            "import os; from tfpipe.training import report; from tfpipe.cli.main import main\n"
            "table = report.table\n"
            f"report.table = lambda r: os.kill(os.getpid(), {int(signal.SIGTERM)}) or table(r)\n"
            f"main(['tfpipe', 'train', '--epochs=1', '--workdir={self.workdir}'])"
        )
        process = python(program)
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertIn("\nSIGTERM: ending with what there is", process.stderr)
        self.assertFalse(json.loads(process.stdout)["interrupted"])
        self.assertFalse(json.loads((self.workdir / "report.json").read_text())["interrupted"])

    @parameterized.parameters(signal.SIGTERM, signal.SIGINT)
    def test_a_signal_ends_the_run_with_what_it_has(self, number):
        process = self.start_endless_run()
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
        self.assertEqual(process.returncode, INTERRUPTED, stderr)
        summary = json.loads(stdout.splitlines()[-1])
        self.assertTrue(summary["interrupted"])
        self.assertEqual(json.loads((self.workdir / "report.json").read_text())["iterations"], summary["iterations"])
        artifact.load(self.workdir / "model.npz")

    def test_a_second_signal_ends_the_process_at_once(self):
        process = self.start_endless_run()
        process.send_signal(signal.SIGSTOP)  # So that both are there before it can look.
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, INTERRUPTED)
        self.assertFalse((self.workdir / "report.json").exists())
        self.assertTrue(Checkpoints(self.workdir / "checkpoints").load())

    def start_endless_run(self):
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tfpipe",
                "train",
                "--epochs=1000000",
                "--patience=1000000000",
                f"--workdir={self.workdir}",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.kill)
        next(
            line for line in process.stderr if "epoch 1/" in line
        )  # Said after the first validation, which keeps a model.
        return process


class ThreadsTest(CommandTest):
    @parameterized.parameters((100, 1), (100_000, 0))  # 0: as many threads as cores.
    def test_small_programs_have_one_thread(self, n_in, expected):
        np.savez(self.folder / "data.npz", images=np.random.default_rng(0).random((40, n_in)), labels=np.arange(40) % 2)
        program = (
            "import tensorflow as tf; from tfpipe.training import loop as training; from tfpipe.cli.main import main\n"
            "train = training.train\n"
            "def told(*arguments, **options):\n"
            "    print('threads', tf.config.threading.get_intra_op_parallelism_threads())\n"
            "    return train(*arguments, **options)\n"
            "training.train = told\n"
            f"main(['tfpipe', 'train', '--dataset={self.folder}/data.npz', '--epochs=1', '--device=cpu',"
            f" '--workdir={self.workdir}'])"
        )
        process = python(program)
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertEqual(process.stdout.splitlines()[0], f"threads {expected}")


class CompilationTest(CommandTest):
    def compiled(self, data: pathlib.Path) -> list[str]:
        """The programs that XLA compiles in a run on `data`."""
        # Sizes that the batch size does not divide, validations inside epochs, two heads, chunks of several lengths.
        dump = self.folder / "dump"
        process = tfpipe(
            "train", f"--dataset={data}", f"--workdir={self.workdir}", "--batch_size=10", "--validation_frequency=7",
            "--learning_rate=0.1,0.2", "--patience=25", "--epochs=9", "--validation_split=23", "--test_split=31",
            env=os.environ | {"XLA_FLAGS": f"--xla_dump_to={dump} --xla_dump_hlo_as_text"},
        )  # fmt: skip
        self.assertGreater(result(process)["iterations"], 14)
        modules = [path.name for path in dump.glob("*before_optimizations.txt")]
        return sorted(re.search(r"inference_(\w+?)_\d+", name)[1] for name in modules)

    def test_each_program_is_compiled_once_in_a_run(self):
        images, labels = made.images(128, (4, 6), seed=1)
        np.savez(self.folder / "data.npz", images=images, labels=labels)
        self.assertEqual(self.compiled(self.folder / "data.npz"), ["_evaluate_chunk", "_predict_chunk", "_train_chunk"])

    def test_once_for_each_array_of_images(self):
        # The validation images are of the training file's, the test images have one of their own.
        data = made.write_idx_folder(self.folder / "data", n_train=97, n_test=31)
        self.assertEqual(self.compiled(data), ["_evaluate_chunk", "_evaluate_chunk", "_predict_chunk", "_train_chunk"])


if __name__ == "__main__":
    absltest.main()
