"""What a run takes alone and shared, by hand; when it is shared; and that docs/distributed.md tells the same."""

import json
import pathlib
import sys

from absl.testing import absltest, parameterized

from tests import test_structure
from tfpipe.compute import speeds
from tfpipe.compute.speeds import CORE, DEVICES, GPU, PROCESSES, Machine, Network
from tfpipe.solvers import branches
from tfpipe.training import distribution
from tfpipe.training.distribution import Seconds, Work

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "experiments"))

import measuring
import simulate_distribution as simulation

MACHINE = Machine(product_rate=1e9, row_rate=1e8, step_seconds=1e-3, number_seconds=1e-6, metric_rate=1e9)
NETWORK = Network(latency=0.01, hop=0.001, bandwidth=1e6, start=2.0)
# 90 weights and 10 intercepts a head.
GRID = Work("sgd", 1000, 9, 10, heads=5, passes=4, batch_size=100, row_bytes=1000, validations=2, measured=500)
SEARCH = Work("lbfgs", 1600, 9, 10, heads=3, passes=2, batch_size=100, row_bytes=1000, blocks=16, sample=100)
# Two evaluations: of 300 numbers a microsecond each, and 6 * 3 * 10 * 81 operations of the metric.
SERIAL = 2 * (300e-6 + 14.58e-6)


class SecondsTest(parameterized.TestCase):
    def assert_seconds(self, found, expected):
        for name, one, other in zip(Seconds._fields, found, expected, strict=True):
            self.assertAlmostEqual(one, other, places=12, msg=name)
        self.assertAlmostEqual(found.total, sum(expected), places=12)

    def test_a_grid_alone(self):
        # 450 weights times four operations of 4,000 rows and two of 1,000; 5,000 rows of 1 kB, in 50 minibatches.
        self.assert_seconds(distribution.alone(GRID, MACHINE), Seconds(0.0081, 0.05, 0.05))

    @parameterized.parameters(
        # Three heads of 464 bytes each travel one hop; twice.
        (2, Seconds(0.00486, 0.05, 0.05, 0, 2 * 0.011, 2 * 1392e-6, 2)),
        (5, Seconds(0.00162, 0.05, 0.05, 0, 2 * 0.014, 2 * 4 * 464e-6, 2)),
        # More workers than heads: nobody has less than one, and all take part in the exchange.
        (8, Seconds(0.00162, 0.05, 0.05, 0, 2 * 0.017, 2 * 7 * 464e-6, 2)),
    )
    def test_a_grid_by_heads(self, workers, expected):
        self.assert_seconds(distribution.by_heads(GRID, MACHINE, NETWORK, workers), expected)

    def test_a_search_alone(self):
        # 270 weights times four operations of 3,200 rows.
        self.assert_seconds(distribution.alone(SEARCH, MACHINE), Seconds(0.003456, 0.032, 0.032, SERIAL))

    @parameterized.parameters(
        # There and back 2,400 bytes go one hop each.
        (2, Seconds(0.001728, 0.016, 0.016, SERIAL, 2 * 0.022, 2 * 4800e-6, 2)),
        # Six blocks; two hops each way; and of five blocks from the fifth on three branches are sums of their own.
        (3, Seconds(0.001296, 0.012, 0.012, SERIAL, 2 * 0.024, 2 * (2 + 2 * 3) * 2400e-6, 2)),
        (16, Seconds(0.000216, 0.002, 0.002, SERIAL, 2 * 0.05, 2 * 30 * 2400e-6, 2)),
        # More workers than blocks.
        (32, Seconds(0.000216, 0.002, 0.002, SERIAL, 2 * 0.082, 2 * 62 * 2400e-6, 2)),
    )
    def test_a_search_by_rows(self, workers, expected):
        self.assert_seconds(distribution.by_rows(SEARCH, MACHINE, NETWORK, workers), expected)

    def test_the_metric_of_fewer_rows_than_columns(self):
        found = distribution.alone(SEARCH._replace(sample=3), MACHINE).serial
        self.assertAlmostEqual(found, 2 * (300e-6 + 4.86e-6), places=12)  # A third: 6 * 3 * 10 * 9 * 3 operations.

    def test_programs_share_what_a_worker_has(self):
        two = MACHINE._replace(programs=2)
        self.assert_seconds(distribution.alone(GRID, two), Seconds(0.00486, 0.05, 0.05))
        self.assert_seconds(distribution.alone(SEARCH, two), Seconds(0.001728, 0.016, 0.016, SERIAL))

    @parameterized.parameters(GRID, SEARCH)
    def test_one_worker_is_alone(self, *work):
        work = Work(*work)
        self.assertEqual(distribution.shared(work, MACHINE, NETWORK, 1), distribution.alone(work, MACHINE))

    @parameterized.parameters((MACHINE._fields[:3], 0), (NETWORK._fields, 1))
    def test_what_is_faster_never_takes_longer(self, names, which):
        for work in (GRID, SEARCH):
            for name in names:
                rate = name in ("product_rate", "row_rate", "bandwidth")
                totals = []
                for power in range(-6, 7):
                    constants = [MACHINE, NETWORK]
                    value = getattr(constants[which], name) * 10.0 ** (power if rate else -power)
                    constants[which] = constants[which]._replace(**{name: value})
                    totals.append(distribution.shared(work, *constants, 4).total)
                self.assertEqual(totals, sorted(totals, reverse=True), name)
                self.assertGreater(totals[0], totals[-1], name)


class BranchesTest(parameterized.TestCase):
    @parameterized.parameters(
        (0, 16, [(0, 16)]),
        (0, 5, [(0, 4), (4, 5)]),
        (5, 10, [(5, 6), (6, 8), (8, 10)]),
        (10, 16, [(10, 12), (12, 16)]),
        (8, 16, [(8, 16)]),
        (12, 12, []),
    )
    def test_branches_of_the_tree(self, begin, end, expected):
        self.assertEqual(branches.branches(begin, end), expected)

    @parameterized.parameters(1, 2, 4, 8, 16, 32)
    def test_a_power_of_two_has_one_branch_each(self, workers):
        shares = branches.shares(16, workers)
        self.assertLen(shares, workers)
        self.assertEqual([block for share in shares for block in range(*share)], list(range(16)))
        self.assertEqual({len(branches.branches(*share)) for share in shares}, {1} if workers <= 16 else {0, 1})


class DecisionTest(parameterized.TestCase):
    def decide(self, work, workers, machine=CORE, network=PROCESSES):
        found = distribution.decide(work, machine, network, workers)
        return found.form, found.workers

    @parameterized.parameters(
        ("MNIST, sgd, 1 head", 2, ("alone", 1)),
        ("MNIST, sgd, 64 heads", 2, ("heads", 2)),
        ("MNIST, lbfgs, 1 head", 2, ("alone", 1)),
        ("MNIST, lbfgs, 16 heads", 2, ("rows", 2)),
        ("MNIST, lbfgs, 16 heads", 1, ("alone", 1)),
        # Nine tenths of the time go into an exchange with 31 others.
        ("MNIST, lbfgs, 16 heads", 32, ("alone", 1)),
        ("1M x 768, 1,000 classes, lbfgs, 1 head", 32, ("rows", 16)),
        ("1M x 768, 1,000 classes, sgd, 64 heads", 100, ("heads", 64)),
    )
    def test_workers_of_a_core(self, name, workers, expected):
        self.assertEqual(self.decide(simulation.WORKS[name], workers), expected)

    def test_tiny_data_is_alone(self):
        digits = Work("lbfgs", 1437, 64, 10, heads=20, passes=100, batch_size=90, row_bytes=64, blocks=16, sample=1437)
        self.assertEqual(self.decide(digits, 2), ("alone", 1))
        self.assertEqual(self.decide(digits._replace(solver="sgd", batch_size=600), 2), ("alone", 1))

    def test_devices_of_a_process(self):
        self.assertEqual(self.decide(simulation.WORKS["MNIST, sgd, 64 heads"], 4, GPU, DEVICES), ("alone", 1))
        grid = simulation.WORKS["1M x 768, 1,000 classes, sgd, 64 heads"]
        self.assertEqual(self.decide(grid, 4, GPU, DEVICES), ("heads", 4))

    @parameterized.parameters(
        (10, 2, "heads on 2 workers: 50 s by the model, alone 100"),
        (10, 3, "heads on 3 workers: 40 s by the model, alone 100"),
        (2, 3, "heads on 2 of 3 workers: 10 s by the model, alone 20"),
        (1, 3, "alone: 10 s by the model; there is only one head"),
        (10, 1, "alone: 100 s by the model; there is only one worker"),
    )
    def test_why(self, heads, workers, why):
        # Ten seconds a head, and nothing else.
        work = Work("sgd", 250_000, 100, 10, heads, passes=10, batch_size=1, row_bytes=0)
        machine = MACHINE._replace(step_seconds=0.0)
        network = NETWORK._replace(start=0.0)
        self.assertEqual(distribution.decide(work, machine, network, workers).why, why)

    @parameterized.parameters(
        (29.9, "heads on 2 workers: 80 s by the model, alone 100"),
        (30.1, "alone: 100 s by the model, heads on 2 workers 80, where 1.25 times as fast would count"),
        (51.0, "alone: 100 s by the model, heads on 2 workers 101"),
    )
    def test_it_must_pay(self, start, why):
        work = Work("sgd", 250_000, 100, 10, 10, passes=10, batch_size=1, row_bytes=0)
        machine = MACHINE._replace(step_seconds=0.0)
        self.assertEqual(distribution.decide(work, machine, NETWORK._replace(start=start), 2).why, why)

    def test_it_does_without_tensorflow(self):
        for module in (distribution, branches, speeds):
            _, others = test_structure.imported(pathlib.Path(module.__file__))
            self.assertLessEqual(others, {"collections", "itertools", "math", "typing"})


class SimulationTest(parameterized.TestCase):
    def test_where_it_ends_and_why(self):
        network = NETWORK._replace(latency=0.0, hop=0.0, bandwidth=1e15, start=0.0)
        products = MACHINE._replace(row_rate=1e15, step_seconds=0.0)
        self.assertEqual(simulation.ends(GRID, products, network), (8, "5 heads"))
        self.assertEqual(simulation.ends(GRID, MACHINE, network), (1, "rows, which all read"))
        self.assertEqual(simulation.ends(SEARCH, MACHINE, network), (16, "16 blocks"))
        self.assertEqual(simulation.ends(SEARCH, MACHINE, network._replace(latency=0.1)), (1, "latency"))
        slow = MACHINE._replace(number_seconds=1e-3)
        self.assertEqual(simulation.ends(SEARCH, slow, network), (1, "the chief"))
        self.assertEqual(simulation.ends(SEARCH, MACHINE, network._replace(bandwidth=1e5)), (1, "bandwidth"))

    def test_the_page_has_what_the_model_says(self):
        page = (measuring.DOCS / "distributed.md").read_text("utf-8")
        for name, text in simulation.tables().items():
            if name != "one worker":  # Which changes with the benchmark of grids.
                self.assertIn(f"<!-- {name} -->\n{text}\n<!-- end of {name} -->\n", page)
        self.assertEqual(page.count("<!-- end of one worker -->"), 1)

    def test_against_one_worker(self):
        docs = pathlib.Path(self.create_tempdir().full_path)
        rows = [
            {"heads": 64, "precision": "float32", "head_epochs_per_second": 192.0, "seconds": 1.0},
            {"heads": 64, "precision": "bfloat16", "head_epochs_per_second": 320.0, "seconds": 1.0},
        ]
        path = docs / simulation.GRID
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"heads": rows}))
        # 3 epochs of 32 heads on a core: 250,880 weights at 190 GFLOP/s; 69,000 rows at 7.5 GB/s, 115 minibatches.
        products = 3 * 32 * 7840 * (4 * 49_800 + 2 * 19_200) / 190e9
        expected = products + 3 * (69_000 * 784 / 7.5e9 + 115 * 20e-6)
        self.assertAlmostEqual(expected, 0.96973, places=5)
        last = simulation.against_one_worker(docs).splitlines()[2:]
        self.assertEqual(last, ["| 64 | 3 | 1.00 s | 0.97 s | 0.97 |"])

    def test_against_what_was_measured(self):
        work = GRID._replace(validations=0, rows=25_000_000, n_in=100, batch_size=100_000, row_bytes=0, heads=4)
        work = work._asdict()
        results = {
            "machine": "core",
            "network": "loopback",
            "cores": 2,
            "runs": [
                {"name": "grid", "work": work, "workers": n, "seconds": s} for n, s in ((1, 9.0), (2, 5.0), (4, 6.0))
            ],
        }
        # 400 GFLOP a head, at 190 GFLOP/s, and 1,000 minibatches; four workers have half a core each.
        one = 4 * 400 / 190 + 0.02
        two, four = 2 * 400 / 190 + 0.02 + 1, 400 / 95 + 0.04 + 1
        expected = [
            f"| grid | {count} | {took:.2f} s | {by:.2f} s | {by / took:.2f} | {9 / took:.2f} | {one / by:.2f} |"
            for count, took, by in ((1, 9, one), (2, 5, two), (4, 6, four))
        ]
        self.assertEqual(simulation.against_measured(results).splitlines()[2:], expected)
        with self.assertRaisesRegex(SystemExit, "--measured: .*'steps'.*: the file is not as simulate_distribution"):
            results["runs"][0]["work"] = work | {"steps": 1}
            simulation.against_measured(results)

    def test_tables_stand_between_their_marks(self):
        page = pathlib.Path(self.create_tempfile(content="a\n<!-- GPUs -->\nold\n<!-- end of GPUs -->\nz\n").full_path)
        simulation.put(page, "GPUs", "new")
        self.assertEqual(page.read_text(), "a\n<!-- GPUs -->\nnew\n<!-- end of GPUs -->\nz\n")
        with self.assertRaisesRegex(SystemExit, "has no lines <!-- cores --> and <!-- end of cores -->"):
            simulation.put(page, "cores", "new")


if __name__ == "__main__":
    absltest.main()
