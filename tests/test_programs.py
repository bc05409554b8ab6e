import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from tfpipe.compute.programs import Program, graph, padded


class Line(NamedTuple):
    slope: tf.Tensor
    offset: tf.Tensor | None
    kind: str


def values(x, line):
    """Of a line; `kind` says which way it goes."""
    y = line.slope * x if line.kind == "up" else -line.slope * x
    return y if line.offset is None else y + line.offset


class PaddedTest(parameterized.TestCase):
    def test_few_sizes(self):
        sizes = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128]
        self.assertEqual(sorted({padded(count) for count in range(1, 129)}), sizes)
        self.assertEqual([padded(size) for size in sizes], sizes)
        for count in range(1, 2000):
            self.assertGreaterEqual(padded(count), count)
            self.assertLess(padded(count), 1.5 * count)

    @parameterized.parameters((5, 6), (7, 8), (9, 12), (13, 16), (17, 24), (1_000_000, 1 << 20), (700_000, 3 << 18))
    def test_the_next_one(self, count, expected):
        self.assertEqual(padded(count), expected)


class ProgramTest(tf.test.TestCase):
    def test_one_is_made_for_each_set_of_shapes_types_and_words(self):
        program = Program(values)
        up, down = (Line(tf.constant(2.0), None, kind) for kind in ("up", "down"))
        for x in (3.0, 4.0):
            self.assertEqual(program(tf.constant(x), up), 2 * x)
            self.assertEqual(program(tf.constant(x), Line(tf.constant(0.5), None, "up")), x / 2)
        self.assertEqual(program.made, 1)
        self.assertEqual(program(tf.constant(3.0), down), -6.0)  # Another word.
        self.assertEqual(program.made, 2)
        self.assertAllEqual(program(tf.constant([3.0, 4.0]), up), [6.0, 8.0])  # Another shape.
        self.assertEqual(program.made, 3)
        steep = Line(tf.constant(2.0, tf.float64), None, "up")
        self.assertEqual(program(tf.constant(3.0, tf.float64), steep), 6.0)  # Another type.
        self.assertEqual(program.made, 4)
        self.assertEqual(program(tf.constant(3.0), up._replace(offset=tf.constant(1.0))), 7.0)  # One more part.
        self.assertEqual(program.made, 5)
        self.assertEqual(program(tf.constant(5.0), down), -10.0)
        self.assertEqual(program.made, 5)

    def test_variables_are_arguments_like_any_other(self):
        program = Program(lambda variable, x: variable.assign_add(x))
        for start in (1.0, 10.0):
            variable = tf.Variable(start)
            program(variable, tf.constant(2.0))
            self.assertEqual(variable, start + 2)
        self.assertEqual(program.made, 1)

    def test_threads_that_call_it_at_once(self):
        traced_by, calls = [], 8
        barrier = threading.Barrier(calls)

        def compute(x):
            traced_by.append(threading.get_ident())
            for _ in range(200):  # Long enough to be overtaken.
                x = tf.sin(x)
            return x

        program = Program(compute)

        def call(number):
            barrier.wait()
            return program(tf.fill([2], number / 8)).numpy()

        with self.assertNoLogs("tensorflow", "WARNING"), ThreadPoolExecutor(calls) as pool:
            found = list(pool.map(call, range(calls)))
        self.assertLen(traced_by, 1)
        self.assertEqual(program.made, 1)
        expected = np.arange(8) / 8
        for _ in range(200):
            expected = np.sin(expected)
        self.assertAllClose(np.transpose(found), [expected] * 2, rtol=1e-5)  # 200 roundings of 2^-24.

    def test_instructions(self):
        program = Program(lambda a, b: tf.matmul(a, b))
        self.assertRegex(program.instructions(tf.ones([2, 3]), tf.ones([3, 5])), r"f32\[2,5\]\S* dot\(")

    def test_for_another_xla(self):
        def step(variable, line, x):
            variable.assign_add(values(x, line))
            return variable * 2

        program = Program(step)
        variable, line = tf.Variable([1.0, 2.0]), Line(tf.constant(3.0), None, "down")
        text, inputs, variables = program.portable(variable, line, tf.constant([4.0, 5.0]))
        # As they come: the variable, the slope, x.
        main = r"@main\(%arg0: tensor<2xf32>[^,]*, %arg1: tensor<f32>[^,]*, %arg2: tensor<2xf32>"
        self.assertRegex(text, main)
        self.assertIn("stablehlo.negate", text)
        self.assertAllEqual(inputs[0], [1.0, 2.0])
        self.assertAllEqual(inputs[1], 3.0)
        self.assertAllEqual(inputs[2], [4.0, 5.0])
        self.assertEqual(variables, [0])
        self.assertAllEqual(variable, [1.0, 2.0])  # Nothing was called.


class NestedTest(tf.test.TestCase):
    def test_one_inside_another(self):
        inner = Program(lambda x: x * 2)
        self.assertEqual(Program(lambda x: inner(x) + 1)(tf.constant(3.0)), 7.0)


class GraphTest(tf.test.TestCase):
    def test_the_graph_of_a_function(self):
        def step(variable, x):
            return variable.assign_add(tf.matmul(x, x))

        variable, x = tf.Variable([[1.0, 2.0], [3.0, 4.0]]), tf.ones([2, 2])
        found = tf.compat.v1.GraphDef.FromString(graph(step, variable, x))
        operations = [node.op for node in found.node]
        self.assertEqual([operations.count(name) for name in ("MatMul", "AssignAddVariableOp")], [1, 1])
        self.assertAllEqual(variable, [[1.0, 2.0], [3.0, 4.0]])  # To look at it changes nothing.


class VariablesTest(tf.test.TestCase):
    def test_a_program_is_kept_though_the_variables_of_its_first_call_are_gone(self):
        program = Program(lambda variable, x: tf.cond(x > 1, lambda: variable * x, lambda: x))
        for _ in range(2):
            self.assertEqual(program(tf.Variable(3.0), tf.constant(2.0)), 6.0)
            gc.collect()
        self.assertEqual(program.made, 1)


if __name__ == "__main__":
    tf.test.main()
