"""What the benchmarks share: a machine's tables stand beside those of others, and figures are held against a floor."""

import json
import pathlib
import sys

import pytest
from absl.testing import absltest, parameterized

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "experiments"))

import benchmark_scaling
import measuring
import roofline

PAGE = """# Benchmarks

<!-- grid: Some Xeon, AMX, 2 cores -->
**Some Xeon, AMX, 2 cores**

as it was
<!-- end of grid: Some Xeon, AMX, 2 cores -->

The end.
"""


def results(machine, figure):
    return {"machine": {"heading": machine}, "figure": figure}


class PublishTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.docs = pathlib.Path(self.create_tempdir().full_path)
        self.page = self.docs / "benchmarks.md"
        self.page.write_text(PAGE)

    def publish(self, machine, figure):
        measuring.publish("grid", results(machine, figure), f"{figure} head-epochs", self.docs)

    def test_another_machine_gets_tables_of_its_own(self):
        here = "Some EPYC, AVX-512, 4 cores"
        self.publish(here, 7)
        of_it = f"<!-- grid: {here} -->\n**{here}**\n\n7 head-epochs\n<!-- end of grid: {here} -->\n"
        expected = PAGE.replace("\nThe end.", f"\n{of_it}\nThe end.")
        self.assertEqual(self.page.read_text(), expected)
        self.publish(here, 8)
        self.assertEqual(self.page.read_text(), expected.replace("7 head-epochs", "8 head-epochs"))
        kept = self.docs / "benchmarks" / "some-epyc-avx-512-4-cores" / "grid.json"
        self.assertEqual(json.loads(kept.read_text()), results(here, 8))

    def test_the_same_machine_replaces_its_own(self):
        self.publish("Some Xeon, AMX, 2 cores", 9)
        self.assertEqual(self.page.read_text(), PAGE.replace("as it was", "9 head-epochs"))

    def test_another_page(self):
        (self.docs / "gpu.md").write_text("<!-- gpu: none -->\nNothing.\n<!-- end of gpu: none -->\n")
        measuring.publish("gpu", results("A GPU, 8 cores", 1), "1 head", self.docs, page="gpu.md")
        of_it = "<!-- gpu: A GPU, 8 cores -->\n**A GPU, 8 cores**\n\n1 head\n<!-- end of gpu: A GPU, 8 cores -->\n"
        expected = f"<!-- gpu: none -->\nNothing.\n<!-- end of gpu: none -->\n\n{of_it}"
        self.assertEqual((self.docs / "gpu.md").read_text(), expected)
        self.assertEqual(self.page.read_text(), PAGE)

    def test_a_table_that_the_page_does_not_know_is_an_error(self):
        with self.assertRaisesRegex(SystemExit, "benchmarks.md: has no line <!-- end of peers: MACHINE -->"):
            measuring.publish("peers", results("Some Xeon, AMX, 2 cores", 1), "", self.docs)
        self.assertEqual(self.page.read_text(), PAGE)
        self.assertFalse((self.docs / "benchmarks").exists())


class MachineTest(parameterized.TestCase):
    @parameterized.parameters(
        ("Intel(R) Xeon(R) Processor", "avx2 avx512f avx512_bf16 amx_int8", "Intel Xeon, AMX"),
        ("AMD EPYC", "avx2 avx512f avx512_bf16", "AMD EPYC, AVX512_BF16"),
        ("Intel(R) Xeon(R) Gold 6148 CPU @ 2.40GHz", "avx2 avx512f", "Intel Xeon Gold 6148, AVX-512"),
        ("Intel(R) Core(TM) i7-4770 CPU @ 3.40GHz", "avx2", "Intel Core i7-4770, AVX2"),
    )
    def test_its_heading(self, model, flags, expected):
        path = pathlib.Path(self.create_tempfile(content=f"model name\t: {model}\nflags\t\t: fpu {flags}\n").full_path)
        self.assertRegex(measuring.heading(path), rf"^{expected}, \d+ cores$")

    def test_what_is_measured_runs_without_the_kernels_of_another_processor(self):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OPENBLAS_CORETYPE", "Haswell")
            patch.setenv("OPENBLAS_NUM_THREADS", "1")
            program = "import json, os; print(json.dumps({'is': sorted(os.environ)}))"
            names = measuring.in_own_process("-c", program)["is"]
            self.assertEqual(measuring.machine()["left_out_of_the_environment"], ["OPENBLAS_CORETYPE"])
        self.assertNotIn("OPENBLAS_CORETYPE", names)
        self.assertIn("OPENBLAS_NUM_THREADS", names)


class FloorTest(absltest.TestCase):
    def test_products_of_heads_that_are_divided_among_programs(self):
        products = roofline.Products.of_heads(5, n_out=10, n_in=784, batch=600, programs=2)
        self.assertEqual(products, (30, 784, 600))  # Three heads on one core, two on the other.
        self.assertEqual(products.operations, 4 * 30 * 784 * 600)
        # 2 MiB are 41 rows of 12,544 float32, and 2 of 200,000.
        self.assertEqual(roofline.Products.of_heads(1, 10, 12_544, 600, programs=2), (10, 12_544, 41))
        self.assertEqual(roofline.Products.of_heads(1, 10, 200_000, 600, programs=2), (10, 200_000, 32))
        self.assertEqual(roofline.Products.of_heads(1, 10, 200_000, 20, programs=2), (10, 200_000, 20))

    def test_seconds_of_all_cores(self):
        products = roofline.Products(320, 784, 600)
        rates = {
            "sizes": [320, 784, 600],
            "float32": {"one_core": 2e9, "all_cores": 4e9},
            "int8": {"one_core": 10e9, "all_cores": 20e9},
            "bfloat16": {"one_core": 4e9, "all_cores": 8e9},
        }
        measured = {"rates": [{"sizes": [1, 1, 1]}, rates]}
        self.assertEqual(roofline.floor(measured, products, {"float32": 8e9}), 2.0)
        # Three digits: 60e9 operations on integers.
        self.assertEqual(roofline.floor(measured, products, {"int8": 20e9}), 3.0)
        self.assertEqual(roofline.floor(measured, products, {"bfloat16": 8e9, "float32": 2e9}), 1.5)

    def test_quietness_is_the_lesser_median_as_a_share_of_the_best(self):
        before, after = {"reference": [90.0, 100.0, 80.0]}, {"reference": [50.0, 60.0, 95.0]}
        self.assertEqual(roofline.quietness(before, after), 0.6)

    @pytest.mark.exhaustive
    def test_all_types_are_measured_with_each_size(self):
        sizes = roofline.Products(10, 24, 60)
        measured = roofline.measure([sizes, roofline.REFERENCE])
        self.assertIsNone(measured["ended"])
        self.assertLen(measured["reference"], 20)
        self.assertEqual([one["sizes"] for one in measured["rates"]], [roofline.REFERENCE, sizes])
        for one in measured["rates"]:
            for dtype in ("float32", "float64", "int8", "bfloat16"):
                self.assertGreater(min(one[dtype].values()), 0)
                self.assertCountEqual(one[dtype], ("one_core", "all_cores"))
        self.assertEqual(roofline.table(measured).count("\n"), 3)


class ScalingTest(absltest.TestCase):
    def row(self, run, *, in_span, dtype, rate):
        one = {"peak": 3e6, "estimate": 2e6, "products": dtype, "in_span": in_span, "evaluations": 15}
        rates = {"rates": [{"sizes": list(run.products(in_span)), dtype: {"all_cores": rate}}]}
        found = [one | {"nanoseconds": nanoseconds} for nanoseconds in (500.0, 9000.0, 1000.0)]
        return benchmark_scaling.as_row("D", run, found, {dtype: rates})

    def test_the_floor_of_rows_in_their_span_is_that_of_as_many_coordinates(self):
        run = benchmark_scaling.Run("lbfgs", N=600, D=200_704)
        self.assertEqual(run.products(True), (10, 600, 600))
        self.assertEqual(run.products(False), (10, 200_704, 32))
        # 10 classes and 600 coordinates, each a multiplication and an addition in both products.
        self.assertEqual(self.row(run, in_span=True, dtype="float64", rate=2.4e11)["floor"], 100)
        self.assertEqual(self.row(run, in_span=False, dtype="float32", rate=200_704e6)["floor"], 40_000)

    def test_a_table_tells_rounds_and_estimate_as_they_were(self):
        run = benchmark_scaling.Run("lbfgs", N=600, D=200_704)
        one = self.row(run, in_span=True, dtype="float64", rate=2.4e11)
        other = one | {"size": 49, "images": 20_000, "nanoseconds_of_rounds": [7.0]}
        one["floor"] = 9.9
        table = benchmark_scaling.table("lbfgs", "D", [other, one])
        lines = [line.strip("| ").split(" | ") for line in table.split("\n")]
        expected = [
            ["lbfgs: pixels of an image", "49", "200,704"],
            ["images", "20,000", "600"],
            ["ns for an image and evaluation", "1,000", "1,000"],
            ["of the floor", "10%", "under 1%"],
            ["evaluations", "15", "15"],
            ["memory, MB", "3", "3"],
            ["estimate, MB", "2", "2"],
            ["memory for an image, kB", "0.1", "5.0"],
            ["rounds", "1", "3"],
        ]
        self.assertEqual([lines[0], *lines[2:]], expected)


if __name__ == "__main__":
    absltest.main()
