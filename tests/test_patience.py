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


def ours(errors, n_batches, epochs, span, validation_frequency, *, beside, **patience):
    """The same by Patience, several heads at once, in spans with several validations, as a run makes them.

    `beside`: a span is measured while the next one trains, unless that depends on what is found.
    """
    heads = Patience(len(errors), **patience)
    last = n_batches * epochs
    steps = 0
    validations = iter(list(zip(*errors, strict=True)))
    under_way = range(0)

    def observe():
        nonlocal under_way
        for validated in under_way:
            heads.observe(validated, np.array(next(validations)), np.zeros(len(errors)))
        under_way = range(0)

    while True:
        following = steps // validation_frequency * validation_frequency + validation_frequency
        if not beside or not (heads.allowed[heads.active(steps)] >= following).all():
            observe()
        if steps == last or heads.over(steps):
            break
        done = min(steps + span, heads.certain(steps, following), last)
        observe()
        under_way = range(following, done + 1, validation_frequency)
        steps = done
    observe()
    return [
        (int(min(heads.allowed[h], steps)), heads.best_error[h], int(heads.best_steps[h]) - 1)
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
        span = data.draw(st.integers(1, 40), "span")

        expected = [tutorial(of_head, n_batches, epochs, **options) for of_head in errors]
        for beside in (False, True):
            self.assertEqual(ours(errors, n_batches, epochs, span, beside=beside, **options), expected)

    def test_the_stop_inside_an_epoch_of_the_tutorials_own_run(self):
        patience = Patience(1, patience=5000, patience_increase=2, improvement_threshold=0.995)
        for epoch in range(1, 74):  # Every epoch improves by more than 0.5 % until 37, by less from then on.
            error = 0.2 * 0.98 ** min(epoch, 37) - 1e-6 * epoch
            patience.observe(epoch * 83, np.array([error]), np.array([1.0]))
        self.assertEqual(patience.allowed.tolist(), [6141])  # 2 * 3070 + 1: 81 of the 83 steps of epoch 74.
        self.assertEqual(patience.best_steps.tolist(), [6059])

    def test_patience_that_is_no_whole_number_ends_at_the_next_iteration(self):
        patience = Patience(1, patience=3, patience_increase=1.5, improvement_threshold=0.995)
        patience.observe(4, np.array([0.5]), np.array([1.0]))
        self.assertEqual(patience.allowed.tolist(), [6])  # max(3, 3 * 1.5), and iteration 5 is the first above.

    def test_patience_without_end_does_not_overflow(self):
        patience = Patience(1, patience=10, patience_increase=1e300, improvement_threshold=0.995)
        patience.observe(11, np.array([0.5]), np.array([1.0]))
        self.assertGreater(patience.allowed[0], 2**61)
        self.assertFalse(patience.over(2**61))

    def test_how_far_it_is_certain_who_goes_on(self):
        patience = Patience(3, patience=4, patience_increase=2, improvement_threshold=0.995)
        patience.observe(5, np.array([0.5, np.inf, np.inf]), np.array([1.0] * 3))
        patience.patience[2] = 6
        self.assertEqual(patience.allowed.tolist(), [9, 5, 7])
        # A validation after 6 steps may prolong the heads that end after 7 and 9, one after 8 the latter alone.
        self.assertEqual([patience.certain(5, following) for following in (6, 7, 8, 9, 10)], [7, 7, 9, 9, 9])
        self.assertEqual([patience.over(steps) for steps in (7, 8, 9)], [False, False, True])

    def test_a_head_that_has_stopped_is_not_observed(self):
        patience = Patience(2, patience=2, patience_increase=2, improvement_threshold=0.995)
        patience.observe(3, np.array([0.5, np.inf]), np.array([1.0, 1.0]))
        self.assertEqual(patience.allowed.tolist(), [5, 3])
        improved = patience.observe(5, np.array([0.4, 0.1]), np.array([1.0, 1.0]))
        self.assertEqual(improved.tolist(), [True, False])

    def test_of_equal_errors_the_smaller_cost_is_selected_then_the_first(self):
        patience = Patience(4, patience=9, patience_increase=2, improvement_threshold=0.995)
        self.assertIsNone(patience.selected())
        patience.observe(1, np.array([0.2, 0.1, 0.1, 0.1]), np.array([0.1, 0.5, 0.3, 0.3]))
        self.assertEqual(patience.selected(), 2)

    def test_by_costs(self):
        patience = Patience(3, patience=4, patience_increase=2, improvement_threshold=0.9, select="cost")
        self.assertEqual(patience.best.tolist(), [np.inf] * 3)
        patience.observe(4, np.array([0.1, 0.3, 0.3]), np.array([0.5, 0.5, 0.5]))
        # The error is better and the cost is not; the cost is better, a little; it is better by far.
        improved = patience.observe(5, np.array([0.0, 0.4, 0.2]), np.array([0.6, 0.49, 0.25]))
        self.assertEqual(improved.tolist(), [False, True, True])
        self.assertEqual(patience.allowed.tolist(), [7, 7, 9])  # max(4, 2 * 3) + 1, and 2 * 4 + 1.
        self.assertEqual(patience.best.tolist(), [0.5, 0.49, 0.25])
        self.assertEqual(patience.best_error.tolist(), [0.1, 0.4, 0.2])
        self.assertEqual(patience.best_steps.tolist(), [4, 5, 5])
        self.assertEqual(patience.selected(), 2)

    def test_by_balanced_errors(self):
        patience = Patience(3, patience=4, patience_increase=2, improvement_threshold=0.9, select="balanced_error")
        self.assertEqual(patience.best.tolist(), [np.inf] * 3)
        patience.observe(4, np.array([0.2, 0.2, 0.2]), np.array([0.5, 0.5, 0.4]), np.array([0.5, 0.5, 0.5]))
        self.assertEqual(patience.selected(), 2)  # Of equals the smaller cost.
        # Error and cost are better alone; it is better, a little; by far.
        improved = patience.observe(
            5, np.array([0.0, 0.3, 0.3]), np.array([0.1, 0.6, 0.6]), np.array([0.5, 0.49, 0.25])
        )
        self.assertEqual(improved.tolist(), [False, True, True])
        self.assertEqual(patience.allowed.tolist(), [7, 7, 9])  # max(4, 2 * 3) + 1, and 2 * 4 + 1.
        self.assertEqual(patience.best.tolist(), [0.5, 0.49, 0.25])
        self.assertEqual(patience.best_error.tolist(), [0.2, 0.3, 0.3])
        self.assertEqual(patience.best_cost.tolist(), [0.5, 0.6, 0.6])
        self.assertEqual(patience.selected(), 2)

    def test_of_equal_costs_the_smaller_error_is_selected_then_the_first(self):
        patience = Patience(4, patience=9, patience_increase=2, improvement_threshold=0.995, select="cost")
        patience.observe(1, np.array([0.1, 0.3, 0.2, 0.2]), np.array([0.5, 0.4, 0.4, 0.4]))
        self.assertEqual(patience.selected(), 2)

    def test_a_diverged_head_stops_and_is_not_selected(self):
        patience = Patience(2, patience=9, patience_increase=2, improvement_threshold=0.995)
        patience.observe(4, np.array([0.1, 0.2]), np.array([1.0, 1.0]))
        patience.diverge(np.array([True, False]), np.array([6, 6]))
        self.assertEqual(patience.allowed.tolist(), [6, 10])
        self.assertEqual(patience.selected(), 1)
        improved = patience.observe(6, np.array([0.0, 0.1]), np.array([1.0, 1.0]))
        self.assertEqual(improved.tolist(), [False, True])


if __name__ == "__main__":
    absltest.main()
