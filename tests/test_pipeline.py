import itertools

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from tests import made
from tfpipe import Examples
from tfpipe.compute.programs import padded
from tfpipe.pipeline import inputs, residency
from tfpipe.pipeline.sampler import Sampler
from tfpipe.pipeline.spans import Spans, span_length


class SamplerTest(parameterized.TestCase, tf.test.TestCase):
    def test_in_order_with_a_last_minibatch_that_is_not_full(self):
        sampler = Sampler(8, 3, drop_remainder=False)
        self.assertEqual((sampler.per_epoch, sampler.examples), (3, 8))
        taken, counts = sampler.take(1, 3)
        self.assertAllEqual(taken, [[3, 4, 5], [6, 7, 7], [0, 1, 2]])
        self.assertAllEqual(counts, [3, 2, 3])
        self.assertEqual((taken.dtype, counts.dtype), (np.int64, np.int32))

    def test_the_remainder_is_dropped_on_demand(self):
        sampler = Sampler(8, 3, drop_remainder=True)
        self.assertEqual((sampler.per_epoch, sampler.examples), (2, 6))
        taken, counts = sampler.take(1, 2)
        self.assertAllEqual(taken, [[3, 4, 5], [0, 1, 2]])
        self.assertAllEqual(counts, [3, 3])

    def test_fewer_examples_than_a_minibatch(self):
        self.assertEqual(Sampler(2, 3, drop_remainder=True).per_epoch, 0)
        taken, counts = Sampler(2, 3, drop_remainder=False).take(0, 1)
        self.assertAllEqual(taken, [[0, 1, 1]])
        self.assertAllEqual(counts, [2])

    @parameterized.product(n=[1, 7, 12, 100], batch_size=[1, 5, 12], seed=[0, 2**63 - 1])
    def test_a_shuffled_epoch_holds_every_example_once_in_an_order_of_its_own(self, n, batch_size, seed):
        sampler = Sampler(n, batch_size, drop_remainder=False, shuffle=True, seed=seed)
        epochs = []
        for epoch in range(3):
            taken, counts = sampler.take(epoch * sampler.per_epoch, sampler.per_epoch)
            epochs.append(np.concatenate([row[:count] for row, count in zip(taken, counts, strict=True)]))
            self.assertAllEqual(np.sort(epochs[-1]), np.arange(n))
        if n == 100:
            self.assertNotAllEqual(epochs[0], epochs[1])
            self.assertNotAllEqual(epochs[1], epochs[2])

    def test_any_iteration_can_be_computed_from_its_number_alone(self):
        def make(seed):
            return Sampler(50, 7, drop_remainder=False, shuffle=True, seed=seed)

        whole, _ = make(5).take(0, 40)
        for index in (39, 0, 23, 8, 7):
            self.assertAllEqual(make(5).take(index, 1)[0][0], whole[index])
        self.assertNotAllEqual(make(6).take(0, 1)[0], whole[:1])

    def test_the_order_is_that_of_philox(self):
        # From (seed, epoch): states of older runs go on by it.
        taken, _ = Sampler(6, 6, drop_remainder=False, shuffle=True, seed=3).take(2, 1)
        expected = np.random.Generator(np.random.Philox(key=[3, 2])).permutation(6)
        self.assertAllEqual(taken[0], expected)


class SpansTest(parameterized.TestCase, tf.test.TestCase):
    STEPS = 10

    def setUp(self):
        super().setUp()
        pixels, labels = made.images(13, (2, 3))
        # Every other row is of another split.
        self.examples = Examples(pixels, labels).take(np.delete(np.arange(13), [0, 5]))
        (self.split,) = residency.place([self.examples])
        self.sampler = Sampler(11, 4, drop_remainder=False, shuffle=True, seed=3)

    def training(self, split=None, **options):
        return inputs.training_spans(split or self.split, self.sampler, steps=self.STEPS, **options)

    def minibatches(self, span):
        """The images of the minibatches that count, `[t, B, D]`, and the numbers of the examples."""
        counting = slice(int(span.begin), int(span.end))
        return tf.gather(span.images, span.rows).numpy()[counting], span.examples.numpy()[counting]

    @parameterized.product(length=[1, 2, 3, 7], period=[1, 3, 4, 5], is_resident=[True, False])
    def test_training_spans_are_the_minibatches_in_order_and_end_at_periods(self, length, period, is_resident):
        expected, expected_counts = self.sampler.take(0, self.STEPS)
        split = self.split._replace(is_resident=is_resident)
        ends, images, examples, counts = [], [], [], []
        for span in self.training(split, period=period, length=length):
            begin, end = int(span.begin), int(span.end)
            if is_resident:
                self.assertIs(span.images, split.images)
                self.assertEqual(span.rows.shape, (padded(length), 4))
            else:
                self.assertEqual((span.images.shape, span.rows.shape), ((length * 4, 6), (length, 4)))
            self.assertEqual(span.counts.shape, span.rows.shape[:1])
            self.assertEqual((begin, int(span.first)), (0, sum(map(len, images))))
            ours = self.minibatches(span)
            images.append(ours[0])
            examples.append(ours[1])
            counts.append(span.counts.numpy()[begin:end])
            ends.append(int(span.first) + end)
        self.assertAllEqual(np.concatenate(images), self.examples.images.reshape(11, 6)[expected])
        self.assertAllEqual(np.concatenate(examples), expected)
        self.assertAllEqual(np.concatenate(counts), expected_counts)
        self.assertEqual(
            ends, sorted({min(a + b, a + period, 10) for a in range(0, 10, period) for b in range(length, 15, length)})
        )

    @parameterized.parameters((1, 3), (2, 5), (3, 4), (7, 4))
    def test_from_the_middle_of_a_period_they_are_the_same_spans(self, length, period):
        whole = list(self.training(period=period, length=length))
        for first in (1, 4, 5, 6, 9):
            later = list(self.training(period=period, length=length, first=first))
            self.assertLen(later, sum(int(span.first) + int(span.end) > first for span in whole))
            for ours, theirs in zip(later, whole[-len(later) :], strict=True):
                for name in ("rows", "examples", "counts", "first", "end"):
                    self.assertAllEqual(getattr(ours, name), getattr(theirs, name))
            self.assertEqual([int(span.begin) for span in later[1:]], [0] * (len(later) - 1))
            self.assertEqual(int(later[0].first) + int(later[0].begin), first)
        after_all = [int(span.end - span.begin) for span in self.training(period=period, length=length, first=10)]
        self.assertEqual(sum(after_all), 0)

    def test_evaluation_spans_start_over(self):
        sampler = Sampler(11, 4, drop_remainder=False)
        spans = inputs.evaluation_spans(self.split, sampler, length=2)
        passes = list(itertools.islice(spans, 6))
        self.assertEqual([int(span.first) for span in passes], [0, 2, 0, 2, 0, 2])
        self.assertEqual([(int(span.begin), int(span.end)) for span in passes], [(0, 2), (0, 1)] * 3)
        for first, second in ((0, 1), (2, 3), (4, 5)):
            parts = [self.minibatches(passes[number])[0] for number in (first, second)]
            images = np.concatenate(parts).reshape(12, 6)
            self.assertAllEqual(images[:11], self.examples.images.reshape(11, 6))
            self.assertAllEqual(images[11], images[10])  # Fills up.

    def test_taken_up_to_where_one_wants_to_look(self):
        expected, _ = self.sampler.take(0, self.STEPS)
        for first in (0, 5):
            spans = Spans(self.training(period=10, length=4, first=first), first)
            self.assertEqual((int(spans.nothing.begin), int(spans.nothing.end)), (0, 0))
            steps, taken = first, []
            for until, done in ((6, 4), (6, 6), (100, 8), (9, 9), (100, 10)):
                if done > first:
                    span = spans.take(steps, until)
                    self.assertEqual(int(span.first) + int(span.begin), steps)
                    taken.append(self.minibatches(span)[1])
                    steps += len(taken[-1])
                    self.assertEqual(steps, done)
            self.assertAllEqual(np.concatenate(taken), expected[first:])
        # Where nothing is left, nothing is to be compiled.
        self.assertIsNone(Spans(self.training(period=10, length=4, first=10), 10).nothing)

    def test_a_part_of_a_span(self):
        span = next(self.training(period=10, length=7))
        part = span.part(2, 5)
        self.assertAllEqual(self.minibatches(part)[1], span.examples[2:5])
        self.assertEqual((part.begin.dtype, part.end.dtype), (tf.int32, tf.int32))

    @parameterized.parameters(
        # minibatches, batch size, bytes of an image, parameters -> length
        (83, 600, 784, 7840, 42),  # 69 fit into 32 MiB; two spans of 42 are 84.
        (83, 600, 0, 7840, 83),  # Only their numbers travel.
        (10, 600, 64, 640, 10),
        (10, 600, 1 << 20, 10, 1),  # One minibatch is larger than the bound.
        (100, 600, 64, 100 * 7840, 50),  # 53 take the time that a span may take.
    )
    def test_lengths_divide_the_minibatches_with_little_waste(self, minibatches, batch, image, parameters, expected):
        self.assertEqual(span_length(minibatches, batch, image, parameters, 32 << 20, 100e9), expected)


if __name__ == "__main__":
    tf.test.main()
