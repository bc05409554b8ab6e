"""What memory a run takes, estimated before it has taken any; and whether that is there.

The factors were fitted to the peaks of processes: docs/performance.md has estimates beside what was measured, and
`experiments/measure_memory.py` measures it again.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from tfpipe.compute.device import Device
from tfpipe.config import TrainConfig, known
from tfpipe.data import Splits
from tfpipe.exceptions import ConfigError
from tfpipe.memory import available_memory
from tfpipe.monitor import warn
from tfpipe.pipeline import residency
from tfpipe.pipeline.spans import SPAN_BYTES, SPAN_KEPT_BYTES
from tfpipe.solvers import lbfgs, row_space
from tfpipe.solvers.base import Solver
from tfpipe.solvers.optimum import sample_rows
from tfpipe.solvers.passes import FEWEST_IN_A_MINIBATCH, LOGITS_BYTES, MINIBATCH_BYTES
from tfpipe.statistics.figures import MOST_SCORES

_MIB = 1 << 20
# XLA, its programs, tf.data and matplotlib, beyond the import of TensorFlow.
_BASE = 210 * _MIB
# So much is never refused: the import of TensorFlow, which is over, took twice as much.
_ALWAYS = 256 * _MIB
# By so much an estimate may be too large.
_TOO_LARGE = 1.3
_FLOAT32, _FLOAT64 = 4, 8
# Labels, weights, and the numbers of rows in their order.
_ROW = 80
_FEWEST = 10
# Pieces of probabilities, and draws of the bootstrap: see `model.tested` and `statistics.intervals`.
_PIECE, _DRAWS = 64 * _MIB, 500


class Sizes(NamedTuple):
    """Of the data.

    Attributes:
      rows: for training, validation and test together.
      test: of them for test.
      n_in: D.
      n_out: K.
      copied: bytes of images of which a copy is made.
      travelling: bytes of an image that travels with its span, for memory cannot hold the file; 0: none does.
      in_span: whether a search goes down in the span of the rows.
    """

    rows: int
    test: int
    n_in: int
    n_out: int
    copied: int = 0
    travelling: int = 0
    in_span: bool = False

    @classmethod
    def of(cls, splits: Splits) -> "Sizes":
        """Those of a data set, as SGD takes it."""
        parts = splits.train, splits.validation, splits.test
        travelling = _FLOAT32 * splits.n_in if residency.is_too_large(splits.train) else 0
        copied = residency.copied_bytes(parts)
        return cls(sum(map(len, parts)), len(splits.test), splits.n_in, splits.n_out, copied, travelling)

    @classmethod
    def of_search(
        cls, splits: Splits, *, joins: bool, in_span: bool, drawn: float = 0.0, share: float = 1.0
    ) -> "Sizes":
        """Those of a data set, as a search takes it, in a process that has this `share` of the rows that are fitted.

        What it `joins` to fit it again, and what is `drawn`, is copied, and once more, its share, for TensorFlow.
        """
        parts = [part for part in (splits.train, splits.validation) if len(part)]
        joins &= parts[0].stored is not parts[-1].stored
        own, size = cls.of(splits), sum(len(part) * part.stored[0].nbytes for part in parts)
        left = (1 - share) * residency.copied_bytes(parts)  # To other processes; the test is the chief's alone.
        copied = int(own.copied - left + ((1 + share) * joins + 2 * drawn) * size)
        return own._replace(copied=copied, in_span=in_span)

    def head_bytes(self, pairs: int) -> int:
        """Bytes that a head of a search with so many pairs of changes takes, and its evaluation."""
        if self.in_span:
            return row_space.head_bytes(self.rows - self.test, self.n_in, self.n_out, pairs)
        return lbfgs.head_bytes(self.n_out * (self.n_in + 1), pairs)

    @property
    def of_data(self) -> int:
        """Bytes that any run takes beside its training."""
        return _BASE + self.copied + _ROW * self.rows

    def of_spans(self, used: int = 1) -> int:
        """Bytes of spans: `used` side by side, one ahead, and one on its way."""
        return (used + 2) * min(SPAN_BYTES, self.travelling * self.rows)

    @property
    def of_test(self) -> int:
        """Bytes that the figures of the test take at the end: probabilities, pieces of them, draws of the bootstrap."""
        scores = _FLOAT64 * self.test * self.n_out
        kept = scores if self.test * self.n_out <= MOST_SCORES else 0
        return kept + 3 * min(scores, _PIECE) + 2 * _FLOAT64 * _DRAWS * self.n_out


def of_sgd(sizes: Sizes, n_heads: int, batch_size: int, programs: int, itemsize: int = _FLOAT32, slots: int = 0) -> int:
    """Bytes that a run of SGD takes at most, beyond the data and the import of TensorFlow.

    W and b as they are, their gradients, as they become, as they are validated, at their best and in a state, and as
    several validations of a span find them, in a loop, after it, and while the next one trains; logits of a minibatch
    and of one that validates, probabilities and errors; inputs of a minibatch.

    Args:
      sizes: of the data.
      n_heads: H.
      batch_size: B.
      programs: that train groups of heads side by side.
      itemsize: bytes of a number of W.
      slots: numbers that the solver remembers of a head.
    """
    parameters = n_heads * (sizes.n_out * (sizes.n_in + 1) + slots)
    logits = n_heads * sizes.n_out * batch_size
    inputs = min(programs, n_heads) * batch_size * sizes.n_in
    training = itemsize * (8 * logits + 3 * inputs)
    # Of larger ones a span has a single validation, and keeps nothing.
    kept = 3 * min(SPAN_KEPT_BYTES, 64 * itemsize * parameters) if 4 * itemsize * parameters < SPAN_KEPT_BYTES else 0
    return sizes.of_data + sizes.of_spans() + 8 * itemsize * parameters + kept + max(training, sizes.of_test)


def of_search(sizes: Sizes, n_heads: int, n_columns: int, pairs: int, programs: int) -> int:
    """Bytes that a search takes at most, beyond the data and the import of TensorFlow.

    Of heads of P numbers in float64 m pairs of changes, the sums of sixteen blocks of a pass, and what else is on its
    way; the sample, and what its metric takes, or a minibatch of each program with its logits; weights and losses of
    each row. In the span of the rows what `row_space` says of a head, the bases of two scales, and pieces of columns.

    Args:
      sizes: of the data.
      n_heads: H, that are measured side by side.
      n_columns: C, of weights.
      pairs: m.
      programs: that make a pass side by side.
    """
    n_in, n_out = sizes.n_in, sizes.n_out
    fitted = sizes.rows - sizes.test
    if sizes.in_span:
        heads, sample = n_heads * sizes.head_bytes(pairs) + 50 * _FLOAT64 * n_out * (n_in + 1), 0
        metric = 2 * n_columns * _FLOAT64 * fitted**2 + programs * row_space.piece_bytes(fitted, n_in)
    else:
        few = min(fitted, sample_rows(n_in, n_out))
        heads = ((2 * pairs + 95) * n_heads + 80) * _FLOAT64 * n_out * (n_in + 1)
        sample = _FLOAT64 * few * n_in
        metric = _FLOAT64 * (few * (3 * n_in + 5 * n_out) + 4 * min(few, n_in) ** 2)
    few = max(FEWEST_IN_A_MINIBATCH, MINIBATCH_BYTES // (_FLOAT32 * n_in))
    passing = 3 * programs * (min(LOGITS_BYTES, _FLOAT64 * few * n_heads * n_out) + _FLOAT64 * few * n_in)
    of_rows = sizes.rows * (4 * _FLOAT64 * n_columns + 5 * _FLOAT32 * n_heads)
    searching = heads + sample + max(metric, passing) + of_rows
    return sizes.of_data + sizes.of_spans(programs) + max(searching, sizes.of_test)


class Way(NamedTuple):
    """Another run, which takes less.

    Attributes:
      option: the flag that makes it another.
      value: which that has now.
      words: what to give instead.
      taken: bytes.
    """

    option: str
    value: object
    words: str
    taken: int


def check(taken: int, ways: Sequence[Way]) -> None:
    """Looks whether there is the memory that a run takes; where that is in doubt it warns.

    Args:
      taken: bytes, beyond what the process holds.
      ways: other runs, at least one; an error names the first that fits.

    Raises:
      ConfigError: there is not so much.
    """
    free = max(available_memory(), _ALWAYS)
    if taken <= free:
        return
    problem = f"the run takes about {_gib(taken)} of memory, and {_gib(free)} are free"
    if taken <= _TOO_LARGE * free:
        warn(f"{problem}: it may end for lack of it")
        return
    if way := next((way for way in ways if way.taken <= free), None):
        raise ConfigError(way.option, way.value, f"{problem}; {way.words} would take {_gib(way.taken)}")
    raise ConfigError(ways[-1].option, ways[-1].value, f"{problem}; it takes fewer rows, or more memory")


def check_sgd(solver: Solver, splits: Splits, device: Device, itemsize: int) -> None:
    """As `check`, for SGD or what takes its place, on a CPU: what a GPU holds is not known here.

    Args:
      solver: of the run.
      splits: its data.
      device: where it computes.
      itemsize: bytes of a number of W.
    """
    if device.is_gpu:
        return
    sizes, config, n_heads = Sizes.of(splits), solver.config, len(solver.settings)
    slots = sum(array.size for array in solver.slots(1, splits.n_out, splits.n_in).values())

    def taken(n_heads: int, batch_size: int) -> int:
        return of_sgd(sizes, n_heads, batch_size, device.programs, itemsize, slots)

    grid = max(("learning_rate", "l2"), key=lambda name: len(getattr(config, name) or ()))
    values = f"{len(getattr(config, grid) or ())} values"
    ways = []
    # Whichever need not be divided by so much.
    for power in range(1, max(n_heads, solver.batch_size).bit_length()):
        if smaller := solver.batch_size >> power:
            ways.append(Way("batch_size", config.batch_size, f"batch_size={smaller}", taken(n_heads, smaller)))
        if fewer := n_heads >> power:
            ways.append(Way(grid, values, _heads(fewer), taken(fewer, solver.batch_size)))
    check(taken(n_heads, solver.batch_size), [*ways, *_of_fewer_columns(sizes, solver.name, device.programs)])


def search_ways(sizes: Sizes, n_folds: int, of_folds: Callable[[int], int], programs: int) -> list[Way]:
    """Searches in fewer folds, of which each takes what `of_folds` tells; and SGD."""
    fewer = [*range(n_folds - 1, 1, -1), 0] if n_folds else []
    ways = [Way("folds", n_folds, f"folds={folds}", of_folds(folds)) for folds in fewer]
    by_sgd = of_sgd(sizes, 1, known(TrainConfig().settled("sgd").batch_size), programs)
    return [*ways, Way("solver", "lbfgs", "solver=sgd", by_sgd), *_of_fewer_columns(sizes, "lbfgs", programs)]


def _of_fewer_columns(sizes: Sizes, solver: str, programs: int) -> Iterator[Way]:
    """Single heads of SGD in small minibatches."""
    for power in range(1, sizes.n_in.bit_length()):
        few = sizes._replace(n_in=sizes.n_in >> power)
        words = f"a head of sgd for {few.n_in} columns, in minibatches of {_FEWEST}"
        yield Way("solver", solver, words, of_sgd(few, 1, _FEWEST, programs))


def _heads(count: int) -> str:
    return f"{count} head{'s' * (count > 1)}"


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
