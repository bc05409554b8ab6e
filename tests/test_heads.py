import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from tests import made, minibatches
from tests.minibatches import objective, span
from tfpipe import TrainConfig
from tfpipe.compute.device import Device
from tfpipe.compute.programs import Program
from tfpipe.compute.workers import Workers
from tfpipe.solvers.objective import Objective
from tfpipe.solvers.sgd import Sgd
from tfpipe.training.heads import Heads, joined
from tfpipe.training.measurement import Measurement
from tfpipe.training.snapshot import Snapshot
from tfpipe.training.state import State

FOREVER = 10**9
sums_of = Program(Objective.sums)
RATES = (0.1, 0.5, 0.3, 0.05, 0.2)


def solver(rates=RATES, frequency=2):
    config = TrainConfig(learning_rate=rates, l2=(0.1,), batch_size=10, epochs=10, validation_frequency=frequency)
    return Sgd(config, made.splits(n_train=40))


class HeadsTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.x, self.y = minibatches.examples()
        self.span, self.objective = span(self.x), objective(self.y)

    def heads(self, programs, rates=RATES, state=None, column=None):
        workers = self.enter_context(Workers(Device("/CPU:0", "cpu", programs=programs)))
        n_heads, of = len(rates), solver(rates)
        begin = Snapshot.at_first(of, (n_heads, 3, 24), np.zeros(3, bool), np.ones(n_heads, bool), np.float32)
        column = np.zeros(n_heads, np.int32) if column is None else column
        return Heads(of, column, Snapshot.of(state) if state else begin, workers)

    def advance(self, heads, last=FOREVER, on=None, first=0, by=None, begin=0, end=4):
        last = np.broadcast_to(last, len(heads))
        return heads.advance(
            span(self.x, first=first).part(begin, end), on or self.objective, last, 2, by and (lambda: by)
        )()

    def assert_same(self, ours, theirs, **error):
        """Everything that is kept of heads; to the bit unless `error` says otherwise."""
        for name in ("numbers", "W", "b"):
            self.assertAllClose(ours[name], theirs[name], **({"rtol": 0, "atol": 0} | error))
        for name in ("reports", "slots"):
            self.assertEqual(ours[name].keys(), theirs[name].keys())
            for key, array in ours[name].items():
                np.testing.assert_allclose(array, theirs[name][key], **({"rtol": 0, "atol": 0} | error))

    @parameterized.parameters(
        (1, [5], [6]), (2, [3, 2], [3, 2]), (4, [2, 1, 1, 1], [2, 1, 1, 1]), (16, [1] * 5, [1] * 5)
    )
    def test_heads_train_in_groups_as_each_would_alone(self, programs, sizes, padded):
        together, last = self.heads(programs), np.array([FOREVER, FOREVER, 1, FOREVER, FOREVER])
        found = self.advance(together, last)
        self.assertEqual(together.n_groups, len(sizes))
        self.assertEqual([group.n_heads for group in together.parameters()], sizes)
        self.assertEqual([len(group.b) for group in together.parameters()], padded)
        W, b = joined(together.parameters())
        self.assertEqual((found.costs.shape, W.shape, b.shape), ((4, 5), (5, 3, 24), (5, 3)))
        slots = together.snapshot().as_state()["slots"]
        for number, rate in enumerate(RATES):
            alone = self.heads(1, (rate,))
            found_alone = self.advance(alone, last[number])
            self.assertAllClose(found_alone.costs[:, 0], found.costs[:, number], rtol=1e-6)
            for name in ("cost", "gradient_norm"):
                np.testing.assert_allclose(
                    found_alone.reports[name][1::2, 0], found.reports[name][1::2, number], rtol=1e-5
                )
                np.testing.assert_array_equal(together.reports[name], found.reports[name][-1])
            kept = alone.snapshot().as_state()
            self.assertAllClose(kept["W"][0], W[number], rtol=0, atol=1e-7)
            self.assertAllClose(kept["b"][0], b[number], rtol=0, atol=1e-7)
            self.assertAllEqual(kept["slots"]["cost_steps"][0], slots["cost_steps"][number])

    def test_at_the_start(self):
        heads = self.heads(2)
        kept = heads.snapshot().as_state()
        self.assertAllEqual(kept["numbers"], range(5))
        self.assertAllEqual(kept["W"], np.zeros((5, 3, 24), np.float32))
        self.assertAllEqual(kept["slots"]["cost_sum"], np.zeros(5))
        self.assertAllEqual(np.isnan(kept["reports"]["cost"]), [True] * 5)
        heads.compile(self.span.part(0, 0), self.objective, 1)
        self.assert_same(heads.snapshot().as_state(), kept)  # Nothing was trained.

    def test_only_what_counts_of_a_span_is_found(self):
        heads, whole = self.heads(2), self.heads(2)
        expected = self.advance(whole).costs
        parts = [self.advance(heads, begin=begin, end=end) for begin, end in ((0, 1), (1, 4))]
        self.assertEqual([len(part.costs) for part in parts], [1, 3])
        self.assertAllEqual(np.concatenate([part.costs for part in parts]), expected)
        self.assert_same(heads.snapshot().as_state(), whole.snapshot().as_state())

    @parameterized.parameters(1, 2, 3)
    def test_some_heads_go_on_without_the_others(self, programs):
        some, whole = self.heads(programs), self.heads(programs)
        for heads in (some, whole):
            self.advance(heads, end=3)
        numbers = np.array([0, 2, 4])
        before = whole.snapshot().as_state()
        some.leave_only(numbers)
        self.assertLen(some, 3)
        after = some.snapshot().as_state()
        self.assertAllEqual(after["numbers"], numbers)
        self.assertAllEqual(after["W"], before["W"][numbers])
        self.assertAllEqual(after["b"], before["b"][numbers])
        for name in ("reports", "slots"):
            for key, array in before[name].items():
                self.assertAllEqual(after[name][key], array[numbers])
        # Over a validation, of which a part is before and a part behind.
        found, expected = (self.advance(heads, first=3) for heads in (some, whole))
        self.assertAllClose(found.costs, expected.costs[:, numbers], rtol=1e-6)
        self.assertAllClose(found.reports["cost"][0], expected.reports["cost"][0, numbers], rtol=1e-6)
        some.leave_only(np.array([1, 2]))
        after, expected = some.snapshot().as_state(), whole.snapshot().as_state()
        self.assertAllEqual(after["numbers"], [2, 4])
        self.assertAllClose(after["W"], expected["W"][[2, 4]], rtol=0, atol=1e-7)
        self.assertAllClose(after["b"], expected["b"][[2, 4]], rtol=0, atol=1e-7)

    @parameterized.parameters(1, 2)
    def test_heads_go_on_from_a_state_as_if_nothing_had_happened(self, programs):
        whole, first = self.heads(programs), self.heads(programs)
        self.advance(whole)
        self.advance(first, end=3)
        state = State(steps=3, **first.snapshot().as_state())
        self.advance(first)  # What is kept stays as it was.
        second = self.heads(programs, state=state)
        self.advance(second, begin=3)
        self.assert_same(second.snapshot().as_state(), whole.snapshot().as_state())
        # Those that stopped are not there any more.
        second.leave_only(np.array([1, 3]))
        third = self.heads(programs, state=dataclasses.replace(state, **second.snapshot().as_state()))
        self.assertAllEqual(third.numbers, [1, 3])
        for heads in (second, third):
            self.advance(heads, first=4)
        self.assert_same(third.snapshot().as_state(), second.snapshot().as_state())

    def test_parameters_that_were_read_stay_as_they_were(self):
        heads = self.heads(2)
        read = heads.parameters()
        self.advance(heads)
        self.assertAllEqual(joined(read)[0], np.zeros((5, 3, 24)))

    def test_many_groups_raise_no_alarm(self):
        # Labels of another length: a program of their own, which eight threads want at once.
        on, rates = objective(np.append(self.y, [0] * 20)), tuple(np.linspace(0.1, 0.2, 8))
        with self.assertNoLogs("tensorflow", "WARNING"):
            self.advance(self.heads(8, rates), on=on)

    @pytest.mark.exhaustive
    def test_bytes_in_groups(self):
        parts = []
        for programs in (1, 3):
            heads = self.heads(programs, RATES[:3])
            self.advance(heads, on=objective(self.y, arithmetic="int8"))
            parts.append(heads.snapshot().as_state())
        self.assert_same(*parts, rtol=1e-6, atol=1e-8)

    def test_groups_are_measured_as_one_would_be(self):
        validation, test = minibatches.examples(3, 4, seed=4), minibatches.examples(2, 4, seed=2)
        masks, column = np.array([[1] * 12, [0, 1, 1] * 4]), np.array([0, 1, 0, 1, 0], np.int32)
        by = Measurement(
            span(validation[0]),
            objective(validation[1], weights=masks),
            span(test[0]),
            objective(test[1]),
            tf.constant(0),
            np.array([np.inf, np.inf, 0.0, -np.inf, 0.7]),
        )
        found = []
        for programs in (1, 5):
            heads = self.heads(programs, column=column)
            heads.compile(self.span.part(0, 0), self.objective, 2)
            found.append(self.advance(heads, on=objective(self.y, weights=np.ones((2, 40))), by=by).findings)
        together, alone = found
        kept = heads.snapshot().as_state()
        last = sums_of(by.of_validation, by.validation, kept["W"], kept["b"], tf.constant(column))
        self.assertAllEqual(alone.sums[-1, 0], last[0])
        self.assertAllClose(alone.sums[-1, 1], last[1], rtol=1e-6)
        self.assertEqual((together.sums.shape, together.best_W.shape), ((2, 2, 5), (5, 3, 24)))
        self.assertAllEqual(alone.sums[:, 0], together.sums[:, 0])
        for name in ("sums", "norm"):
            self.assertAllClose(getattr(alone, name), getattr(together, name), rtol=1e-6)
        better = np.array([0, 1, 4])
        for name in ("best_W", "best_b"):
            ours, theirs = getattr(alone, name)[better], getattr(together, name)[better]
            self.assertAllClose(ours, theirs, rtol=0, atol=1e-7)
            self.assertAllGreater(np.abs(ours).reshape(3, -1).max(axis=1), 1e-3)
        # Of one group all are tested if one is better than ever: at the first validation three are.
        for figures, tested in ((together, [True] * 5), (alone, [True, True, False, False, True])):
            self.assertAllEqual(np.isfinite(figures.test_sums[0]), [tested] * 2)
        self.assertAllEqual(alone.test_sums[0, 0, better], together.test_sums[0, 0, better])

    def test_the_graph_of_a_step(self):
        graph = tf.compat.v1.GraphDef.FromString(self.heads(2).graph(self.span, self.objective))
        operations = [node.op for node in graph.node] + [
            node.op for function in graph.library.function for node in function.node_def
        ]
        self.assertEqual(operations.count("MatMul"), 2)


if __name__ == "__main__":
    tf.test.main()
