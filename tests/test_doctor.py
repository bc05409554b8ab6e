import functools
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
from unittest import mock

import pytest
import tensorflow as tf
from absl.testing import absltest, parameterized
from fsspec.implementations.memory import MemoryFileSystem

from tests import made
from tests.command import in_a_process, result, tfpipe, without_root_rights
from tfpipe.compute import cpu, startup
from tfpipe.config import TrainConfig
from tfpipe.doctor import brief, children, cuda, nvidia_smi, observing, report, rules, run_path
from tfpipe.doctor.facts import Folder, Gpu, Library, Machine, Smi, Trial
from tfpipe.doctor.gpu_rules import DRIVER, NEEDED, OPTIONAL
from tfpipe.training.loop import train as trained

FOLDER = pathlib.Path(__file__).parent / "doctor"
SITUATIONS = sorted(path.stem for path in FOLDER.glob("*.json"))
ROW = "0, NVIDIA A100-SXM4-40GB, 550.54.15, 8.0, 40960, 40338, 00000000:00:04.0"
HEADER = "| NVIDIA-SMI 550.54.15              Driver Version: 550.54.15      CUDA Version: 12.4     |"
A100 = Gpu(0, "NVIDIA A100-SXM4-40GB", "550.54.15", "8.0", 40960, 40338, "00000000:00:04.0")


@functools.cache
def situation(name):
    content = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    if "of" not in content:
        return content
    return content | {"machine": merged(situation(content["of"])["machine"], content["edits"])}


def merged(base, edits):
    """As RFC 7396 has it: what is null is taken away."""
    if not isinstance(edits, dict):
        return edits
    both = dict(base) if isinstance(base, dict) else {}
    for name, edit in edits.items():
        both[name] = merged(both.get(name), edit)
    return {name: value for name, value in both.items() if value is not None or name not in edits}


class SituationTest(parameterized.TestCase):
    @parameterized.parameters(SITUATIONS)
    def test_what_is_found(self, name):
        content = situation(name)
        machine = Machine.from_json(content["machine"])
        found = rules.findings(machine, content.get("device", "auto"))
        lines = [list(one) for one in found]
        expected = content["findings"]
        self.assertEqual(
            [line for line in lines if line[1] != "good"], [line for line in expected if line[1] != "good"]
        )
        if not any(line[1] != "good" for line in expected):
            self.assertEqual(lines, expected)
        is_usable = all(line[1] != "bad" for line in expected)
        told = report.content(machine, found, "auto")
        self.assertEqual((rules.is_usable(found), told["usable"]), (is_usable, is_usable))
        self.assertEqual(Machine.from_json(json.loads(json.dumps(told["machine"]))), machine)
        (last,) = report.lines(found)[-1:]
        if is_usable:
            self.assertEqual(last, "all that is wanted can be used")
        else:
            subject, _, what, remedy = next(line for line in expected if line[1] == "bad")
            count = sum(line[1] == "bad" for line in expected)
            self.assertEqual(last, f"{count} to mend; begin with {subject}: {what}; {remedy}")

    def test_lines_are_aligned(self):
        found = rules.findings(Machine.from_json(situation("cudnn_missing")["machine"]), "auto")
        lines = report.lines(found)
        self.assertIn("libcudnn.so.9      bad   is not found; pip install 'nvidia-cudnn-cu12>=9.3,<10'", lines)
        self.assertIn("driver             good  serves CUDA 12.8", lines)


class RunPathTest(tf.test.TestCase):
    def test_where_tensorflow_looks_for_libraries(self):
        folder = pathlib.Path(tf.__file__).parent.resolve()
        found = run_path.folders(folder / "libtensorflow_framework.so.2")
        self.assertLen(found, len(set(found)))
        for package in ("cuda_runtime", "cublas", "cufft", "cusparse", "cudnn"):
            self.assertIn(folder.parent / "nvidia" / package / "lib", found)
        # Which is why a library that pip's package has brought is not found: see `cusolver_elsewhere.json`.
        self.assertNotIn(folder.parent / "nvidia/cusolver/lib", found)

    def test_what_is_no_library(self):
        with self.assertRaisesRegex(ValueError, "is no library of a 64-bit Linux"):
            run_path.folders(pathlib.Path(__file__))
        with self.assertRaises(FileNotFoundError):
            run_path.folders(pathlib.Path("/no/such.so"))


class ProgramTest(absltest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    def program(self, script):
        path = self.folder / "program"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return [str(path)]

    def test_a_device_that_ends_the_program_and_one_that_does_not(self):
        # It is started again without the first.
        program = self.program(
            """echo '{"tensorboard": ""}'; echo '{"devices": ["CPU:0", "GPU:0", "GPU:1"]}'
            case "$*" in
            "") echo '{"device": "CPU:0", "seconds": 0.5, "error": null}'; echo '{"begins": "GPU:0"}'
                echo "W0000 00:00:1.0 1 gpu_device.cc:2431] TensorFlow was not built with CUDA kernel binaries" >&2
                echo "LLVM ERROR: PTX version 8.5 does not support target 'sm_120'" >&2
                echo "    @ 0x7f0 gsignal" >&2; kill -ABRT $$ ;;
            "CPU:0 GPU:0") echo '{"begins": "GPU:1"}'; echo '{"device": "GPU:1", "seconds": 2.5, "error": null}' ;;
            esac"""
        )
        trials, log, tensorboard = observing.tried(program, [], 60)
        ended = "ended by SIGABRT: LLVM ERROR: PTX version 8.5 does not support target 'sm_120'"
        self.assertEqual(trials, {"CPU:0": Trial(0.5), "GPU:0": Trial(error=ended), "GPU:1": Trial(2.5)})
        self.assertEqual(log, ("TensorFlow was not built with CUDA kernel binaries",))
        self.assertEqual(tensorboard, "")

    def test_a_device_on_which_the_program_does_not_end(self):
        program = self.program(
            """echo '{"devices": ["GPU:0"]}'; echo '{"begins": "GPU:0"}'; echo compiling >&2
            cat <> "$0.fifo" """
        )
        os.mkfifo(f"{program[0]}.fifo")
        trials, _, tensorboard = observing.tried(program, [], 1)
        self.assertEqual(trials, {"GPU:0": Trial(error="did not end within 1 s")})
        self.assertIsNone(tensorboard)

    def test_what_a_program_says_of_its_progress_is_no_reason(self):
        begun = """echo '{"tensorboard": ""}'"""
        for script, how in (
            (f"{begun}; kill -KILL $$", "ended by SIGKILL"),
            (f"{begun}; exit 3", "ended with status 3"),
        ):
            trials, *_ = observing.tried(self.program(script), [], 60)
            self.assertEqual(trials, {"TensorFlow": Trial(error=how)})

    def test_a_program_that_does_not_begin(self):
        for script, how in (
            ("echo 'ImportError: no module' >&2; exit 3", "ended with status 3: ImportError: no module"),
            ("kill -ILL $$", "ended by SIGILL"),
            ("echo 'F0000 00:00:1.5 7 parse.cc:23] Unknown flag' >&2; exit 1", "ended with status 1: Unknown flag"),
        ):
            trials, *_ = observing.tried(self.program(script), [], 60)
            self.assertEqual(trials, {"TensorFlow": Trial(error=how)})

    def test_a_program_that_ends_badly_after_all(self):
        program = self.program("""echo '{"devices": ["CPU:0", "GPU:0"]}'; echo broken >&2; exit 2""")
        trials, *_ = observing.tried(program, [], 60)
        self.assertEqual(trials, {"TensorFlow": Trial(error="ended with status 2: broken")})

    def test_what_a_program_has_started_is_ended_too(self):
        program = self.program('(echo $$ > "$0.pid"; cat <> "$0.fifo") & echo begun; wait')
        os.mkfifo(f"{program[0]}.fifo")
        ended = children.run(program, 1)
        self.assertEqual((ended.output, ended.problem), ("begun\n", "did not end within 1 s"))


class NvidiaSmiTest(absltest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    def asked(self, rows, status=0, header=HEADER):
        with on_the_path(self, self.folder, rows, status, header):
            return nvidia_smi.asked()

    def test_what_it_says(self):
        path = str(self.folder / "nvidia-smi")
        self.assertEqual(self.asked(ROW), Smi(path, (A100,), "12.4"))
        of_shared_memory = "1, NVIDIA GB10, 580.95.05, 12.1, [N/A], [N/A], 0000000F:01:00.0"
        found = self.asked(f"{ROW}\n{of_shared_memory}", header="|  CUDA UMD Version: 13.1  |")
        self.assertEqual((found.gpus[0], found.cuda), (A100, "13.1"))
        self.assertEqual(found.gpus[1], Gpu(1, "NVIDIA GB10", "580.95.05", "12.1", None, None, "0000000F:01:00.0"))

    def test_what_it_says_where_it_fails(self):
        path = str(self.folder / "nvidia-smi")
        self.assertEqual(self.asked("No devices were found", 6), Smi(path))
        mismatch = "Failed to initialize NVML: Driver/library version mismatch"
        self.assertEqual(self.asked(mismatch, 18), Smi(path, error=mismatch))
        self.assertEqual(self.asked("", 9), Smi(path, error="ended with status 9"))

    def test_a_driver_too_old_to_know_of_capabilities(self):
        script = f"""case "$1" in
        *compute_cap*) echo 'Field "compute_cap" is not a valid field to query.'; exit 2 ;;
        --query-gpu=*) echo '{ROW.replace("8.0", "00000000:00:04.0")}' ;;
        *) echo '{HEADER}' ;;
        esac"""
        with on_the_path(self, self.folder, script=script):
            self.assertEqual(nvidia_smi.asked().gpus, (A100._replace(capability=""),))

    def test_where_there_is_none(self):
        with on_the_path(self, self.folder, script=None):
            self.assertEqual(nvidia_smi.asked(), Smi())


def on_the_path(test, folder, rows="", status=0, header=HEADER, script=None):
    """An `nvidia-smi` that says this, before all others; none, and no other program, without a script and rows."""
    path = folder / "nvidia-smi"
    path.unlink(missing_ok=True)
    places = [str(folder)]
    if rows or status or script:
        path.write_text(
            script or f"case $1 in --query-gpu=*) printf '%s\\n' '{rows}'; exit {status};; *) echo '{header}';; esac"
        )
        path.write_text(f"#!/bin/sh\n{path.read_text()}\n")
        path.chmod(0o755)
        places.append(os.environ["PATH"])
    return environment(PATH=os.pathsep.join(places))


def environment(**names):
    return mock.patch.dict(os.environ, names)


class ObservingTest(absltest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    def test_device_files(self):
        for name, mode in (("nvidia0", 0o600), ("nvidiactl", 0o060), ("nvidia-caps", 0o600), ("null", 0o600)):
            (self.folder / name).touch()
            (self.folder / name).chmod(mode)
        found = cuda.device_files(self.folder)
        self.assertEqual(list(found), [str(self.folder / name) for name in ("nvidia0", "nvidiactl")])
        self.assertEqual(found[str(self.folder / "nvidia0")][:2], (True, "-rw-------"))
        self.assertEqual(found[str(self.folder / "nvidiactl")].mode, "----rw----")

    def test_for_what_tensorflow_was_built(self):
        info = tf.sysconfig.get_build_info()
        build = cuda.build()
        self.assertEqual(build.cuda, info.get("cuda_version"))
        self.assertEqual(list(build.capabilities), list(info.get("cuda_compute_capabilities", [])))

    def test_libraries_that_are_there_and_those_that_are_not(self):
        # One of the system stands for that of the driver; it has no version to tell.
        maps = pathlib.Path("/proc/self/maps").read_text().split()
        shutil.copy(next(word for word in maps if word.endswith("/libm.so.6")), self.folder / DRIVER)
        with environment(LD_LIBRARY_PATH=str(self.folder)):
            found = cuda.libraries()
        self.assertEqual(found[DRIVER], Library(str(self.folder / DRIVER)))
        self.assertEqual(list(found), [DRIVER, *NEEDED, *OPTIONAL])
        for name in NEEDED:
            if found[name].file is None:
                self.assertEqual(
                    found[name].error, f"{name}: cannot open shared object file: No such file or directory"
                )

    def test_a_library_that_cannot_be_opened(self):
        (self.folder / DRIVER).write_text("INPUT(libc.so.6)")
        with environment(LD_LIBRARY_PATH=str(self.folder)):
            found = cuda.libraries()[DRIVER]
        self.assertEqual(found, Library(error=f"{self.folder / DRIVER}: file too short"))

    def test_a_library_that_tensorflow_does_not_look_for_is_opened_before(self):
        # Packages as pip lays them out; TensorFlow itself is not imported.
        site, dev = self.folder / "site", self.folder / "dev"
        library = site / "nvidia/cusolver/lib" / startup.CUSOLVER
        for path in (site / "tensorflow/__init__.py", library, dev / "nvidiactl"):
            path.parent.mkdir(parents=True)
            path.touch()
        spec = importlib.machinery.ModuleSpec("tensorflow", None, origin=str(site / "tensorflow/__init__.py"))
        with mock.patch.object(importlib.util, "find_spec", return_value=spec):
            self.assertEqual(startup.path_of_cusolver(dev), library)
            self.assertIsNone(startup.path_of_cusolver(self.folder))  # Where there is no GPU it stays closed.
            library.unlink()
            self.assertIsNone(startup.path_of_cusolver(dev))

    def test_what_xla_compiles_with(self):
        for path in ("nvvm/libdevice/libdevice.10.bc", "bin/ptxas"):
            (self.folder / path).parent.mkdir(parents=True)
            (self.folder / path).touch(0o755)
        with environment(XLA_FLAGS=f"--xla_gpu_cuda_data_dir={self.folder}", PATH=str(self.folder / "bin")):
            found = cuda.compiler()
        self.assertEqual(found, (str(self.folder / "nvvm/libdevice/libdevice.10.bc"), str(self.folder / "bin/ptxas")))

    def test_where_the_driver_keeps_what_it_has_compiled(self):
        cache = self.folder / "new/cache"
        with environment(CUDA_CACHE_PATH=str(cache), CUDA_CACHE_DISABLE="0"):
            self.assertEqual(cuda.cache(), Folder(str(cache)))
        with environment(CUDA_CACHE_PATH=str(cache), CUDA_CACHE_DISABLE="1"):
            self.assertEqual(cuda.cache(), Folder(str(cache), "CUDA_CACHE_DISABLE is set"))

    def test_a_workdir_in_a_folder_that_may_not_be_entered(self):
        closed = self.folder / "closed"
        (closed / "runs").mkdir(parents=True)
        closed.chmod(0)
        self.addCleanup(closed.chmod, 0o700)
        found = in_a_process(observed_without_root_rights, closed / "runs" / "1")
        self.assertEqual((found.workdir, found.failed), (Folder(f"{closed}/runs/1", "Permission denied"), {}))
        self.assertEqual(of_workdir(found), [("bad", f"{closed}/runs/1 cannot be written: Permission denied")])

    def test_a_workdir_on_a_store(self):
        self.enter_context(environment(TFPIPE_CACHE_DIR=str(self.folder / "cache")))
        found = observing.machine("cpu", "memory://doctor/runs", 60, ["true"])
        ((level, what),) = of_workdir(found)
        self.assertIn(level, ("good", "note"))
        self.assertStartsWith(what, f"memory://doctor/runs, by way of {self.folder}/cache/runs, can be written, ")
        self.assertEqual(MemoryFileSystem().find("/doctor"), [])  # It leaves nothing.
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_a_workdir_on_a_store_that_denies_or_lies(self):
        self.enter_context(environment(TFPIPE_CACHE_DIR=str(self.folder)))
        denied = mock.patch.object(MemoryFileSystem, "pipe_file", side_effect=PermissionError("hush"))
        wrong = mock.patch.object(MemoryFileSystem, "cat_file", return_value=b"ecno")
        for fault, words in (
            (denied, r"/\.doctor-\w+: cannot be written: access is denied; give credentials that may do that"),
            (wrong, ": what was written is not what is read"),
        ):
            with fault:
                found = observing.machine("cpu", "memory://doctor/runs", 60, ["true"])
            ((level, what),) = of_workdir(found)
            self.assertEqual(level, "bad")
            self.assertRegex(what, f"^memory://doctor/runs{words}$")

    def test_a_workdir_on_a_store_without_room_here(self):
        (self.folder / "file").touch()
        self.enter_context(environment(TFPIPE_CACHE_DIR=str(self.folder / "file")))
        found = observing.machine("cpu", "memory://doctor/runs", 60, ["true"])
        ((level, what),) = of_workdir(found)
        self.assertEqual(level, "bad")
        self.assertRegex(
            what, f"^{self.folder}/file/runs cannot be written: .*; TFPIPE_CACHE_DIR names another folder$"
        )

    def test_no_secret_is_shown(self):
        with environment(TF_VAR_password="secret", TF_CPP_MIN_LOG_LEVEL="3", XLA_FLAGS="", TF_CONFIG="{}"):
            found = observing.gpus("cpu").environment
        self.assertEqual({name: found[name] for name in ("TF_CPP_MIN_LOG_LEVEL", "XLA_FLAGS")},
                         {"TF_CPP_MIN_LOG_LEVEL": "3", "XLA_FLAGS": ""})  # fmt: skip
        self.assertTrue({"TF_VAR_password", "TF_CONFIG"}.isdisjoint(found))


def observed_without_root_rights(workdir):
    without_root_rights()
    return observing.machine("cpu", workdir, 60, ["true"])


def of_workdir(machine):
    return [(one.level, one.what) for one in rules.findings(machine, "cpu") if one.subject == "workdir"]


class WithoutGpuTest(parameterized.TestCase):
    """What a run says that has no GPU."""

    def setUp(self):
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    def test_in_a_line(self):
        with on_the_path(self, self.folder, ROW), environment(CUDA_VISIBLE_DEVICES="-1"):
            said = brief.why_none("auto")
        hidden, unset = (
            "CUDA_VISIBLE_DEVICES=-1 hides all GPUs",
            "unset CUDA_VISIBLE_DEVICES; if it is meant so, --device=cpu",
        )
        self.assertStartsWith(said, f"CUDA_VISIBLE_DEVICES: {hidden}; {unset} says it (")
        with on_the_path(self, self.folder, "No devices were found", 6):
            self.assertIsNone(brief.why_none("auto"))
            self.assertStartsWith(brief.why_none("gpu"), "nvidia-smi: sees no GPU; look whether the system has one")

    def test_a_run_on_the_cpu_though_there_is_a_gpu(self):
        with on_the_path(self, self.folder, ROW):
            path = os.environ["PATH"]
        workdir = self.folder / "run"
        flags = ("--batch_size=100", "--epochs=1", "--notensorboard", f"--workdir={workdir}")
        process = tfpipe("train", *flags, env={"PATH": path, "CUDA_VISIBLE_DEVICES": "-1"})
        summary = result(process)
        said = (
            "a GPU is there, and the run takes the CPU: CUDA_VISIBLE_DEVICES: CUDA_VISIBLE_DEVICES=-1 hides all GPUs; "
        )
        lines = [line for line in process.stderr.splitlines() if said in line]
        self.assertLen(lines, 2)
        first, *_, before_last, _ = process.stderr.splitlines()
        self.assertEqual((first.partition(" ")[2], before_last), (lines[1], lines[1]))
        remarks = json.loads((workdir / "report.json").read_text())["remarks"]
        self.assertEqual((remarks, summary["device"]), ([lines[1]], "cpu"))
        # On the page too.
        self.assertIn("the run takes the CPU: CUDA_VISIBLE_DEVICES", (workdir / "report.html").read_text())

    def test_where_no_gpu_is_to_be_seen_nothing_is_looked_at(self):
        self.assertEqual(in_a_process(train_without_programs), [])

    @pytest.mark.exhaustive
    def test_a_gpu_that_is_wanted(self):
        with on_the_path(self, self.folder, ROW):
            path = os.environ["PATH"]
        process = tfpipe("train", "--device=gpu", env={"PATH": path, "CUDA_VISIBLE_DEVICES": "-1"})
        self.assertEqual((process.returncode, process.stdout), (1, ""))
        (line,) = process.stderr.splitlines()
        self.assertStartsWith(line, "tfpipe train: --device=gpu: TensorFlow 2.21.0 finds no usable GPU: ")
        self.assertIn(
            "; CUDA_VISIBLE_DEVICES: CUDA_VISIBLE_DEVICES=-1 hides all GPUs; unset CUDA_VISIBLE_DEVICES", line
        )


def train_without_programs():
    os.environ["PATH"] = "/nowhere"
    with mock.patch.object(subprocess, "Popen", side_effect=AssertionError("a program was started")):
        return trained(TrainConfig(batch_size=100, epochs=1), made.splits()).report["remarks"]


class CommandTest(parameterized.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    def doctor(self, *flags, rows="", status=0, **options):
        with on_the_path(self, self.folder, rows or "No devices were found", status or (0 if rows else 6)):
            path = os.environ["PATH"]
        process = tfpipe("doctor", *flags, env={"PATH": path, **options.pop("env", {})}, **options)
        return process, json.loads(process.stdout)

    def test_a_machine_on_which_all_is_well(self):
        process, told = self.doctor("--device=cpu", f"--workdir={self.folder}/runs")
        self.assertEqual((process.returncode, told["usable"], told["device"]), (0, True, "cpu"), process.stderr)
        self.assertEqual(process.stdout.count("\n"), 1)
        levels = {one["subject"]: one["level"] for one in told["findings"]}
        for subject in ("versions", "processor", "CPU:0", "TensorBoard", "workdir"):
            self.assertIn(levels[subject], ("good", "note"))
        *lines, last = process.stderr.splitlines()
        self.assertEqual((len(lines), last), (len(told["findings"]), "all that is wanted can be used"))
        machine = Machine.from_json(told["machine"])
        self.assertEqual((machine.versions["tensorflow"], machine.cores), (tf.__version__, cpu.cores()))
        self.assertEqual((machine.trials["CPU:0"].error, machine.failed), (None, {}))
        self.assertEqual(sorted(self.folder.iterdir()), [self.folder / "nvidia-smi"])  # It leaves nothing.

    def test_a_gpu_that_cannot_be_used_and_a_workdir_that_cannot_be_written(self):
        closed = self.folder / "closed"
        closed.mkdir(0o555)
        flags = ("--device=gpu", f"--workdir={closed}/runs", "--timeout=300")
        process, told = self.doctor(*flags, rows=ROW, env={"CUDA_VISIBLE_DEVICES": "-1"}, prepare=without_root_rights)
        self.assertEqual((process.returncode, told["usable"]), (1, False))
        found = {(one["subject"], one["level"]): one["what"] for one in told["findings"]}
        self.assertStartsWith(found["GPU 0", "good"], "NVIDIA A100-SXM4-40GB, driver 550.54.15, capability 8.0, ")
        self.assertEqual(found["CUDA_VISIBLE_DEVICES", "bad"], "CUDA_VISIBLE_DEVICES=-1 hides all GPUs")
        self.assertStartsWith(found["TensorFlow", "bad"], "lists no GPU: ")
        self.assertStartsWith(found["workdir", "bad"], f"{closed}/runs cannot be written: ")
        self.assertEqual(found["CPU:0", "good"][:-6], "a compiled program ran in")
        self.assertRegex(process.stderr, r"\d+ to mend; begin with \S")

    @parameterized.parameters(
        ("--device=tpu", "auto|cpu|gpu"), ("--timeout=0", "--timeout=0"), ("--workdir=~nobodyx/x", "is in the home of"),
        ("--workdir=", "--workdir=: must be a path or an address"),
        ("--workdir=http://host/runs", "can be read, and not written"),
    )  # fmt: skip
    def test_wrong_usage(self, flag, words):
        process = tfpipe("doctor", flag)
        self.assertEqual((process.returncode, process.stdout), (2, ""))
        self.assertIn(words, process.stderr)


if __name__ == "__main__":
    absltest.main()
