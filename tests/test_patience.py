import numpy as np
from absl.testing import absltest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfpipe.training.patience import Patience


def tutorial(errors, n_batches, epochs, patience, patience_increase, improvement_threshold, validation_frequency):
    """The loop of the Theano tutorial, transcribed: (iterations, best error, best iteration)."""
    best_validation_loss = np.inf
    best_iter = -1
    done_looping = False
    epoch = 0
    validations = iter(errors)
    while epoch < epochs and not done_looping:
        epoch = epoch + 1
        for minibatch_index in range(n_batches):
            iter_ = (epoch - 1) * n_batches + minibatch_index
            if (iter_ + 1) % validation_frequency == 0:
                this_validation_loss = next(validations)
                if this_validation_loss < best_validation_loss:
                    if this_validation_loss < best_validation_loss * improvement_threshold:
                        patience = max(patience, iter_ * patience_increase)
                    best_validation_loss = this_validation_loss
                    best_iter = iter_
            if patience <= iter_:
                done_looping = True
                break
    return iter_ + 1, best_validation_loss, best_iter


def ours(errors, n_batches, epochs, chunk, validation_frequency, **patience):
    """The same by Patience, several heads at once, in chunks as a run makes them."""
    heads = Patience(len(errors), **patience)
    last = n_batches * epochs
    iteration = -1
    validations = zip(*errors, strict=True)
    while iteration + 1 < last and heads.steps(iteration + 1, 1):
        due = (iteration + 1) // validation_frequency * validation_frequency + validation_frequency
        steps = min(chunk, due - (iteration + 1), last - (iteration + 1))
        iteration += heads.steps(iteration + 1, steps)
        if (iteration + 1) % validation_frequency == 0:
            error = np.array(next(validations))
            heads.observe(iteration, error, np.zeros(len(errors)))
    return [
        (int(min(heads.last_iteration[h], iteration)) + 1, heads.best_error[h], int(heads.best_iteration[h]))
        for h in range(len(errors))
    ]


class PatienceTest(absltest.TestCase):
    @settings(max_examples=500, deadline=None)
    @given(data=st.data())
    def test_every_head_ends_where_the_tutorials_loop_ends(self, data):
        n_batches = data.draw(st.integers(1, 12), "n_batches")
        epochs = data.draw(st.integers(1, 12), "epochs")
        options = {
            "patience": data.draw(st.integers(1, 80), "patience"),
            "patience_increase": data.draw(st.sampled_from([1, 1.5, 2, 2.5, 3]), "patience_increase"),
            "improvement_threshold": data.draw(st.sampled_from([0.5, 0.9, 0.995, 1.0]), "improvement_threshold"),
            "validation_frequency": data.draw(st.integers(1, 15), "validation_frequency"),
        }
        validations = n_batches * epochs // options["validation_frequency"]
        error = st.integers(0, 40).map(lambda wrong: wrong / 40)
        heads = data.draw(st.integers(1, 3), "heads")
        errors = [data.draw(st.lists(error, min_size=validations, max_size=validations)) for _ in range(heads)]
        chunk = data.draw(st.integers(1, 7), "chunk")

        expected = [tutorial(of_head, n_batches, epochs, **options) for of_head in errors]
        self.assertEqual(ours(errors, n_batches, epochs, chunk, **options), expected)

    def test_the_stop_inside_an_epoch_of_the_tutorials_own_run(self):
        patience = Patience(1, patience=5000, patience_increase=2, improvement_threshold=0.995)
        for epoch in range(1, 74):  # Every epoch improves by more than 0.5 % until 37, by less from then on.
            error = 0.2 * 0.98 ** min(epoch, 37) - 1e-6 * epoch
            patience.observe(epoch * 83 - 1, np.array([error]), np.array([1.0]))
        self.assertEqual(patience.last_iteration.tolist(), [6140])  # 2 * 3070: iteration 80 of the 83 of epoch 74.
        self.assertEqual(patience.best_iteration.tolist(), [6058])

    def test_patience_that_is_no_whole_number_ends_at_the_next_iteration(self):
        patience = Patience(1, patience=3, patience_increase=1.5, improvement_threshold=0.995)
        patience.observe(3, np.array([0.5]), np.array([1.0]))
        self.assertEqual(patience.last_iteration.tolist(), [5])  # max(3, 4.5), and 4.5 <= 5.

    def test_patience_without_end_does_not_overflow(self):
        patience = Patience(1, patience=10, patience_increase=1e300, improvement_threshold=0.995)
        patience.observe(10, np.array([0.5]), np.array([1.0]))
        self.assertGreater(patience.last_iteration[0], 2**61)
        self.assertEqual(patience.steps(11, 7), 7)

    def test_steps_end_where_the_last_head_stops(self):
        patience = Patience(2, patience=5, patience_increase=2, improvement_threshold=0.995)
        patience.observe(4, np.array([0.5, np.inf]), np.array([1.0, 1.0]))
        self.assertEqual(patience.last_iteration.tolist(), [8, 5])
        self.assertEqual([patience.steps(first, 3) for first in (5, 6, 7, 8, 9)], [3, 3, 2, 1, 0])

    def test_a_head_that_has_stopped_is_not_observed(self):
        patience = Patience(2, patience=2, patience_increase=2, improvement_threshold=0.995)
        patience.observe(2, np.array([0.5, np.inf]), np.array([1.0, 1.0]))
        self.assertEqual(patience.last_iteration.tolist(), [4, 2])
        improved = patience.observe(4, np.array([0.4, 0.1]), np.array([1.0, 1.0]))
        self.assertEqual(improved.tolist(), [True, False])

    def test_of_equal_errors_the_smaller_cost_is_selected_then_the_first(self):
        patience = Patience(4, patience=9, patience_increase=2, improvement_threshold=0.995)
        self.assertIsNone(patience.selected())
        patience.observe(0, np.array([0.2, 0.1, 0.1, 0.1]), np.array([0.1, 0.5, 0.3, 0.3]))
        self.assertEqual(patience.selected(), 2)

    def test_a_diverged_head_stops_and_is_not_selected(self):
        patience = Patience(2, patience=9, patience_increase=2, improvement_threshold=0.995)
        patience.observe(3, np.array([0.1, 0.2]), np.array([1.0, 1.0]))
        patience.diverge(np.array([True, False]), np.array([5, 5]))
        self.assertEqual(patience.last_iteration.tolist(), [5, 9])
        self.assertEqual(patience.selected(), 1)
        improved = patience.observe(5, np.array([0.0, 0.1]), np.array([1.0, 1.0]))
        self.assertEqual(improved.tolist(), [False, True])


if __name__ == "__main__":
    absltest.main()
