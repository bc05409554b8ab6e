"""The one form that every data set takes: images with labels, in three splits. NumPy only."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator

import numpy as np

from tfpipe.config import DataConfig, Reading
from tfpipe.data import scaling
from tfpipe.data.fingerprint import Part, fingerprint
from tfpipe.data.rows import blocks, chosen
from tfpipe.data.scaling import Scaling
from tfpipe.exceptions import DataError

BLOCK_BYTES = 8 << 20
# What rounding to float32 may be of a column's standard deviation.
_MOST_LOST = 0.1
# A column that varies by less, relative to its mean, is a constant that float64 has rounded.
_LEAST_VARIATION = 1e-12
_SMALLEST, _LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


@dataclasses.dataclass(frozen=True, eq=False, init=False)
class Examples:
    """N images with their labels: rows of an array that may hold the images of other splits too.

    Attributes:
      stored: `[M, ...]`, finite in these rows; the shape of one image is free (`[H, W]`, `[H, W, C]`, `[D]`). uint8,
        float16 or float32; a memory map stays one, and may then be float64 or of another byte order as well.
      rows: `[N]` int64: the numbers of these examples in `stored`, ascending, none twice; N is 0 for no examples.
      labels: `[N]` int32, the numbers of their classes, at least 0.
      name: what error messages call these examples, e.g. the file they come from.
      weights: `[N]` float64, finite, at least 0: what each example counts in the cost; None: 1.
      groups: `[N]` int64: examples of equal numbers are one group, in all splits of a data set; None: each is its own.
    """

    stored: np.ndarray
    rows: np.ndarray
    labels: np.ndarray
    name: str
    weights: np.ndarray | None
    groups: np.ndarray | None

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        name: str = "examples",
        *,
        weights: np.ndarray | None = None,
        groups: np.ndarray | None = None,
    ):
        """All of `images`, `[N, ...]` uint8 or floating point, with `labels`, `[N]` integers.

        float64 becomes float32 here, or when a minibatch is fetched from a memory map. `weights` are `[N]` numbers,
        at least 0, one of them above 0; `groups` are `[N]` integers.

        Raises:
          DataError: they do not fit together or hold values that cannot be used.
        """
        stored = _checked_images(np.asanyarray(images), name)
        n_images = len(stored)
        self._fill(
            stored,
            np.arange(n_images),
            _checked_labels(np.asarray(labels), n_images, name),
            name,
            None if weights is None else checked_weights(np.asarray(weights), n_images, name),
            None if groups is None else checked_groups(np.asarray(groups), n_images, name),
        )

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def images(self) -> np.ndarray:
        """The images of these examples, `[N, ...]`: a view of `stored` if the rows are consecutive, else a copy."""
        return chosen(self.stored, self.rows)

    def blocks(self, most_bytes: int = BLOCK_BYTES, itemsize: int | None = None) -> Iterator[np.ndarray]:
        """The images in pieces `[n, ...]`, from the first to the last, without having all of them in memory.

        Args:
          most_bytes: what a piece takes at most, if it is more than a single image.
          itemsize: the bytes of a value, where the pieces are to be converted; None: as it is stored.
        """
        return blocks(self.stored, self.rows, most_bytes, itemsize or self.stored.itemsize)

    def value_range(self) -> tuple[float, float]:
        """The least and the largest value of the images. There must be one."""
        ranges = [(block.min().item(), block.max().item()) for block in self.blocks()]
        return min(low for low, _ in ranges), max(high for _, high in ranges)

    def take(self, numbers: np.ndarray) -> "Examples":
        """Some of these examples. No image is copied.

        Args:
          numbers: `[n]` integers in [0, N): the places of the wanted examples among these, ascending, none twice;
            `[]` for no examples.

        Raises:
          DataError: the numbers are others.
        """
        numbers = np.asarray(numbers)
        if numbers.shape == (0,):  # Of `[]` NumPy makes float64.
            numbers = np.arange(0)
        expected = f"expected integers from 0 to {len(self) - 1}, ascending, none twice"
        if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
            raise DataError(f"{self.name}: {numbers.dtype} {numbers.shape} as numbers of examples; {expected}")
        wrong = (numbers < 0) | (numbers >= len(self))
        wrong[1:] |= numbers[1:] <= numbers[:-1]
        if wrong.any():
            place = int(np.argmax(wrong))
            before = f" after {numbers[place - 1]}" * bool(place)
            raise DataError(f"{self.name}: {numbers[place]}{before} as number of an example; {expected}")
        part = object.__new__(Examples)  # Checked already: the images may be larger than memory.
        weights, groups = (None if of is None else of[numbers] for of in (self.weights, self.groups))
        part._fill(self.stored, self.rows[numbers], self.labels[numbers], self.name, weights, groups)
        return part

    def joined(self, other: "Examples") -> "Examples":
        """These examples and others of the same form; where both are rows of one array, no image is copied."""
        if self.stored is other.stored:
            stored, rows = self.stored, np.concatenate([self.rows, other.rows])
        else:
            stored = np.concatenate([self.images, other.images])
            rows = np.arange(len(stored))
        order = np.argsort(rows, kind="stable")

        def both(
            ours: np.ndarray | None, theirs: np.ndarray | None, otherwise: Callable[["Examples"], np.ndarray]
        ) -> np.ndarray | None:
            if ours is None and theirs is None:
                return None
            parts = [otherwise(part) if of is None else of for of, part in ((ours, self), (theirs, other))]
            return np.concatenate(parts)[order]

        # Who has no group is one of its own.
        used = max((int(part.groups.max()) for part in (self, other) if part.groups is not None), default=0)
        groups = both(self.groups, other.groups, lambda part: used + 1 + np.arange(len(part)))
        weights = both(self.weights, other.weights, lambda part: np.ones(len(part)))
        examples = object.__new__(Examples)
        labels = np.concatenate([self.labels, other.labels])[order]
        examples._fill(stored, rows[order], labels, self.name, weights, groups)
        return examples

    def annotated(self, weights: np.ndarray | None, groups: np.ndarray | None) -> "Examples":
        """The same examples with what `checked_weights` and `checked_groups` gave; None: with what they have."""
        examples = object.__new__(Examples)
        weights = self.weights if weights is None else weights
        groups = self.groups if groups is None else groups
        examples._fill(self.stored, self.rows, self.labels, self.name, weights, groups)
        return examples

    def _fill(self, *values: object) -> None:
        for field, value in zip(dataclasses.fields(self), values, strict=True):
            object.__setattr__(self, field.name, value)


def _checked_images(images: np.ndarray, name: str) -> np.ndarray:
    if images.ndim < 2 or images.size == 0:
        raise DataError(f"{name}: images of shape {images.shape}; expected [N, ...] with at least one pixel each")
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f":
        raise DataError(f"{name}: images of type {images.dtype}; expected uint8 or floating point")
    if images.dtype.itemsize >= 8 and images.ndim == 2:
        _check_float32_tells_apart(images, name)
    stays = images.dtype.itemsize <= 8 if isinstance(images, np.memmap) else images.dtype in (np.float16, np.float32)
    if not stays:
        with np.errstate(over="ignore"):  # What does not fit float32 becomes infinite, and is named below.
            images = images.astype(np.float32)
    start = 0
    for block in blocks(images, np.arange(len(images)), BLOCK_BYTES, images.itemsize):
        with np.errstate(over="ignore"):
            finite = np.isfinite(np.asarray(block, np.float32)).reshape(len(block), -1).all(axis=1)
        if not finite.all():
            row = start + int(np.argmin(finite))
            raise DataError(f"{name}: image {row} holds a value that is not finite (NaN or infinity)")
        start += len(block)
    return images


def _check_float32_tells_apart(rows: np.ndarray, name: str) -> None:
    """Raises DataError for a column of which float32, in which rows are held, would leave next to nothing."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation = scaling.moments(
            blocks(rows, np.arange(len(rows)), BLOCK_BYTES, np.dtype(np.float64).itemsize)
        )
        step = np.spacing(np.abs(mean).astype(np.float32))
    lost = (step > _MOST_LOST * deviation) & (deviation > _LEAST_VARIATION * np.abs(mean))
    if lost.any():
        column = int(np.argmax(lost))
        raise DataError(
            f"{name}: column {column} lies at {mean[column]:.10g} varying by {deviation[column]:.3g}, which float32, in"
            " which rows are held, cannot tell apart; take the mean off beforehand, or drop the column"
        )


def _checked_labels(labels: np.ndarray, n_images: int, name: str) -> np.ndarray:
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise DataError(f"{name}: labels of shape {labels.shape} and type {labels.dtype}; expected [N] integers")
    if len(labels) != n_images:
        raise DataError(f"{name}: {n_images} images but {len(labels)} labels; expected as many")
    wrong = (labels < 0) | (labels > np.iinfo(np.int32).max)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(f"{name}: label {labels[row]} of example {row} is out of range; expected 0 or more")
    return labels.astype(np.int32, copy=False)


def checked_weights(weights: np.ndarray, n_rows: int, name: str) -> np.ndarray:
    """`[N]` float64. DataError unless they can be what N = `n_rows` examples count."""
    expected = "expected a finite number of at least 0 for each"
    if weights.dtype.kind not in "biuf" or weights.shape != (n_rows,):
        found = f"weights of shape {weights.shape} and type {weights.dtype} for {n_rows} examples"
        raise DataError(f"{name}: {found}; expected [{n_rows}] numbers")
    with np.errstate(over="ignore"):
        weights = weights.astype(np.float64)
    wrong = ~(np.isfinite(weights) & (weights >= 0))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(f"{name}: weight {weights[row]:g} of example {row}; {expected}")
    if not weights.any():
        raise DataError(f"{name}: the weight of every example is 0; {expected}, and one above 0")
    return weights


def checked_groups(groups: np.ndarray, n_rows: int, name: str) -> np.ndarray:
    """`[N]` int64. DataError unless they can be numbers of groups of N = `n_rows` examples."""
    if groups.dtype.kind not in "iu" or groups.shape != (n_rows,):
        found = f"groups of shape {groups.shape} and type {groups.dtype} for {n_rows} examples"
        raise DataError(f"{name}: {found}; expected [{n_rows}] integers")
    return groups.astype(np.int64)  # Of uint64 other numbers become of large ones, as different from each other.


@dataclasses.dataclass(frozen=True, eq=False)
class Splits:
    """A data set, divided.

    Attributes:
      train, validation, test: examples with images of one shape and type, and labels in `[0, K)`; there may be no test
        examples.
      class_names: the K >= 2 classes, by number: different texts that a model file can hold.
      pixel_max: images are divided by it before they reach the model; above 0, and within float32.
      standardization: takes the place of pixel_max if there is one; of D finite numbers.
      config: how the data was loaded, if it was loaded, with absolute paths.
      white: the value of a white pixel, where it is another than pixel_max; see `white_pixel`.
      reading: how pictures in files became the images, which a model does with others too; None: they were no pictures.
      notes: what is to be said of how the data was understood, a line each.

    Raises:
      DataError: on construction, when the splits do not fit together, there are no examples for training or for
        validation, no training example has a weight above 0, one group is in two splits, or a model file could not hold
        what they say.
    """

    train: Examples
    validation: Examples
    test: Examples
    class_names: tuple[str, ...]
    pixel_max: float = 1.0
    standardization: Scaling | None = None
    config: DataConfig | None = None
    white: float | None = None
    reading: Reading | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        name = self.train.name
        object.__setattr__(self, "class_names", _checked_class_names(self.class_names, name))
        for field in ("pixel_max", "white"):
            value = getattr(self, field)
            if value is not None and not (_is_number(value) and _SMALLEST <= value <= _LARGEST):
                raise DataError(f"{name}: {field} is {value}; expected a number above 0 that float32 can hold")
        if self.standardization is not None:
            _check_standardization(self.standardization, self.n_in, name)
        for what, split in (("training", self.train), ("validation", self.validation)):
            if not len(split):
                raise DataError(f"{name}: no {what} examples; expected at least one; those for the test may be none")
        for split in (self.train, self.validation, self.test):
            check_same_form(self.train, split)
            check_labels_below(split, len(self.class_names))
        if self.train.weights is not None and not self.train.weights.any():
            of_weights = (self.config and self.config.sample_weight) or name
            raise DataError(f"{of_weights}: the weight of every training example is 0; expected one above 0 at least")
        _check_groups_apart({"train": self.train, "validation": self.validation, "test": self.test})

    @property
    def scaling(self) -> Scaling:
        """How images become inputs of the model."""
        return self.standardization or scaling.by_pixel_max(self.pixel_max)

    @property
    def scales(self) -> tuple[str, ...]:
        """The scales to choose among, where a solver tries several: `none`, as `scaling` gives them, and `columns`.

        Those that were asked for; else one for pictures, of which columns do not differ much, and both for rows of
        features.
        """
        if self.standardization is not None:
            return ("columns",)
        if self.config is not None and self.config.standardize is not None:
            return self.config.standardize
        return ("none",) if len(self.image_shape) > 1 else ("none", "columns")

    @property
    def taken(self) -> tuple[str, ...]:
        """The names of the splits that the data did not bring: rows of the array that has the training examples."""
        others = {"validation": self.validation, "test": self.test}
        return tuple(name for name, split in others.items() if len(split) and split.stored is self.train.stored)

    @functools.cached_property
    def fingerprint(self) -> str:
        """64 hexadecimal digits: the same for the same examples in the same order, scaled alike.

        Others have another one, but for changes in arrays beyond 256 MiB, of which a part is hashed.
        """
        parts = []
        for split in (self.train, self.validation, self.test):
            parts += [Part(split.stored, split.rows), Part(split.labels)]
            parts += [Part(of_each) for of_each in (split.weights, split.groups) if of_each is not None]
        shift = np.zeros(self.n_in) if self.scaling.shift is None else self.scaling.shift
        parts += [Part(shift), Part(np.atleast_1d(self.scaling.factor))]
        return fingerprint("\n".join(self.class_names), parts)

    @property
    def form(self) -> str:
        """Shape, type and scaling of the images, in words."""
        shape = " x ".join(map(str, self.image_shape))
        scaled = "standardized" if self.standardization else f"divided by {self.pixel_max:g}"
        return f"{shape} {self.train.stored.dtype}, {scaled}"

    @property
    def white_pixel(self) -> float:
        """The value of a white pixel in the images as they are stored: 255 in bytes; black is 0."""
        return self.pixel_max if self.white is None else self.white

    @property
    def image_shape(self) -> tuple[int, ...]:
        return self.train.stored.shape[1:]

    @property
    def n_in(self) -> int:
        """D, the number of inputs: the pixels (times channels) of an image."""
        return int(np.prod(self.image_shape))

    @property
    def n_out(self) -> int:
        """K, the number of classes."""
        return len(self.class_names)


def _checked_class_names(class_names: tuple[str, ...], name: str) -> tuple[str, ...]:
    """Plain texts. DataError unless they are such as a model file gives back."""
    if isinstance(class_names, str):  # Whose letters would be the names.
        raise DataError(f"{name}: class_names is {class_names!r:.200}; expected a name for each class, in a tuple")
    names = tuple(class_names)
    if len(names) < 2:
        raise DataError(f"{name}: {len(names)} class; expected at least two")
    seen: set[str] = set()
    for class_name in names:
        if not isinstance(class_name, str):
            raise DataError(f"{name}: a class name of type {type(class_name).__name__}; expected text")
        shown = f"class name {class_name!r:.200}"
        if class_name.encode(errors="ignore").decode() != class_name:  # Half of a surrogate pair.
            raise DataError(f"{name}: {shown} is no text; expected Unicode characters")
        if class_name.endswith("\0"):
            raise DataError(f"{name}: {shown} ends in NUL, which NumPy's text arrays drop; expected another ending")
        if class_name in seen:
            raise DataError(f"{name}: {shown} is there twice; expected a name of its own for each class")
        seen.add(class_name)
    return tuple(map(str, names))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _check_standardization(standardization: Scaling, n_in: int, name: str) -> None:
    for field, values in standardization._asdict().items():
        if values is None:
            continue
        shapes = ((n_in,), ()) if field == "factor" else ((n_in,),)
        with np.errstate(over="ignore"):  # Training computes in float32.
            if np.shape(values) not in shapes or not np.isfinite(np.asarray(values, np.float32)).all():
                raise DataError(f"{name}: {field} of the standardization; expected [{n_in}] finite numbers")


def _check_groups_apart(splits: dict[str, Examples]) -> None:
    """Raises DataError if a group is in two of the splits."""
    for (first, one), (second, other) in itertools.combinations(splits.items(), 2):
        if one.groups is None or other.groups is None:
            continue
        both = np.isin(one.groups, other.groups)
        if both.any():
            row = int(np.argmax(both))
            place = int(np.argmax(other.groups == one.groups[row]))
            raise DataError(
                f"{other.name}: example {place} of the {second} split is of one group with example {row} of the "
                f"{first} split; expected each group in one split"
            )


def check_same_form(first: Examples, other: Examples) -> None:
    """Raises DataError unless both hold images of one shape and type."""
    for what in ("shape", "type"):
        ours, theirs = (e.stored.shape[1:] if what == "shape" else e.stored.dtype for e in (first, other))
        if ours != theirs:
            raise DataError(f"{other.name}: images of {what} {theirs}, but {first.name} has {what} {ours}")


def check_labels_below(examples: Examples, n_classes: int) -> None:
    """Raises DataError unless every label is the number of one of `n_classes` classes."""
    if not len(examples):
        return
    row = int(np.argmax(examples.labels))
    if examples.labels[row] >= n_classes:
        raise DataError(
            f"{examples.name}: label {examples.labels[row]} of example {row} is out of range; "
            f"the training labels are 0 to {n_classes - 1}"
        )
