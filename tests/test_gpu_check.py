"""The check of what is said of GPUs: its verdicts, its processes, and programs for another XLA. Needs no GPU."""

import importlib.util
import json
import math
import os
import pathlib
import select
import subprocess
import sys

import numpy as np
import pytest
from absl.testing import absltest, parameterized

from tests import made

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "experiments"))

import gpu_check
import gpu_parts
import saved_programs
from gpu_check import FAILS, HOLDS, NOT_TRIED, Claim, Outcome

EXPERIMENTS = pathlib.Path(gpu_check.__file__).parent
SECONDS = 60


def run(*arguments, **environment):
    """The finished `gpu_check.py`, on the built-in digits."""
    return subprocess.run(
        [sys.executable, EXPERIMENTS / "gpu_check.py", *arguments],
        capture_output=True, text=True, check=False,
        env={name: value for name, value in os.environ.items() if name != "TFPIPE_MNIST_DIR"} | environment,
    )  # fmt: skip


class VerdictTest(parameterized.TestCase):
    OUTCOMES = {  # noqa: RUF012
        "one": Outcome({"seconds": 1.0}),
        "two": Outcome({"seconds": 2.0}),
        "crashed": Outcome(None, "ended with signal 11"),
        "left out": Outcome(None, "there is one", tried=False),
    }

    @parameterized.parameters(
        (("one", "two"), "", (HOLDS, "1 of 2 s")),
        (("two", "one"), "", (FAILS, "2 of 1 s")),
        (("one", "crashed"), "", (FAILS, "crashed: ended with signal 11")),
        (("crashed", "left out"), "", (NOT_TRIED, "there is one")),
        (("one", "crashed"), "it is said of GPUs", (NOT_TRIED, "it is said of GPUs")),
    )
    def test_of_a_claim(self, parts, why_not, expected):
        def judge(a, b):
            return a["seconds"] < b["seconds"], f"{a['seconds']:.0f} of {b['seconds']:.0f} s"

        claim = Claim("the first is faster", parts, judge, why_not)
        self.assertEqual(gpu_check.verdict(claim, self.OUTCOMES), ("the first is faster", *expected))

    def test_of_figures(self):
        a, b = {"W": [1.0, -2.0], "digest": "a"}, {"W": [1.0, -2.02], "digest": "b"}
        near = gpu_check.is_near(1e-2)
        self.assertEqual(near(a, b), (True, "W is 9.9e-03 apart; 1e-02 at most are expected"))
        self.assertFalse(gpu_check.is_near(9e-3)(a, b)[0])
        self.assertTrue(near(a, a)[0])
        other = gpu_check.is_near(1e-2, beyond=1e-4)
        self.assertEqual(other(a, a), (False, "W is 0.0e+00 apart; between 1e-04 and 1e-02 are expected"))
        self.assertTrue(other(a, b)[0])
        self.assertEqual(gpu_check.same_bits(a, b), (False, "W is 9.9e-03 apart"))
        self.assertTrue(gpu_check.same_bits(a, a)[0])

    def test_of_a_saved_program(self):
        figures = {"away": {"0": 2e-5, "3": 2e-6}, "tolerance": {"0": 1e-4, "3": 3e-6}}
        self.assertEqual(gpu_check.is_within(figures), (True, "2.0e-05, 2.0e-06 apart; 1e-04, 3e-06 may be"))
        self.assertFalse(gpu_check.is_within(figures | {"away": {"0": 2e-6, "3": 2e-5}})[0])

    @parameterized.parameters((720, 719, 74, True), (721, 719, 74, False), (720, 719, 75, False))
    def test_of_the_tutorials_run(self, validation, test, epochs, expected):
        figures = {
            "validation_error": validation / 9600, "test_error": test / 9600, "epochs": epochs, "iterations": 6141,
        }  # fmt: skip
        holds, found = gpu_check.is_the_published_run(figures)
        self.assertEqual(holds, expected)
        self.assertStartsWith(found, f"{validation} and {test} wrong of 9,600")

    def test_of_an_optimum(self):
        a = {"objective": 0.5, "certificate": 4e-5, "validation_wrong": 700, "test_wrong": 800}
        b = {"objective": 0.50003, "certificate": 2e-5, "validation_wrong": 705, "test_wrong": 806}
        self.assertTrue(gpu_check.is_certified(a)[0])  # 8e-5 of it.
        self.assertFalse(gpu_check.is_certified(a | {"certificate": 6e-5})[0])
        self.assertTrue(gpu_check.is_as_low(a, b)[0])
        self.assertFalse(gpu_check.is_as_low(a | {"certificate": 2.9e-5}, b)[0])
        self.assertEqual(
            gpu_check.has_as_few_errors(a, b), (False, "wrong in validation 700 and 705; test 800 and 806")
        )
        self.assertTrue(gpu_check.has_as_few_errors(a, b | {"test_wrong": 805})[0])

    def test_of_rates_and_memory(self):
        # 83 steps an epoch, of 100 us each; 1,024 heads multiply at half of 33 TFLOP/s, and a little more.
        one = {"heads": 1, "epochs": 10, "seconds": 0.083, "peak": 3 << 20, "estimate": 3 << 20}
        operations = 4 * 1024 * 784 * 10 * 600 * 83 * 10
        many = {"heads": 1024, "epochs": 10, "seconds": operations / 17e12, "peak": 2 << 20, "estimate": 1 << 20}
        self.assertEqual(
            gpu_check.is_as_assumed(one, many), (True, "100 us a step and 17.0 TFLOP/s, validation included")
        )
        self.assertFalse(gpu_check.is_as_assumed(one, many | {"seconds": operations / 16e12})[0])
        self.assertFalse(gpu_check.is_as_assumed(one | {"seconds": 0.17}, many)[0])
        self.assertEqual(gpu_check.fits(one, many), (False, "1 head 3 of 3 MiB, 1,024 heads 2 of 1 MiB"))
        self.assertTrue(gpu_check.fits(one)[0])
        self.assertTrue(gpu_check.is_idle(one, one | {"seconds": 0.16})[0])
        self.assertFalse(gpu_check.is_idle(one, one | {"seconds": 0.17})[0])

    def test_of_memory_that_grows(self):
        figures = {"gpus": [{"memory.used": "900", "memory.total": "81559"}]}
        self.assertEqual(gpu_check.grows(figures), (True, "900 of 81,559 MiB in use after a first program"))
        figures["gpus"][0]["memory.used"] = "80000"
        self.assertFalse(gpu_check.grows(figures)[0])


class ChildTest(parameterized.TestCase):
    @parameterized.parameters(
        ("print('a line'); print('{\"a\": 1}')", SECONDS, Outcome({"a": 1})),
        ("print('no object')", SECONDS, Outcome(None, "ended without a JSON object")),
        ("", SECONDS, Outcome(None, "ended without a JSON object")),
        ("raise SystemExit('no CUDA')", SECONDS, Outcome(None, "ended with exit status 1: no CUDA")),
        ("import os; os.abort()", SECONDS, Outcome(None, "ended with signal 6 (Aborted): no word")),
        ("import threading; threading.Event().wait()", 1, Outcome(None, "had not ended after 1 s")),
    )
    def test_what_becomes_of_it(self, program, seconds, expected):
        self.assertEqual(gpu_check.child(["-c", program], seconds), expected)

    def test_what_it_has_started_ends_with_it(self):
        pipe = pathlib.Path(self.create_tempdir().full_path, "pipe")
        os.mkfifo(pipe)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        # What it starts has the pipe open for writing as long as it lives.
        program = f"""
import os, subprocess, sys
writer = os.open({str(pipe)!r}, os.O_WRONLY)
wait = "import threading; threading.Event().wait()"
subprocess.Popen([sys.executable, "-c", wait], pass_fds=[writer], stdout=subprocess.DEVNULL)
print("{{}}")
"""
        self.assertEqual(gpu_check.child(["-c", program], SECONDS), Outcome({}))
        self.assertTrue(select.select([reader], [], [], SECONDS)[0])
        self.assertEqual(os.read(reader, 1), b"")


class PartsTest(parameterized.TestCase):
    @parameterized.parameters(
        ("A GPU, 570.1, 900, 81559", "A GPU"),
        ("A part of one, 570.1, [N/A], [N/A]", None),
        ("No devices", None),
        ("", None),
    )
    def test_what_the_driver_says(self, said, name):
        folder = pathlib.Path(self.create_tempdir().full_path)
        (folder / "nvidia-smi").write_text(f"#!/bin/sh\necho '{said}'\n" if said else "#!/bin/sh\nexit 9\n")
        (folder / "nvidia-smi").chmod(0o755)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", str(folder), prepend=os.pathsep)
            found = gpu_parts.nvidia_smi()
        if name is None:
            self.assertIsNone(found)
        else:
            (gpu,) = found
            self.assertEqual(
                gpu, {"name": name, "driver_version": "570.1", "memory.used": "900", "memory.total": "81559"}
            )

    def test_the_objective(self):
        splits = made.splits(n_train=20)
        random = np.random.default_rng(0)
        W, b = random.normal(0, 1e-3, (24, 3)), random.normal(0, 1, 3)
        x = splits.train.images.reshape(20, -1) / 255
        p = np.exp(x @ (255 * W) + b)
        p /= p.sum(axis=1, keepdims=True)
        expected = -np.log(p[np.arange(20), splits.train.labels]).mean() + 1e-3 / 2 * ((255 * W) ** 2).sum()
        self.assertAlmostEqual(gpu_parts.objective(W, b, splits), expected, places=12)


class SavedProgramsTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.path = pathlib.Path(self.create_tempdir().full_path, "programs.npz")
        self.splits = made.splits(n_train=100)

    @pytest.mark.exhaustive
    def test_the_file_has_them_with_what_the_cpu_finds(self):
        names = saved_programs.save(self.path, self.splits, heads=(1,))
        expected = ["sums, 4 heads, float32", "sums, 4 heads, float64", "sgd, 1 head, float32", "sgd, 1 head, tf32"]
        self.assertEqual(names, expected)
        found = {each.name: each for each in saved_programs.load(self.path)}
        self.assertEqual([*found], expected)

        # The one step of SGD from 0: every class has the probability 1/3.
        sgd = found["sgd, 1 head, float32"]
        x = self.splits.train.images.reshape(100, -1) / 255
        y = np.eye(3)[self.splits.train.labels]
        costs, W = sgd.expected[0], sgd.expected[max(sgd.expected)]
        np.testing.assert_allclose(costs, [[math.log(3)]], rtol=1e-6)
        np.testing.assert_allclose(W[0], -0.13 * (1 / 3 - y).T @ x / 100, rtol=1e-4, atol=1e-7)
        # W, b and two slots, as they were before it.
        self.assertEqual([sgd.inputs[place].shape for place in sgd.variables], [(1, 3, 24), (1, 3), (1,), (1,)])
        self.assertFalse(any(sgd.inputs[place].any() for place in sgd.variables))
        self.assertIn("precision = [HIGHEST, HIGHEST]", sgd.stablehlo)
        self.assertNotIn("HIGHEST", found["sgd, 1 head, tf32"].stablehlo)

        # The sums over all rows, in one block.
        sums = found["sums, 4 heads, float64"]
        loss, G, _ = (sums.expected[number].sum(axis=0) for number in range(3))
        W, b = (next(a for a in sums.inputs if a.shape == shape) for shape in ((4, 3, 24), (4, 3)))
        p = np.exp(np.einsum("nd,hkd->hnk", x, W) + b[:, np.newaxis])
        p /= p.sum(axis=2, keepdims=True)
        np.testing.assert_allclose(loss, -np.log((p * y).sum(axis=2)).sum(axis=1), rtol=1e-12)
        np.testing.assert_allclose(G, np.einsum("hnk,nd->hkd", p - y, x), rtol=1e-9, atol=1e-9)

    def test_a_file_without_programs(self):
        np.savez(self.path, images=np.zeros(3))
        with self.assertRaisesRegex(SystemExit, "programs.npz: holds no programs: .*--save_programs makes such a file"):
            saved_programs.load(self.path)
        self.path.write_bytes(b"PK\x03\x04 no archive")
        with self.assertRaisesRegex(SystemExit, "programs.npz: holds no programs: "):
            saved_programs.load(self.path)

    def test_how_far_away(self):
        found, expected = np.array([[9.0, 9.0], [1.0, 4.0]]), np.array([[1.0, 4.5]])
        self.assertAlmostEqual(saved_programs.away(found, expected), 0.5 / 4.5)

    @pytest.mark.exhaustive
    def test_the_xla_of_jax_runs_them(self):
        if not importlib.util.find_spec("jax"):
            self.skipTest("JAX is not installed: pip install '.[bench]'")
        names = saved_programs.save(self.path, self.splits, heads=(1, 3))
        for name in names:
            program = [sys.executable, EXPERIMENTS / "saved_programs.py", self.path, name, "cpu", "0.1"]
            process = subprocess.run(
                program, capture_output=True, text=True, check=False, env=os.environ | {"JAX_PLATFORMS": "cpu"}
            )
            self.assertEqual(process.returncode, 0, process.stderr)
            figures = json.loads(process.stdout)
            self.assertTrue(gpu_check.is_within(figures)[0], figures)
            self.assertTrue(figures["same_bits"])
            self.assertGreater(figures["head_epochs_per_second"], 0)
            self.assertEqual(figures["program"], name)


class TableTest(absltest.TestCase):
    def test_rates_beside_those_of_one_head_and_claims(self):
        size, unknown = {"peak": 3 << 20, "estimate": 4 << 20}, {"peak": None, "estimate": 1 << 20}
        text = gpu_check.as_text({
            "machine": {"heading": "A GPU, 8 cores", "system": "Linux", "python": "3.12"},
            "versions": {"tensorflow": "2.21.0"}, "data": "MNIST", "minutes": 7.25,
            "parts": {
                "lbfgs": {"problem": "ended with signal 11"},
                "sgd, 1 head": size | {"head_epochs_per_second": 50.0},
                "sgd, 64 heads": size | {"head_epochs_per_second": 1500.0},
                "through JAX: sgd, 1 head, float32": unknown | {"head_epochs_per_second": 100.0},
                "through JAX: sgd, 64 heads, float32": size | {"head_epochs_per_second": 1000.0},
                "through JAX: sums, 4 heads, float32": size | {"head_epochs_per_second": 400.0},
            },
            "claims": [{"claim": "it is fast", "verdict": FAILS, "found": "it is not"}],
        })  # fmt: skip
        self.assertEqual(
            [line for line in text.splitlines() if line],
            [
                "| part | head-epochs a second | to 1 head | memory | estimate |",
                "| --- | ---: | ---: | ---: | ---: |",
                "| sgd, 1 head | 50 | 1.0 | 3 MiB | 4 MiB |",
                "| sgd, 64 heads | 1,500 | 30.0 | 3 MiB | 4 MiB |",
                "| through JAX: sgd, 1 head, float32 | 100 | 1.0 |  | 1 MiB |",
                "| through JAX: sgd, 64 heads, float32 | 1,000 | 10.0 | 3 MiB | 4 MiB |",
                "| through JAX: sums, 4 heads, float32 | 400 |  | 3 MiB | 4 MiB |",
                "| claim | | found |",
                "| --- | --- | --- |",
                "| it is fast | fails | it is not |",
                "A GPU, 8 cores; Linux; Python 3.12; tensorflow 2.21.0; MNIST; 7.2 minutes.",
            ],
        )

    def test_the_machine_is_named_by_its_gpu(self):
        outcomes = {"device": Outcome({"device": "gpu (NVIDIA H100)"}), "lbfgs on the CPU": Outcome({"device": "cpu"})}
        found = {"heading": "Intel Xeon, AMX, 8 cores", "cores": 8}
        expected = {"gpu": "NVIDIA H100", "heading": "NVIDIA H100, Intel Xeon, AMX, 8 cores", "cores": 8}
        self.assertEqual(gpu_check.with_gpu(found, "gpu", outcomes), expected)
        through_jax = {"device": Outcome(None, "no TensorFlow", tried=False), "a": Outcome({"device": "NVIDIA H100"})}
        self.assertEqual(gpu_check.with_gpu(found, "gpu", through_jax), expected)
        self.assertEqual(gpu_check.with_gpu(found, "cpu", outcomes), found)


class ScriptTest(absltest.TestCase):
    def test_without_time_nothing_is_tried(self):
        process = run("--device=cpu", "--minutes=0")
        self.assertEqual(process.returncode, 0, process.stderr)
        results = json.loads(process.stdout)
        self.assertEqual({claim["verdict"] for claim in results["claims"]}, {NOT_TRIED})
        self.assertEqual(results["parts"]["lbfgs"], {"problem": "there is no usable CPU"})
        self.assertEqual(results["parts"]["device"], {"problem": "the 0 minutes were over"})
        self.assertIn("0 holds, 0 fails, ", process.stderr)

    @pytest.mark.exhaustive
    def test_on_a_cpu(self):
        process = run("--device=cpu")
        results = json.loads(process.stdout)
        self.assertEqual(process.returncode, 0, process.stderr)
        verdicts = {claim["claim"]: claim["verdict"] for claim in results["claims"]}
        self.assertNotIn(FAILS, verdicts.values())
        for words in (
            "TensorFlow computes on the CPU", "L-BFGS comes to a certificate of 1e-4 of the cost",
            "two runs give the same bits", "without TensorFloat-32, figures are those of float32",
        ):  # fmt: skip
            self.assertEqual(verdicts[words], HOLDS, words)
        self.assertEqual(verdicts["TensorFloat-32 is faster"], NOT_TRIED)
        for heads in ("1 head", "64 heads", "1,024 heads"):
            self.assertGreater(results["parts"][f"sgd, {heads}"]["head_epochs_per_second"], 0)

    @pytest.mark.exhaustive
    def test_without_a_gpu_it_fails(self):
        process = run("--device=gpu", CUDA_VISIBLE_DEVICES="")
        self.assertEqual(process.returncode, 1, process.stderr)
        claims = json.loads(process.stdout)["claims"]
        self.assertEqual([claim["verdict"] for claim in claims], [FAILS] + [NOT_TRIED] * (len(claims) - 1))
        self.assertRegex(claims[0]["found"], "device: .*finds no usable GPU")


if __name__ == "__main__":
    absltest.main()
