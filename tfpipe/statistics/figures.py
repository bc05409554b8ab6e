"""Figures of predictions: by which models are chosen, and told. NumPy only.

With weights w of the examples, which are 1 where nobody says otherwise, and counts where examples are drawn again,

    error           = sum w [wrong] / sum w
    cost            = sum w loss / sum w
    balanced_error  = mean over the classes k that occur of  sum over k of w [wrong] / sum over k of w
    macro_f1        = mean over the classes that occur of    2 tp / (2 tp + fp + fn), of sums of w
    auc             = mean over the classes k that occur, and others too, of the share of pairs, one of k and one of
                      another class, in which the former has the larger p_k; equal ones count half
    top5_error      = sum w [label is none of the five most probable] / sum w

A class occurs that has a label of weight above 0. In scikit-learn `macro_f1` is `f1_score(average="macro")` over these
classes, and `auc` the mean of `roc_auc_score` of each of them against the rest.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

# Whether more is better. The names of what is chosen by, and told.
RISES = {"cost": False, "error": False, "balanced_error": False, "macro_f1": True, "auc": True, "top5_error": False}
# With so few classes, most labels are among five.
FEWEST_FOR_TOP5 = 11
_TOP = 5
# Scores, examples times classes, that are kept, and of which `auc` is found: 1 GiB of float64.
MOST_SCORES = 1 << 27
_BLOCK_BYTES = 32 << 20
# Weightings side by side that stay in a core's cache: 6 ns for an example, a class and a draw, and 15 with 1 MiB.
_CACHED_BYTES = 1 << 17


def names(n_out: int) -> tuple[str, ...]:
    """The figures of a model of K = `n_out` classes."""
    return tuple(name for name in RISES if name != "top5_error" or n_out >= FEWEST_FOR_TOP5)


def of_select(select: str) -> str:
    """The name of the figure by which `TrainConfig.select` chooses: `top5` is short for `top5_error`."""
    return "top5_error" if select == "top5" else select


class Outcomes:
    """What a model says of n examples.

    Args:
      labels: `[n]` integers in [0, K).
      probabilities: `[n, K]` float64; rows sum to 1. Or pieces of it, one at least, one after the other. Up to 2^27
        numbers, 1 GiB, are kept; of more there is no `auc`, and a few numbers an example are kept.
      loss: `[n]` float64, the log losses; NaN for an example that has no part in the cost. None: those of
        `probabilities`.

    Attributes:
      labels: see there.
      predicted: `[n]`, the most probable classes, of equals the first.
      confidence: `[n]` float64, their probabilities.
      wrong: `[n]` bool.
      loss: `[n]` float64; infinity where the class has probability 0.
      n_out: K.
    """

    def __init__(
        self,
        labels: np.ndarray,
        probabilities: np.ndarray | Iterable[np.ndarray],
        loss: np.ndarray | None = None,
    ):
        self.labels = labels
        self._scores = None
        parts, begin = [], 0
        for block in _blocks(probabilities):
            self.n_out = block.shape[1]
            end = begin + len(block)
            parts.append(_outcomes(labels[begin:end], block))
            if not isinstance(probabilities, np.ndarray) and len(labels) * self.n_out <= MOST_SCORES:
                if self._scores is None:
                    self._scores = np.empty((len(labels), self.n_out))
                self._scores[begin:end] = block
            begin = end
        if isinstance(probabilities, np.ndarray) and probabilities.size <= MOST_SCORES:
            self._scores = probabilities
        of_label, self.predicted, self.confidence, self._is_outside_top = map(np.concatenate, zip(*parts, strict=True))
        self.wrong = self.predicted != labels
        with np.errstate(divide="ignore"):  # A class of probability 0 costs infinitely much.
            self.loss = -np.log(of_label) if loss is None else loss

    def __len__(self) -> int:
        return len(self.labels)

    def figures(self, weights: np.ndarray | None = None, wanted: Sequence[str] | None = None) -> dict[str, float]:
        """Each figure, by its name; NaN where there is none.

        Args:
          weights: `[n]`, at least 0, one of them above; None: each counts once.
          wanted: their names; None: all.
        """
        counts = np.ones((1, len(self))) if weights is None else weights[np.newaxis]
        return {name: float(values[0]) for name, values in self.drawn(counts, wanted).items()}

    def figure(self, name: str, weights: np.ndarray | None = None) -> float:
        """One of them, by its name, without the work of the others."""
        return self.figures(weights, [name])[name]

    def drawn(self, counts: np.ndarray, wanted: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """The figures under B weightings: `[B]` each, by name.

        Args:
          counts: `[B, n]`, how often each example counts, at least 0.
          wanted: their names; None: all.
        """
        wanted = names(self.n_out) if wanted is None else wanted
        step = max(1, _CACHED_BYTES // (8 * max(1, len(self))))
        # An example's counts side by side: so rows are taken, and added up, many at once.
        columns = [
            np.ascontiguousarray(counts[begin : begin + step].T, np.float64) for begin in range(0, len(counts), step)
        ]
        found = {"auc": self._auc(columns)} if "auc" in wanted else {}
        if others := [name for name in wanted if name != "auc"]:
            parts = [self._drawn(block) for block in columns]
            found |= {name: np.concatenate([part[name] for part in parts]) for name in others}
        return {name: found[name] for name in wanted}

    @functools.cached_property
    def _in_classes(self) -> tuple["_Classes", "_Classes", "_Classes"]:
        """By label: all examples, and those that are wrong; and all by what they are taken for."""
        wrong = np.flatnonzero(self.wrong)
        return _Classes(self.labels), _Classes(self.labels[wrong], wrong), _Classes(self.predicted)

    def _drawn(self, counts: np.ndarray) -> dict[str, np.ndarray]:
        """All but `auc`, under `[n, B]`."""
        total = counts.sum(axis=0)
        in_cost = ~np.isnan(self.loss)
        of_cost = total if in_cost.all() else counts[in_cost].sum(axis=0)
        of_class, missed, taken = (classes.sums(counts, self.n_out) for classes in self._in_classes)
        occurs = of_class > 0
        with np.errstate(divide="ignore", invalid="ignore"):  # NaN where nothing counts, as promised.
            return {
                "cost": _weighted(np.where(in_cost, self.loss, 0), counts) / of_cost,
                "error": counts[self.wrong].sum(axis=0) / total,
                "balanced_error": _mean(missed / of_class, occurs),
                "macro_f1": _mean(2 * (of_class - missed) / (of_class + taken), occurs),
                "top5_error": counts[self._is_outside_top].sum(axis=0) / total,
            }

    def _auc(self, columns: Sequence[np.ndarray]) -> np.ndarray:
        """Under `[n, B]` each, of all B together; class by class, so that one order of the examples is held."""
        n_draws = sum(block.shape[1] for block in columns)
        if self._scores is None:
            return np.full(n_draws, np.nan)
        total, there = np.zeros(n_draws), np.zeros(n_draws)
        for k in np.unique(self.labels).tolist():
            is_own, scores = self.labels == k, self._scores[:, k]
            own, others = np.flatnonzero(is_own), np.flatnonzero(~is_own)
            others = others[np.argsort(scores[others])]
            below = np.searchsorted(scores[others], scores[own])
            up_to = np.searchsorted(scores[others], scores[own], side="right")
            share = np.concatenate([_won(block[own], block[others], below, up_to) for block in columns])
            is_there = ~np.isnan(share)
            total[is_there] += share[is_there]
            there += is_there
        with np.errstate(invalid="ignore"):  # NaN where no class has a share.
            return total / there


class _Classes:
    """Rows in the order of their classes: `[m]` classes, and of which rows they are; None: of the first m."""

    def __init__(self, classes: np.ndarray, rows: np.ndarray | None = None):
        order = np.argsort(classes, kind="stable")
        self._there, self._first = np.unique(classes[order], return_index=True)
        self._rows = order if rows is None else rows[order]

    def sums(self, counts: np.ndarray, n_out: int) -> np.ndarray:
        """`[K, B]`, of `[n, B]` counts, over the rows of each class."""
        found = np.zeros((n_out, counts.shape[1]))
        if len(self._there):
            found[self._there] = np.add.reduceat(counts[self._rows], self._first, axis=0)
        return found


def _blocks(probabilities: np.ndarray | Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    if not isinstance(probabilities, np.ndarray):
        yield from probabilities
        return
    step = max(1, _BLOCK_BYTES // max(1, probabilities[:1].nbytes))
    for begin in range(0, max(1, len(probabilities)), step):
        yield probabilities[begin : begin + step]


def _outcomes(labels: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, ...]:
    """Of each example: the probability of its class, the most probable class, that one's, and if five are before it.

    Of equal probabilities the first classes are taken.
    """
    column = labels[:, np.newaxis]
    of_label = np.take_along_axis(p, column, axis=1)
    predicted = p.argmax(axis=1)
    confidence = np.take_along_axis(p, predicted[:, np.newaxis], axis=1)[:, 0]
    if p.shape[1] < FEWEST_FOR_TOP5:
        return of_label[:, 0], predicted, confidence, np.zeros(len(p), bool)
    before = (p > of_label) | ((p == of_label) & (np.arange(p.shape[1]) < column))
    return of_label[:, 0], predicted, confidence, before.sum(axis=1) >= _TOP


def _weighted(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """`[n]`, `[n, B]` -> `[B]` sums; what does not count adds nothing, where it is infinite either."""
    infinite = np.isinf(values)
    # Products as small as these are not worth waking the threads of BLAS.
    sums = np.einsum("i,ib->b", np.where(infinite, 0, values), counts)
    return np.where(counts[infinite].any(axis=0), np.inf, sums) if infinite.any() else sums


def _won(own: np.ndarray, others: np.ndarray, below: np.ndarray, up_to: np.ndarray) -> np.ndarray:
    """`[B]`, the share of pairs in which one's own has the larger score; NaN where there is no pair.

    Args:
      own: `[m, B]`, what those of the class count.
      others: `[n - m, B]`, what the others count, by their scores.
      below: `[m]`, of each of its own, how many others have a smaller score.
      up_to: `[m]`, how many have no larger one.
    """
    sums = np.empty((len(others) + 1, others.shape[1]))
    sums[0] = 0
    np.cumsum(others, axis=0, out=sums[1:])
    won = sums[below]
    won += sums[up_to]
    won *= own
    with np.errstate(invalid="ignore"):
        return won.sum(axis=0) / 2 / (own.sum(axis=0) * sums[-1])


def _mean(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """`[K, B]` -> `[B]`, the mean of those that are counted; NaN if none is."""
    return np.where(counted, values, 0).sum(axis=0) / counted.sum(axis=0)
