"""The one form that every data set takes: images with labels, in three splits. NumPy only."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tfpipe.config import Column, DataConfig, Reading
from tfpipe.data import scaling
from tfpipe.data.checked import (
    WHOLE,
    Share,
    checked_array,
    checked_groups,
    checked_images,
    checked_labels,
    checked_weights,
    noun,
)
from tfpipe.data.class_names import composed
from tfpipe.data.fingerprint import Part, fingerprint
from tfpipe.data.rows import BLOCK_BYTES, blocks, chosen
from tfpipe.data.scaling import Scaling
from tfpipe.exceptions import DataError, enumeration
from tfpipe.log import log

if TYPE_CHECKING:
    from tfpipe.data.duplicates import Search

# Stands for a default that depends on other fields.
_BY_TYPE: Any = None
# Of gray pictures, coloured ones, and those with transparency.
_CHANNELS = (1, 3, 4)
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
      class_names: by number, where the labels were text or below 0; None: the numbers say which classes they are.
      files: `[N]` text, the path of the file that each image is from; None: they have no files of their own.
      listed: `[N]` int64, the number of the row that each example has where people list them, which counts rows that
        are no examples; None: those in `stored`, `rows`.
    """

    stored: np.ndarray
    rows: np.ndarray
    labels: np.ndarray
    name: str
    weights: np.ndarray | None
    groups: np.ndarray | None
    class_names: tuple[str, ...] | None
    files: np.ndarray | None
    listed: np.ndarray | None

    def __init__(
        self,
        images: npt.ArrayLike,
        labels: npt.ArrayLike,
        name: str = "examples",
        *,
        weights: np.ndarray | None = None,
        groups: np.ndarray | None = None,
        files: Sequence[str] | None = None,
        listed: np.ndarray | None = None,
        share: Share = WHOLE,
    ):
        """All of `images`, `[N, ...]` uint8 or floating point, with `labels`.

        float64 becomes float32 here, or when a minibatch is fetched from a memory map; booleans and other integers
        become float32 here. Labels are integers, floating-point numbers that are whole, or text, `[N]` or `[N, 1]`; or
        one-hot rows `[N, K]`. Integers from 0 on are the numbers of their classes; text, and integers of which one is
        below 0, are their names. `weights` are `[N]` numbers, at least 0, one of them above 0; `groups` are `[N]`
        integers. All of them may be nested lists. `files` are N texts, and `listed` `[N]` int64. Of a mapped file this
        looks for values that cannot be used in the `share` of this process.

        Raises:
          DataError: they do not fit together or hold values that cannot be used.
        """
        stored = checked_images(checked_array(images, "images", name), name, share)
        n_images = len(stored)
        numbers, class_names = checked_labels(checked_array(labels, "labels", name), stored, name)
        self._fill(
            stored,
            np.arange(n_images),
            numbers,
            name,
            None if weights is None else checked_weights(checked_array(weights, "weights", name), n_images, name),
            None if groups is None else checked_groups(checked_array(groups, "groups", name), n_images, name),
            class_names,
            None if files is None else np.array(files, object),
            listed,
        )
        if files is not None and len(files) != n_images:
            raise DataError(f"{name}: {len(files)} files for {n_images} images; expected one for each")

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
        weights, groups, files, listed = (
            None if of is None else of[numbers] for of in (self.weights, self.groups, self.files, self.listed)
        )
        labels = self.labels[numbers]
        part._fill(self.stored, self.rows[numbers], labels, self.name, weights, groups, self.class_names, files, listed)
        return part

    def joined(self, other: "Examples") -> "Examples":
        """These examples and others of the same form; where both are rows of one array, no image is copied.

        Raises:
          DataError: the numbers of their labels stand for other classes.
        """
        if self.class_names != other.class_names:
            raise DataError(f"{other.name}: other class names than {self.name}; join them before they become Examples")
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
        files = both(self.files, other.files, lambda part: np.full(len(part), "", object))
        listed = both(self.listed, other.listed, lambda part: part.rows)
        examples = object.__new__(Examples)
        labels = np.concatenate([self.labels, other.labels])[order]
        examples._fill(stored, rows[order], labels, self.name, weights, groups, self.class_names, files, listed)
        return examples

    def named(self, name: str, files: np.ndarray | None) -> "Examples":
        """The same examples under another name, and with other names of their files, as the attributes have them."""
        return self._replaced(name=name, files=files)

    def annotated(self, weights: np.ndarray | None, groups: np.ndarray | None) -> "Examples":
        """The same examples with what `checked_weights` and `checked_groups` gave; None: with what they have."""
        given = {"weights": weights, "groups": groups}
        return self._replaced(**{field: values for field, values in given.items() if values is not None})

    def numbered(self, class_names: tuple[str, ...]) -> "Examples":
        """The same examples with labels that are places in `class_names`.

        Raises:
          DataError: one of these is of a class that has another name.
        """
        if self.class_names is None:
            return self
        number_of = {composed(name): number for number, name in enumerate(class_names)}
        number_of |= {name: number for number, name in enumerate(class_names)}
        places = np.array([number_of.get(n, number_of.get(composed(n), -1)) for n in self.class_names], np.int32)
        labels = places[self.labels]
        if (labels < 0).any():
            row = int(np.argmin(labels))
            label, known = self.class_names[self.labels[row]], enumeration(class_names, 5)
            raise DataError(f"{self.name}: label {label!r} of example {row}; the classes are {known}")
        return self._replaced(labels=labels, class_names=None)

    def _replaced(self, **values: object) -> "Examples":
        examples = object.__new__(Examples)  # Checked already.
        examples._fill(*(values.get(field.name, getattr(self, field.name)) for field in dataclasses.fields(self)))
        return examples

    def _fill(self, *values: object) -> None:
        for field, value in zip(dataclasses.fields(self), values, strict=True):
            object.__setattr__(self, field.name, value)


@dataclasses.dataclass(frozen=True, eq=False)
class Splits:
    """A data set, divided.

    Attributes:
      train, validation, test: examples with images of one shape and type, and labels in `[0, K)`, or with class names
        of their own that are among those below; there may be no test examples.
      class_names: the K >= 2 classes, by number: different texts that a model file can hold.
      pixel_max: images are divided by it before they reach the model; above 0, and within float32. By default 255 for
        bytes, and 1 for others.
      standardization: takes the place of pixel_max if there is one; of D finite numbers.
      config: how the data was loaded, if it was loaded, with absolute paths.
      white: the value of a white pixel, where it is another than `white_pixel` takes it to be.
      reading: how pictures in files became the images, which a model does with others too; None: they were no pictures.
      notes: what is to be said of how the data was understood, a line each.
      columns: what the D numbers of a row of features are, by which a model finds them in other tables; None: they have
        no names.
      brought: the names of the splits that the data says, also where they are rows of one array with the training
        examples.

    Raises:
      DataError: on construction, when the splits do not fit together, there are no examples for training or for
        validation, no training example has a weight above 0, one group is in two splits, or a model file could not hold
        what they say.
    """

    train: Examples
    validation: Examples
    test: Examples
    class_names: tuple[str, ...]
    pixel_max: float = _BY_TYPE
    standardization: Scaling | None = None
    config: DataConfig | None = None
    white: float | None = None
    reading: Reading | None = None
    notes: tuple[str, ...] = ()
    columns: tuple[Column, ...] | None = None
    brought: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        name = self.train.name
        object.__setattr__(self, "class_names", _checked_class_names(self.class_names, name))
        for part in ("train", "validation", "test"):
            object.__setattr__(self, part, getattr(self, part).numbered(self.class_names))
        if self.pixel_max is None:
            object.__setattr__(self, "pixel_max", 255.0 if self.train.stored.dtype == np.uint8 else 1.0)
            warn_of_white(self.train)
        for field in ("pixel_max", "white"):
            value = getattr(self, field)
            if value is not None and not (_is_number(value) and _SMALLEST <= value <= _LARGEST):
                raise DataError(f"{name}: {field} is {value}; expected a number above 0 that float32 can hold")
        if self.standardization is not None:
            _check_standardization(self.standardization, self.n_in, name)
        self._check_enough()
        for split in (self.train, self.validation, self.test):
            check_same_form(self.train, split)
            check_labels_below(split, len(self.class_names))
        _check_groups_apart({"train": self.train, "validation": self.validation, "test": self.test})

    def _check_enough(self) -> None:
        """Raises DataError unless there are examples for training, of which one has a weight, and for validation."""
        name = self.train.name
        for what, split in (("training", self.train), ("validation", self.validation)):
            if not len(split):
                raise DataError(f"{name}: no {what} examples; expected at least one; those for the test may be none")
        if self.train.weights is not None and not self.train.weights.any():
            of_weights = (self.config and self.config.sample_weight) or name
            raise DataError(f"{of_weights}: the weight of every training example is 0; expected one above 0 at least")

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
        return tuple(
            name
            for name, split in others.items()
            if len(split) and split.stored is self.train.stored and name not in self.brought
        )

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

    @functools.cached_property
    def duplicates(self) -> "Search | None":
        """What examples are in the data more than once; None: that is not known, for a large file would be read."""
        from tfpipe.data import duplicates  # It is about splits, and imports this module.

        return None if duplicates.is_too_large(self) else duplicates.search(self)

    @property
    def form(self) -> str:
        """Shape, type and scaling of the images, in words."""
        shape = " x ".join(map(str, self.image_shape))
        scaled = "standardized" if self.standardization else f"divided by {self.pixel_max:g}"
        return f"{shape} {self.train.stored.dtype}, {scaled}"

    @property
    def white_pixel(self) -> float:
        """The value of a white pixel in the images as they are stored: `white`; else 255 in bytes, or pixel_max."""
        if self.white is not None:
            return self.white
        return 255.0 if self.train.stored.dtype == np.uint8 else self.pixel_max

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


class SplitsToMeasure(Splits):
    """A data set on which a model is measured: there may be no examples for training, or for validation."""

    def _check_enough(self) -> None:
        pass


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


def warn_of_white(examples: Examples) -> None:
    """Warns of pictures that are to be taken as they are, and are not from 0 to 1: their white is not known."""
    stored = examples.stored
    is_of_pictures = stored.ndim == 3 or (stored.ndim == 4 and stored.shape[-1] in _CHANNELS)
    if not is_of_pictures or stored.dtype == np.uint8 or not len(examples):
        return
    first = next(examples.blocks())  # Of a mapped file no more is read, unless it tells that white is another.
    if first.min() >= 0 and first.max() > 1:
        _, largest = examples.value_range()
        log.warning("%s: pictures of values up to %g; give --pixel_max the value of white", examples.name, largest)


def check_same_form(first: Examples, other: Examples) -> None:
    """Raises DataError unless both hold images of one shape and type."""
    for what in ("shape", "type"):
        ours, theirs = (e.stored.shape[1:] if what == "shape" else e.stored.dtype for e in (first, other))
        if ours != theirs:
            found = f"{noun(other.stored)} of {what} {theirs}"
            raise DataError(f"{other.name}: {found}, but {first.name} has {what} {ours}")


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
