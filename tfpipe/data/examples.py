"""The one form that every data set takes: images with labels, in three splits. NumPy only."""

import dataclasses
import functools

import numpy as np

from tfpipe.config import DataConfig
from tfpipe.data import scaling
from tfpipe.data.fingerprint import fingerprint
from tfpipe.data.scaling import Scaling
from tfpipe.exceptions import DataError

_BYTES_PER_CHECK = 8 << 20


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """N images with their labels.

    Attributes:
      images: `[N, ...]`, finite; the shape of one image is free (`[H, W]`, `[H, W, C]`, `[D]`). uint8, float16 or
        float32; float64 becomes float32 here, or when a minibatch is fetched from a memory map, which stays one.
      labels: `[N]`, int32, numbers of the classes, at least 0.
      name: what error messages call these examples, e.g. the file they come from.

    Raises:
      DataError: on construction, when images and labels do not fit together or hold values that cannot be used.
    """

    images: np.ndarray
    labels: np.ndarray
    name: str = "examples"

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", self._checked_images(np.asanyarray(self.images)))
        object.__setattr__(self, "labels", self._checked_labels(np.asarray(self.labels)))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: slice) -> "Examples":
        part = object.__new__(Examples)  # Checked already: the images may be larger than memory.
        for name, value in (("images", self.images[rows]), ("labels", self.labels[rows]), ("name", self.name)):
            object.__setattr__(part, name, value)
        return part

    def _checked_images(self, images: np.ndarray) -> np.ndarray:
        if images.ndim < 2 or images.size == 0:
            raise DataError(
                f"{self.name}: images of shape {images.shape}; expected [N, ...] with at least one pixel each"
            )
        if images.dtype == np.uint8:
            return images
        if images.dtype.kind != "f":
            raise DataError(f"{self.name}: images of type {images.dtype}; expected uint8 or floating point")
        stays = (
            images.dtype.itemsize <= 8 if isinstance(images, np.memmap) else images.dtype in (np.float16, np.float32)
        )
        if not stays:
            with np.errstate(over="ignore"):  # What does not fit float32 becomes infinite, and is named below.
                images = images.astype(np.float32)
        step = max(1, _BYTES_PER_CHECK // images[0].nbytes)
        for start in range(0, len(images), step):
            with np.errstate(over="ignore"):
                rows = np.asarray(images[start : start + step], np.float32).reshape(-1, images[0].size)
            finite = np.isfinite(rows).all(axis=1)
            if not finite.all():
                row = start + int(np.argmin(finite))
                raise DataError(f"{self.name}: image {row} holds a value that is not finite (NaN or infinity)")
        return images

    def _checked_labels(self, labels: np.ndarray) -> np.ndarray:
        if labels.dtype.kind not in "iu" or labels.ndim != 1:
            raise DataError(
                f"{self.name}: labels of shape {labels.shape} and type {labels.dtype}; expected [N] integers"
            )
        if len(labels) != len(self.images):
            raise DataError(f"{self.name}: {len(self.images)} images but {len(labels)} labels; expected as many")
        wrong = (labels < 0) | (labels > np.iinfo(np.int32).max)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise DataError(f"{self.name}: label {labels[row]} of example {row} is out of range; expected 0 or more")
        return labels.astype(np.int32, copy=False)


@dataclasses.dataclass(frozen=True, eq=False)
class Splits:
    """A data set, divided.

    Attributes:
      train, validation, test: examples with images of one shape and type, and labels in `[0, K)`.
      class_names: the K >= 2 classes, by number.
      pixel_max: above 0; images are divided by it before they reach the model.
      standardization: takes the place of pixel_max if there is one.
      config: how the data was loaded, if it was loaded.
      white: the value of a white pixel, where it is another than pixel_max; see `white_pixel`.

    Raises:
      DataError: on construction, when the splits do not fit together.
    """

    train: Examples
    validation: Examples
    test: Examples
    class_names: tuple[str, ...]
    pixel_max: float = 1.0
    standardization: Scaling | None = None
    config: DataConfig | None = None
    white: float | None = None

    def __post_init__(self) -> None:
        if len(self.class_names) < 2:
            raise DataError(f"{self.train.name}: {len(self.class_names)} class; expected at least two")
        if not self.pixel_max > 0:
            raise DataError(f"{self.train.name}: pixel_max is {self.pixel_max}; expected a number above 0")
        for split in (self.train, self.validation, self.test):
            check_same_form(self.train, split)
            check_labels_below(split, len(self.class_names))

    @property
    def scaling(self) -> Scaling:
        """How images become inputs of the model."""
        return self.standardization or scaling.by_pixel_max(self.pixel_max)

    @functools.cached_property
    def fingerprint(self) -> str:
        """64 hexadecimal digits: the same for the same examples in the same order, scaled alike.

        Others have another one, but for changes in arrays beyond 256 MiB, of which a part is hashed.
        """
        parts = [array for split in (self.train, self.validation, self.test) for array in (split.images, split.labels)]
        shift = np.zeros(self.n_in) if self.scaling.shift is None else self.scaling.shift
        return fingerprint("\n".join(self.class_names), [*parts, shift, np.atleast_1d(self.scaling.factor)])

    @property
    def form(self) -> str:
        """Shape, type and scaling of the images, in words."""
        shape = " x ".join(map(str, self.image_shape))
        scaled = "standardized" if self.standardization else f"divided by {self.pixel_max:g}"
        return f"{shape} {self.train.images.dtype}, {scaled}"

    @property
    def white_pixel(self) -> float:
        """The value of a white pixel in the images as they are stored: 255 in bytes; black is 0."""
        return self.pixel_max if self.white is None else self.white

    @property
    def image_shape(self) -> tuple[int, ...]:
        return self.train.images.shape[1:]

    @property
    def n_in(self) -> int:
        """D, the number of inputs: the pixels (times channels) of an image."""
        return int(np.prod(self.image_shape))

    @property
    def n_out(self) -> int:
        """K, the number of classes."""
        return len(self.class_names)


def check_same_form(first: Examples, other: Examples) -> None:
    """Raises DataError unless both hold images of one shape and type."""
    for what in ("shape", "type"):
        ours, theirs = (e.images.shape[1:] if what == "shape" else e.images.dtype for e in (first, other))
        if ours != theirs:
            raise DataError(f"{other.name}: images of {what} {theirs}, but {first.name} has {what} {ours}")


def check_labels_below(examples: Examples, n_classes: int) -> None:
    """Raises DataError unless every label is the number of one of `n_classes` classes."""
    row = int(np.argmax(examples.labels))
    if examples.labels[row] >= n_classes:
        raise DataError(
            f"{examples.name}: label {examples.labels[row]} of example {row} is out of range; "
            f"the training labels are 0 to {n_classes - 1}"
        )
