"""What a run takes of memory: by hand, and refused before any of it is taken."""

import os
import pathlib
import tempfile
import tracemalloc
from unittest import mock

import numpy as np
from absl.testing import absltest, parameterized

import tfpipe
from tfpipe import Examples, Splits, TrainConfig, memory
from tfpipe.compute import programs
from tfpipe.compute.device import Device
from tfpipe.exceptions import ConfigError
from tfpipe.pipeline import residency
from tfpipe.solvers.sgd import Sgd
from tfpipe.training import footprint
from tfpipe.training.footprint import Sizes
from tfpipe.training.plan import Pace, Plan
from tfpipe.training.search_plan import SearchPlan

MIB = 1 << 20
BASE = 210 * MIB
CPU = Device("/CPU:0", "cpu", programs=2)


def machine(size):
    """One with so many bytes of memory."""
    sizes = {"SC_PHYS_PAGES": size, "SC_PAGE_SIZE": 1}
    sysconf = os.sysconf
    return mock.patch.object(os, "sysconf", side_effect=lambda name: sizes.get(name) or sysconf(name))


def splits(n, shape, n_out, n_other=20, dtype=np.uint8):
    parts = (Examples(np.zeros((count, *shape), dtype), np.arange(count) % n_out) for count in (n, n_other, n_other))
    return Splits(*parts, tuple(map(str, range(n_out))))


def plan(data, device=CPU, **options):
    config = TrainConfig(**options)
    if config.settled_solver == "lbfgs":
        return SearchPlan.of(config, data, device, Pace())
    return Plan.of(data, Sgd(config, data), device, Pace())


class EstimateTest(parameterized.TestCase):
    # Of 100 test examples, in bytes: the probabilities of 10 classes and three pieces of them, 500 draws twice.
    SIZES, OF_TEST = Sizes(rows=1000, test=100, n_in=9, n_out=10, copied=5000), 4 * 8000 + 2 * 8 * 500 * 10
    OF_DATA = BASE + 5000 + 80 * 1000

    def test_sgd_by_hand(self):
        # Two heads of 100 numbers, a minibatch of 50: 1,000 logits, and 450 inputs of the one program.
        found = footprint.of_sgd(self.SIZES, n_heads=2, batch_size=50, programs=1)
        # The numbers are kept for 64 validations, in three places.
        self.assertEqual(found, self.OF_DATA + (8 + 3 * 64) * 4 * 200 + self.OF_TEST)
        # Of 500 more is in training than in the test: 10,000 logits, and of both programs 4,500 inputs.
        found = footprint.of_sgd(self.SIZES, n_heads=2, batch_size=500, programs=8)
        self.assertEqual(found, self.OF_DATA + 200 * 4 * 200 + 4 * (8 * 10_000 + 3 * 2 * 4500))
        in_float64 = footprint.of_sgd(self.SIZES, n_heads=2, batch_size=500, programs=8, itemsize=8, slots=100)
        self.assertEqual(in_float64, self.OF_DATA + 200 * 8 * 400 + 8 * (8 * 10_000 + 3 * 2 * 4500))

    def test_probabilities_of_many_examples_are_not_kept(self):
        # 2^27 numbers at most: 1 GiB, beside three pieces of 64 MiB.
        at_most, beyond = (Sizes(1, rows, n_in=1, n_out=1024).of_test for rows in (1 << 17, (1 << 17) + 1))
        self.assertEqual(at_most, (1024 + 3 * 64) * MIB + 2 * 8 * 500 * 1024)
        self.assertEqual(beyond, at_most - 1024 * MIB)

    def test_a_search_of_one_value_has_one_head_at_once(self):
        data = splits(200, (8,), 3)
        of_values = [plan(data, l2=(1e-3, 1e-4, 1e-5, 1e-6, 1e-7)[:count], folds=0) for count in (1, 3, 5)]
        self.assertEqual([search.at_once for search in of_values], [1, 3, 4])
        # What makes it this run is as it was when four were made room for: so states of that time go on.
        self.assertEqual({search.identity.settings["at_once"] for search in of_values}, {"4"})

    def test_a_search_by_hand(self):
        # Six heads of 100 numbers with ten pairs; 900 rows of 9 columns in the sample; minibatches of 2 MiB of such
        # rows, which take more than a metric, and whose logits are less than 64 MiB; 3 columns of weights.
        found = footprint.of_search(self.SIZES, n_heads=6, n_columns=3, pairs=10, programs=2)
        heads, sample = (115 * 6 + 80) * 800, 8 * 900 * 9
        minibatch = 8 * (60 + 9) * (2 * MIB // 36)
        of_rows = 1000 * (4 * 8 * 3 + 5 * 4 * 6)
        self.assertEqual(found, self.OF_DATA + heads + sample + 3 * 2 * minibatch + of_rows)
        # 1,000 of 10,000 rows where there are many columns; their metric takes more than minibatches of 64.
        found = footprint.of_search(Sizes(10_000, 0, 1_000_000, 10), n_heads=1, n_columns=1, pairs=3, programs=1)
        heads, sample = (101 + 80) * 8 * 10 * 1_000_001, 8 * 1000 * 1_000_000
        metric = 8 * (1000 * (3_000_000 + 5 * 10) + 4 * 1000**2)
        self.assertEqual(found, BASE + 80 * 10_000 + heads + sample + metric + 10_000 * (32 + 20))

    def test_a_search_in_the_span_of_the_rows_by_hand(self):
        # 90 rows to fit of 1,000 columns: a basis, a descent of 10 classes in 90 coordinates with 3 pairs, 12 copies of
        # V; sums in all columns; minibatches, which take more than two scales' bases and pieces of all columns.
        sizes = Sizes(rows=100, test=10, n_in=1000, n_out=10, in_span=True)
        found = footprint.of_search(sizes, n_heads=5, n_columns=6, pairs=3, programs=2)
        head = 8 * (90**2 + 96 * 10 * 91 + 12 * 10 * 1001)
        minibatches = 3 * 2 * (8 * (2 * MIB // 4000) * 5 * 10 + 8 * (2 * MIB // 4000) * 1000)
        bases = 2 * 6 * 8 * 90**2 + 2 * 8 * (5 * 90 * 1000 + 4 * 90**2)
        searching = 5 * head + 50 * 8 * 10 * 1001 + max(bases, minibatches) + 100 * (4 * 8 * 6 + 5 * 4 * 5)
        self.assertEqual(found, BASE + 80 * 100 + searching)
        data = splits(80, (10, 100), 10, n_other=10)
        # On a GPU, and where a value is 0, in all columns; of two values, ten heads.
        gpu = Device("/GPU:0", "gpu", programs=2)
        for l2, device, n_heads, in_span in (
            (None, CPU, 20, True), ((1e-2, 1e-3), CPU, 10, True), ((1e-2, 0.0), CPU, 10, False), (None, gpu, 20, False),
        ):  # fmt: skip
            expected = footprint.of_search(Sizes.of(data)._replace(in_span=in_span), n_heads, 6, 10, 2)
            found = plan(data, device, folds=5, l2=l2)
            self.assertEqual((found.in_span, found.bytes_in(5)), (in_span, expected))

    def test_spans_of_a_file_that_memory_cannot_hold(self):
        # 1,600 rows of 1 MiB: spans of 32 MiB, one ahead, one on its way, and one for each program of a search.
        lies = Sizes(rows=1600, test=0, n_in=1 << 18, n_out=2)
        travels = lies._replace(travelling=MIB)
        of_sgd = (footprint.of_sgd(sizes, 1, 10, 1) for sizes in (travels, lies))
        of_search = (footprint.of_search(sizes, 1, 1, 10, 2) for sizes in (travels, lies))
        self.assertEqual([np.subtract(*of_sgd), np.subtract(*of_search)], [3 * 32 * MIB, 4 * 32 * MIB])
        with tempfile.NamedTemporaryFile() as file:
            images = np.memmap(file, np.uint8, "w+", shape=(600, 8, 8))
            part = Examples(images, np.arange(600) % 3)
            data = Splits(part, part, part, ("a", "b", "c"))
            self.assertEqual(Sizes.of(data).travelling, 0)
            with machine(10_000):
                self.assertEqual(Sizes.of(data).travelling, 4 * 64)

    def test_images_that_are_copied(self):
        lies_well = memory.empty((1000, 8192), np.uint8)
        lies_ill = memory.empty((1000, 8193), np.uint8)[:, 1:]
        small = lies_well[:100]
        parts = [Examples(images, np.arange(len(images)) % 3) for images in (lies_well, lies_ill, small.copy())]
        self.assertEqual(residency.copied_bytes(parts[:1]), 0)
        self.assertEqual(residency.copied_bytes(parts), sum(part.stored.nbytes for part in parts[1:]))


class RefusalTest(parameterized.TestCase):
    @parameterized.parameters(
        (400, (200, 100), 10, 40, {"learning_rate": tuple(np.arange(1, 65) / 100)},
         "learning_rate=64 values: the run takes about 0.6 GiB of memory, and 0.4 GiB are free; 16 heads would"),
        (400, (200, 100), 10, 40, {"learning_rate": (0.1,), "l2": tuple(np.arange(64) / 100)}, "^l2=64 values: .* 16"),
        (1024, (2, 2), 2000, 60_000, {"learning_rate": (0.1,), "batch_size": 60_000},
         "batch_size=60000: the run takes about 3.8 GiB of memory, and 1.0 GiB are free; batch_size=7500 would"),
        (512, (200, 20_000), 10, 4, {"learning_rate": (0.1,), "batch_size": 1},
         "solver=sgd: the run takes about 1.6 GiB .* a head of sgd for 250000 columns, in minibatches of 10 would"),
        (512, (100, 50), 20, 120, {"l2": 0.0, "folds": 6},
         "folds=6: the run takes about 0.7 GiB of memory, and 0.5 GiB are free; folds=2 would take 0.4 GiB"),
        (512, (200, 100), 20, 120, {"l2": 0.0, "folds": 0},
         "solver=lbfgs: the run takes about 0.8 GiB of memory, and 0.5 GiB are free; solver=sgd would take 0.4 GiB"),
    )  # fmt: skip
    def test_what_would_fit_is_named(self, mib, shape, n_out, n, options, words):
        data = splits(n, shape, n_out)
        with machine(mib * MIB), self.assertRaisesRegex(ConfigError, words):
            plan(data, **options)

    @parameterized.parameters(
        (400, (200, 100), 10, 40, {"learning_rate": tuple(np.arange(1, 17) / 100)}),
        (1024, (2, 2), 2000, 60_000, {"learning_rate": (0.1,), "batch_size": 7500}),
        (512, (100, 50), 20, 120, {"l2": 0.0, "folds": 2}),
        (512, (200, 100), 20, 120, {"learning_rate": (0.1,)}),
    )
    def test_what_is_named_fits(self, mib, shape, n_out, n, options):
        data = splits(n, shape, n_out)
        with machine(mib * MIB), self.assertNoLogs("absl", "WARNING"):
            plan(data, **options)

    def test_a_doubt_is_a_warning(self):
        data = splits(40, (200, 100), 10)
        with machine(400 * MIB), self.assertLogs("absl", "WARNING") as log:
            plan(data, learning_rate=tuple(np.arange(1, 33) / 100))
        (line,) = log.output
        self.assertIn("the run takes about 0.4 GiB of memory, and 0.4 GiB are free: it may end for lack of it", line)

    def test_what_a_gpu_holds_is_not_known(self):
        data = splits(40, (200, 100), 10)
        with machine(400 * MIB):
            plan(data, Device("/GPU:0", "gpu"), learning_rate=tuple(np.arange(1, 65) / 100))

    @parameterized.parameters({"learning_rate": tuple(np.arange(1, 65) / 100)}, {"l2": 0.0, "folds": 0})
    def test_what_is_refused_has_taken_nothing(self, **options):
        data, workdir = splits(40, (200, 100), 20), pathlib.Path(self.create_tempdir().full_path, "run")
        before = programs.count()
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        with machine(400 * MIB), self.assertRaisesRegex(ConfigError, "GiB are free"):
            tfpipe.train(TrainConfig(**options, device="cpu"), data, workdir)
        self.assertLess(tracemalloc.get_traced_memory()[1], 8 * MIB)
        self.assertFalse(workdir.exists())
        self.assertEqual(programs.count(), before)


if __name__ == "__main__":
    absltest.main()
