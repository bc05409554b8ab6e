"""Workers on one machine, in processes of their own: what they are told and say, and how they end."""

import contextlib
import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import textwrap
from unittest import mock

import pytest
from absl.testing import absltest, parameterized

from tests.command import result, tfpipe, tfpipe_afresh
from tests.test_slurm import VARIABLES
from tfpipe.compute import cpu

WRONG_USAGE, INTERRUPTED = 2, 143
# Launches workers that run a program, and says on its last line what came of them.
LAUNCHER = """
import json, sys
from tfpipe.compute import launching
count, grace, program = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
output = []
command = [sys.executable, "-c", program, *sys.argv[4:]]
with launching.launched(command, count, lambda data: output.append(data.decode()), grace=grace) as launch:
    launch.wait(lambda: False)
failed = launch.failed and [*launch.failed, launch.failed.status, str(launch.failed)]
print()
print(json.dumps({"failed": failed, "killed": launch.killed, "output": output}))
"""
# What each worker begins with.
WORKER = """
import json, os, signal, socket, subprocess, sys
config = json.loads(os.environ["TF_CONFIG"])
rank = config["task"]["index"]
def say(*words):
    print(*words, file=sys.stderr, flush=True)
"""


def launched(count, program, *arguments, grace=60.0):
    """What came of workers that run a program, and what the launcher wrote to standard output before."""
    program = WORKER + textwrap.dedent(program)
    process = subprocess.run(
        [sys.executable, "-c", LAUNCHER, str(count), str(grace), program, *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert process.stderr == "", process.stderr
    *before, last = process.stdout.splitlines()
    return json.loads(last), "\n".join(before)


class SharesTest(parameterized.TestCase):
    @parameterized.parameters(
        (range(8), 1, [(0, 1, 2, 3, 4, 5, 6, 7)]),
        (range(8), 2, [(0, 1, 2, 3), (4, 5, 6, 7)]),
        (range(8), 3, [(0, 1), (2, 3), (4, 5)]),
        ((3, 5, 11), 2, [(3,), (5,)]),
        ((3, 5), 2, [(3,), (5,)]),
        ((3, 5), 3, [(3,), (5,), (3,)]),
        ((3,), 2, [(3,), (3,)]),
    )
    def test_as_many_cores_for_each(self, there, count, expected):
        with mock.patch.object(os, "sched_getaffinity", return_value=set(there)):
            self.assertEqual(cpu.shares(count), expected)


class LaunchedTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        self.fifo = self.folder / "fifo"
        os.mkfifo(self.fifo)

    def test_each_is_told_who_takes_part_and_has_cores_of_its_own(self):
        program = """
            port = int(config["cluster"]["worker"][rank].rpartition(":")[2])
            with socket.socket() as other:
                try:
                    other.bind(("", port))
                except OSError:  # It is held for the worker.
                    other = None
            assert other is None
            with socket.socket() as server:  # As TensorFlow's: on all interfaces, with SO_REUSEADDR.
                server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                server.bind(("", port))
                server.listen()
            from tfpipe.compute import cpu
            print(json.dumps([rank, config, sorted(os.sched_getaffinity(0)), cpu.cores()]))
        """
        found, chiefs = launched(2, program)
        self.assertIsNone(found["failed"])
        (other,) = found["output"]
        self.assertStartsWith(other, "worker 1: ")
        told = [json.loads(chiefs), json.loads(other.removeprefix("worker 1: "))]
        addresses = told[0][1]["cluster"]["worker"]
        self.assertLen(set(addresses), 2)
        shares = cpu.shares(2)
        for rank, (own_rank, config, cores, count) in enumerate(told):
            self.assertEqual(own_rank, rank)
            expected = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
            self.assertEqual(config, expected)
            self.assertStartsWith(addresses[rank], "127.0.0.1:")
            self.assertEqual(cores, sorted(shares[rank]))
            self.assertEqual(count, min(len(cores), max(1, cpu.cores() // 2)))

    def test_lines_have_names_and_progress_bars_stay_on_theirs(self):
        program = r"""
            import array, fcntl, termios
            for part in (b"one\ntw", b"o\r", b"\nthree\n\n", b"\r10%", b"\r20%", b"\r100%\n", b"no end"):
                os.write(2, part)
                unread = array.array("i", [1])
                while unread[0]:
                    fcntl.ioctl(2, termios.FIONREAD, unread)
            print("result")
        """
        found, chiefs = launched(1, program)
        expected = ["one\n", "two\r\n", "three\n", "\n", "10%\r", "20%\r", "100%\n", "no end\n"]
        self.assertEqual(found["output"], [f"worker 0: {line}" for line in expected])
        self.assertEqual(chiefs, "result\n")

    def test_a_progress_bar_is_not_written_over_by_another_worker(self):
        program = r"""
            if rank == 0:
                open(sys.argv[1]).close()  # Waits for the other.
                say("line")
                sys.exit(3)
            sys.stderr.write("\r50%\r60%\r...\n70%\r80%")
            sys.stderr.flush()
            open(sys.argv[1], "w").close()
            signal.pause()
        """
        found, _ = launched(2, program, self.fifo)
        bars = ["worker 1: 50%\r", "worker 1: 60%\r", "worker 1: ...\n", "worker 1: 70%\r"]
        self.assertEqual(found["output"], [*bars, "\n", "worker 0: line\n", "worker 1: 80%\n"])
        self.assertEqual(found["failed"][:2], [0, 3])

    def test_when_one_fails_the_others_are_asked_to_end_and_heard(self):
        program = """
            if rank == 1:
                open(sys.argv[1]).close()  # Waits for the other.
                say("cannot")
                sys.exit(7)
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            open(sys.argv[1], "w").close()
            signal.sigwait({signal.SIGTERM})
            say("saved")
            print("result")
            sys.exit(143)
        """
        found, chiefs = launched(2, program, self.fifo)
        self.assertEqual(found["failed"], [1, 7, 7, "worker 1 ended with status 7"])
        self.assertEqual(found["output"], ["worker 1: cannot\n", "worker 0: saved\n"])
        self.assertEqual(found["killed"], [])
        self.assertEqual(chiefs, "result\n")

    def test_the_last_words_of_a_worker_are_heard(self):
        # It has ended when the launcher has just read what it said before.
        launcher = """
import os, sys
from tfpipe.compute import launching
def write(data):
    print(data.decode(), end="")
    if b"first" in data:
        open(sys.argv[2], "w").close()
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
with launching.launched([sys.executable, "-c", *sys.argv[1:]], 1, write) as launch:
    launch.wait(lambda: False)
print(launch.failed)
"""
        program = "import sys; print('first', file=sys.stderr); open(sys.argv[1]).close(); sys.exit('last')"
        arguments = [sys.executable, "-c", launcher, program, self.fifo]
        said = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True, timeout=60).stdout
        self.assertEqual(said, "worker 0: first\nworker 0: last\nworker 0 ended with status 1\n")

    def test_one_that_a_signal_ends(self):
        found, _ = launched(1, "os.kill(os.getpid(), signal.SIGKILL)")
        self.assertEqual(found["failed"], [0, -9, 137, "worker 0 was ended by SIGKILL"])

    def test_one_that_does_not_end_is_killed_with_what_it_has_started(self):
        program = """
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            if rank == 1:
                open(sys.argv[1]).close()  # Waits for the other.
                sys.exit(1)
            child = "import signal, sys; file = open(sys.argv[1], 'w'); print(flush=True); signal.pause()"
            with subprocess.Popen([sys.executable, "-c", child, sys.argv[2]], stdout=subprocess.PIPE) as process:
                process.stdout.readline()
                open(sys.argv[1], "w").close()
                signal.pause()
        """
        alive = self.folder / "alive"
        os.mkfifo(alive)
        of_child = os.open(alive, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, of_child)
        found, _ = launched(2, program, self.fifo, alive, grace=0.0)
        self.assertEqual(found["failed"], [1, 1, 1, "worker 1 ended with status 1"])
        self.assertEqual(found["killed"], [0])
        self.assertTrue(select.select([of_child], [], [], 60)[0])  # The child had it open, and nobody has any more.
        self.assertEqual(os.read(of_child, 1), b"")


class CommandTest(parameterized.TestCase):
    """Workers whose flags come from a pipe, so that they wait as long as the test has it open."""

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        self.flags = self.folder / "flags"
        os.mkfifo(self.flags)

    def start(self, *options, **environment):
        process = subprocess.Popen(
            [sys.executable, "-m", "tfpipe", "launch", *options, "--", "train", f"--flagfile={self.flags}"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | environment,
        )  # fmt: skip
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def start_workers(self):
        """A launcher whose two workers wait for their flags; and what tells of each worker that it has ended."""
        process = self.start("--workers=2")
        checking = os.open(self.flags, os.O_WRONLY)
        self.flags.unlink()
        os.mkfifo(self.flags)
        os.close(checking)  # So no flags were wrong.
        self.addCleanup(os.close, os.open(self.flags, os.O_WRONLY))
        workers = {}
        while len(workers) < 2:
            for pid in pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
                with contextlib.suppress(KeyError):  # It has not begun with its program.
                    workers[json.loads(environment_of(pid)["TF_CONFIG"])["task"]["index"]] = int(pid)
            self.assertIsNone(process.poll())
        ends = [os.pidfd_open(workers[rank]) for rank in range(2)]
        for end in ends:
            self.addCleanup(os.close, end)
        return process, ends

    def assert_ended(self, ends):
        for end in ends:
            self.assertTrue(select.select([end], [], [], 60)[0])

    @parameterized.parameters(signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    def test_a_signal_ends_all(self, number):
        process, ends = self.start_workers()
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
        self.assertEqual((process.returncode, stdout), (INTERRUPTED, ""), stderr)
        self.assertIn(f"{number.name}: ending with what there is; ", stderr)
        self.assert_ended(ends)

    def test_a_launcher_that_is_killed_takes_its_workers_with_it(self):
        process, ends = self.start_workers()
        process.kill()
        self.assert_ended(ends)

    @parameterized.parameters(0, 1)
    def test_a_worker_that_is_killed_ends_the_others(self, rank):
        process, ends = self.start_workers()
        signal.pidfd_send_signal(ends[rank], signal.SIGKILL)
        stdout, stderr = process.communicate(timeout=60)
        self.assertEqual((process.returncode, stdout), (128 + signal.SIGKILL, ""))
        self.assertEqual(stderr, f"tfpipe launch: worker {rank} was ended by SIGKILL; the others are ended too\n")
        self.assert_ended(ends)

    def test_a_task_of_slurm_becomes_its_worker(self):
        process = self.start(**VARIABLES)
        with open(self.flags, "w") as flags:
            config = {"cluster": {"worker": ["n9:26000", "n10:26000"]}, "task": {"type": "worker", "index": 1}}
            self.assertEqual(json.loads(environment_of(process.pid)["TF_CONFIG"]), config)
            flags.write("--l2=nan\n")
        stdout, stderr = process.communicate(timeout=60)
        self.assertEqual((process.returncode, stdout), (WRONG_USAGE, ""))
        self.assertRegex(stderr, "^tfpipe train: --l2=nan: nan is not a number of at least 0[^\n]*\n$")

    def test_workers_that_fail(self):
        process = tfpipe_afresh("launch", "--workers=2", "--", "train", "--dataset=/no/such/data")
        self.assertEqual((process.returncode, process.stdout), (1, ""))
        lines = process.stderr.splitlines()
        own = [line for line in lines if line.startswith("tfpipe launch: ")]
        self.assertLen(own, 1)
        self.assertRegex(own[0], r"^tfpipe launch: worker [01] ended with status 1; the others are ended too$")
        failed = own[0].split()[3]
        # It may hear of the other one's before it meets its own.
        problem = rf"worker {failed}: tfpipe train: (worker [01] \(\S+\): )?/no/such/data: no such data; expected"
        self.assertRegex(process.stderr, problem)
        for line in set(lines) - set(own):
            self.assertRegex(line, "^worker [01]: ")

    def test_nothing_is_imported_from_the_working_directory(self):
        (self.folder / "json.py").write_text("open('imported', 'w').close()\n")
        process = subprocess.run(
            [sys.executable, "-P", "-m", "tfpipe", "launch", "--workers=1", "--", "train", "--dataset=/no/such/data"],
            cwd=self.folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        self.assertIn("worker 0: tfpipe train: /no/such/data: no such data", process.stderr)
        self.assertFalse((self.folder / "imported").exists())

    @pytest.mark.exhaustive
    def test_the_result_is_the_chiefs(self):
        process = tfpipe_afresh("launch", "--workers=2", "--", "train", "--epochs=2", cwd=self.folder)
        self.assertLen(process.stdout.splitlines(), 1)
        self.assertEqual(result(process)["epochs"], 2)
        for line in process.stderr.splitlines():
            self.assertRegex(line, "^worker [01]: ")

    @parameterized.parameters(
        (["--workers=2"], {}, "tfpipe launch: no -- before the command; usage: tfpipe launch [flags] -- train [flags]"),
        (["--workers=2", "train"], {}, "tfpipe launch: no -- before the command"),
        (["--workers=2", "train", "--l2=0.1"], {}, "tfpipe launch: no -- before the command"),
        (["--workers=2", "--"], {}, "tfpipe launch: nothing cannot be launched; give -- train [flags]"),
        (["--workers=2", "--", "evaluate"], {}, "tfpipe launch: 'evaluate' cannot be launched; give -- train [flags]"),
        (["--workers=2", "--", "--l2=1"], {}, "tfpipe launch: '--l2=1' cannot be launched; give -- train [flags]"),
        (["--workers=0", "--", "train"], {}, "--workers=0"),
        (["--workers=two", "--", "train"], {}, "--workers=two"),
        (["--worker=2", "--", "train"], {}, "Unknown command line flag 'worker'. Did you mean: workers ?"),
        (["--", "train"], {}, "tfpipe launch: --workers is missing"),
        (["--workers=2", "--", "train"], {"TF_CONFIG": "{}"}, "tfpipe launch: TF_CONFIG is set"),
        (["--workers=2", "--", "train"], VARIABLES, "tfpipe launch: --workers=2: srun has started 2 tasks"),
        (
            ["--", "train"],
            VARIABLES | {"SLURM_STEP_NODELIST": "n[9-"},
            "tfpipe launch: SLURM_STEP_NODELIST=n[9-: expected names of nodes, such as n[1-3,10],gpu07",
        ),
        (["--", "train"], {"SLURM_JOB_ID": "7"}, "tfpipe launch: SLURM_STEP_NODELIST is not set; srun sets it"),
        (["--workers=2", "--", "train", "--l2=nan"], {}, "tfpipe train: --l2=nan: nan is not a number of at least 0"),
    )
    def test_wrong_usage(self, arguments, environment, words):
        process = tfpipe("launch", *arguments, env=environment)
        self.assertEqual((process.returncode, process.stdout), (WRONG_USAGE, ""))
        self.assertLen(process.stderr.splitlines(), 1, process.stderr)
        self.assertIn(words, process.stderr)


def environment_of(pid):
    """The environment with which a process has begun."""
    entries = pathlib.Path(f"/proc/{pid}/environ").read_bytes().decode(errors="surrogateescape").split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


if __name__ == "__main__":
    absltest.main()
