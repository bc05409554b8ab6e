"""The rows of draws, and heads fitted to them: side by side in one program, or where rows are few each by one core."""

import itertools
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent import futures
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import scipy.special

from tfpipe.compute import cpu
from tfpipe.data import Examples
from tfpipe.pipeline import residency
from tfpipe.solvers.few_rows import FewRows
from tfpipe.solvers.optimum import Exactness, Optimum
from tfpipe.solvers.problem import Problems
from tfpipe.statistics.figures import RISES, Outcomes, names
from tfpipe.training.fit import Fit

_SCORE_BYTES = 256 << 20
_BLOCK_BYTES, _BLOCKS_AT_ONCE = 4 << 20, 16
# Between two questions whether a run is to end.
_LOOK_SECONDS = 5.0
Figures: TypeAlias = dict[str, Any]
Found = TypeVar("Found")


class Together(NamedTuple):
    """H draws as columns of weights of the same rows.

    Attributes:
      fit: the rows.
      heads: H.
    """

    fit: Fit
    heads: int

    def problems(self, scale: str, l2: float) -> Problems:
        """Of a head for each draw."""
        return self.fit.problems(scale, np.full(self.heads, l2), np.arange(self.heads, dtype=np.int32))

    def coordinates(self, problems: Problems, W: np.ndarray, b: np.ndarray) -> np.ndarray:
        """See `Fit.coordinates`."""
        return self.fit.coordinates(problems, W, b)

    def fit_of(self, head: int) -> Fit:
        """The rows of a head, with those of the others."""
        return self.fit


class Apart:
    """H draws of few rows, each with its own, fitted by one core.

    Args:
      fits: the rows of each.

    Attributes:
      rows: `[H]`, how many each has.
    """

    def __init__(self, fits: Sequence[Fit]):
        self._fits = fits
        self._few_rows: dict[tuple[int, str], FewRows] = {}
        self.rows = np.array([fit.n for fit in fits])

    def problems(self, scale: str, l2: float) -> Problems:
        """Of a head for each draw."""
        return Problems.joined([fit.problems(scale, [l2], np.zeros(1, np.int32)) for fit in self._fits])

    def coordinates(self, problems: Problems, W: np.ndarray, b: np.ndarray) -> np.ndarray:
        """See `Fit.coordinates`."""
        of_each = (fit.coordinates(own, W, b) for fit, own in zip(self._fits, problems.each(), strict=True))
        return np.concatenate([*of_each])

    def minimize(
        self,
        problems: Problems,
        scale: str,
        start: np.ndarray,
        exactness: Exactness,
        pairs: int,
        stops: Callable[[], bool],
    ) -> Optimum | None:
        """From `start`, `[H, K, D + 1]`: see `optimum.minimize`.

        `stops` is asked every few seconds; if it says so, nothing is found.
        """
        each, ended = [*problems.each()], threading.Event()

        def minimized(head: int) -> Optimum:
            rows = self._few_rows.get((head, scale))
            if rows is None:
                rows = self._few_rows[head, scale] = self._fits[head].few_rows(each[head])
            return rows.minimize(each[head], start[[head]], exactness, pairs, ended.is_set)

        with cpu.a_thread_a_core() as threads:
            calls = [threads.submit(minimized, head) for head in range(len(each))]
            try:
                while not ended.is_set() and futures.wait(calls, _LOOK_SECONDS).not_done:
                    if stops():
                        ended.set()
            except BaseException:  # As Ctrl-C is: the threads outlive it.
                ended.set()
                raise
            found = [call.result() for call in calls]
        return None if ended.is_set() else Optimum(*map(np.concatenate, zip(*found, strict=True)))

    def fit_of(self, head: int) -> Fit:
        """The rows of a head."""
        return self._fits[head]


def figures(
    fits: Together | Apart,
    problems: Problems,
    v: np.ndarray,
    heads: list[int],
    examples: Examples,
    some: Collection[str],
) -> list[Figures]:
    """Some figures of some heads of `fits`, all of which are at v, `[H, K, D + 1]`, on examples.

    Those of classes that a head leaves out cost nothing.
    """
    models = [fits.fit_of(head).raw(problems.take(np.array([head])), v[[head]]) for head in heads]
    there, labels, n_out = problems.there[heads], examples.labels, v.shape[1]
    wanted = [name for name in names(n_out) if name in some]

    def of_head(logits: np.ndarray, there: np.ndarray) -> Figures:
        p = scipy.special.softmax(logits, axis=1)
        with np.errstate(divide="ignore"):
            loss = np.where(there[labels], -np.log(p[np.arange(len(p)), labels]), np.nan)
        return dict.fromkeys(RISES, np.nan) | Outcomes(labels, p, loss).figures(examples.weights, wanted)

    step = max(1, _SCORE_BYTES // (8 * n_out * max(1, len(labels))))
    found = []
    for begin in range(0, len(models), step):
        W, b = (np.concatenate(parts, axis=-1) for parts in zip(*models[begin : begin + step], strict=True))
        z = _logits(W, b, examples).reshape(len(labels), -1, n_out).swapaxes(0, 1)
        found += _by_all_cores(of_head, z, there[begin : begin + step])
    return found


def _logits(W: np.ndarray, b: np.ndarray, examples: Examples) -> np.ndarray:
    def of_block(images: np.ndarray) -> np.ndarray:
        return residency.rounded(images).reshape(len(images), -1).astype(np.float64) @ W + b

    blocks, found = examples.blocks(_BLOCK_BYTES, np.dtype(np.float64).itemsize), []
    while some := [*itertools.islice(blocks, _BLOCKS_AT_ONCE)]:
        found += _by_all_cores(of_block, some)
    return np.concatenate(found)


def _by_all_cores(function: Callable[..., Found], *arguments: Iterable[Any]) -> list[Found]:
    with cpu.a_thread_a_core() as threads:
        return list(threads.map(function, *arguments))
