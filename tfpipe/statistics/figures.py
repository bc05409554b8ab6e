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

import numpy as np

# Whether more is better. The names of what is chosen by, and told.
RISES = {"cost": False, "error": False, "balanced_error": False, "macro_f1": True, "auc": True, "top5_error": False}
# With so few classes, most labels are among five.
FEWEST_FOR_TOP5 = 11
_TOP = 5
# Scores, examples times classes, of which `auc` is found: 1 GiB of float64.
_MOST_SCORES = 1 << 27
_CHUNK_BYTES = 32 << 20


def names(n_out: int) -> tuple[str, ...]:
    """The figures of a model of K = `n_out` classes."""
    return tuple(name for name in RISES if name != "top5_error" or n_out >= FEWEST_FOR_TOP5)


class Outcomes:
    """What a model says of n examples.

    Args:
      labels: `[n]` integers in [0, K).
      probabilities: `[n, K]` float64; rows sum to 1.
      loss: `[n]` float64, the log losses; NaN for an example that has no part in the cost. None: those of
        `probabilities`.

    Attributes:
      labels: see there.
      predicted: `[n]`, the most probable classes, of equals the first.
      wrong: `[n]` bool.
      loss: `[n]` float64; infinity where the class has probability 0.
      n_out: K.
    """

    def __init__(self, labels: np.ndarray, probabilities: np.ndarray, loss: np.ndarray | None = None):
        self.labels, self._probabilities = labels, probabilities
        self.n_out = probabilities.shape[1]
        self.predicted = probabilities.argmax(axis=1)
        self.wrong = self.predicted != labels
        self._of_label = np.take_along_axis(probabilities, labels[:, np.newaxis], axis=1)
        with np.errstate(divide="ignore"):  # A class of probability 0 costs infinitely much.
            self.loss = -np.log(self._of_label[:, 0]) if loss is None else loss

    def __len__(self) -> int:
        return len(self.labels)

    def figures(self, weights: np.ndarray | None = None) -> dict[str, float]:
        """Each figure, by its name; NaN where there is none.

        Args:
          weights: `[n]`, at least 0, one of them above; None: each counts once.
        """
        counts = np.ones((1, len(self))) if weights is None else weights[np.newaxis]
        return {name: float(values[0]) for name, values in self.drawn(counts).items()}

    def drawn(self, counts: np.ndarray) -> dict[str, np.ndarray]:
        """The figures under B weightings: `[B]` each, by name.

        Args:
          counts: `[B, n]`, how often each example counts, at least 0.
        """
        step = max(1, _CHUNK_BYTES // (8 * max(1, len(self))))
        parts = [self._drawn(counts[begin : begin + step]) for begin in range(0, len(counts), step)]
        return {name: np.concatenate([part[name] for part in parts]) for name in names(self.n_out)}

    @functools.cached_property
    def _is_outside_top(self) -> np.ndarray:
        """`[n]` bool: of equal probabilities the first classes are taken, as for the most probable one."""
        p, labels = self._probabilities, self.labels[:, np.newaxis]
        above = (p > self._of_label).sum(axis=1)
        return above + ((p == self._of_label) & (np.arange(self.n_out) < labels)).sum(axis=1) >= _TOP

    @functools.cached_property
    def _rankings(self) -> list[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
        """Of each class that occurs: its number, examples by their score, and of each of its own how many are below.

        The latter as two numbers: those with a smaller score, and those with no larger one.
        """
        if self._probabilities.size > _MOST_SCORES:
            return []
        found = []
        for k in np.unique(self.labels).tolist():
            scores = self._probabilities[:, k]
            order = np.argsort(scores, kind="stable")
            of_class = scores[self.labels == k]
            ranked = scores[order]
            found.append((k, order, np.searchsorted(ranked, of_class), np.searchsorted(ranked, of_class, side="right")))
        return found

    def _drawn(self, counts: np.ndarray) -> dict[str, np.ndarray]:
        counts = counts.astype(np.float64, copy=False)
        total = counts.sum(axis=1)
        in_cost = ~np.isnan(self.loss)
        of_class = self._by_class(counts, self.labels)
        missed = self._by_class(counts[:, self.wrong], self.labels[self.wrong])
        taken = self._by_class(counts, self.predicted)
        occurs = of_class > 0
        with np.errstate(divide="ignore", invalid="ignore"):  # NaN where nothing counts, as promised.
            found = {
                "cost": counts[:, in_cost] @ self.loss[in_cost] / counts[:, in_cost].sum(axis=1),
                "error": counts @ self.wrong / total,
                "balanced_error": _mean(missed / of_class, occurs),
                "macro_f1": _mean(2 * (of_class - missed) / (of_class + taken), occurs),
                "auc": self._auc(counts),
            }
            if self.n_out >= FEWEST_FOR_TOP5:
                found["top5_error"] = counts @ self._is_outside_top / total
        return found

    def _by_class(self, counts: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """`[B, K]`, the sums of `[B, m]` counts over the examples of each of `[m]` classes."""
        order = np.argsort(classes, kind="stable")
        found = np.zeros((len(counts), self.n_out))
        there, first = np.unique(classes[order], return_index=True)
        if len(there):
            found[:, there] = np.add.reduceat(counts[:, order], first, axis=1)
        return found

    def _auc(self, counts: np.ndarray) -> np.ndarray:
        of_classes = []
        for k, order, below, up_to in self._rankings:
            own = counts[:, self.labels == k]
            others = counts[:, order] * (self.labels[order] != k)
            sums = np.concatenate([np.zeros((len(counts), 1)), np.cumsum(others, axis=1)], axis=1)
            won = (own * (sums[:, below] + sums[:, up_to]) / 2).sum(axis=1)
            of_classes.append(won / (own.sum(axis=1) * sums[:, -1]))
        if not of_classes:
            return np.full(len(counts), np.nan)
        shares = np.stack(of_classes, axis=1)
        return _mean(shares, ~np.isnan(shares))


def _mean(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """`[B, K]` -> `[B]`, the mean of those that are counted; NaN if none is."""
    return np.where(counted, values, 0).sum(axis=1) / counted.sum(axis=1)
