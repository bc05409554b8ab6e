"""The one form that every data set takes: images with labels, in three splits. NumPy only."""

import dataclasses

import numpy as np

from tfpipe.config import DataConfig
from tfpipe.exceptions import DataError

_ROWS_PER_CHECK = 4096


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """N images with their labels. Other floating-point types become float32, other integer labels int32.

    Attributes:
      images: `[N, ...]`, uint8 or float32, finite; the shape of one image is free (`[H, W]`, `[H, W, C]`, `[D]`).
      labels: `[N]`, int32, numbers of the classes, at least 0.
      name: what error messages call these examples, e.g. the file they come from.

    Raises:
      DataError: on construction, when images and labels do not fit together or hold values that cannot be used.
    """

    images: np.ndarray
    labels: np.ndarray
    name: str = "examples"

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", self._checked_images(np.asarray(self.images)))
        object.__setattr__(self, "labels", self._checked_labels(np.asarray(self.labels)))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: slice) -> "Examples":
        return Examples(self.images[rows], self.labels[rows], self.name)

    def _checked_images(self, images: np.ndarray) -> np.ndarray:
        if images.ndim < 2 or images.size == 0:
            raise DataError(
                f"{self.name}: images of shape {images.shape}; expected [N, ...] with at least one pixel each"
            )
        if images.dtype == np.uint8:
            return images
        if images.dtype.kind != "f":
            raise DataError(f"{self.name}: images of type {images.dtype}; expected uint8 or floating point")
        with np.errstate(over="ignore"):  # What does not fit float32 becomes infinite, and is named below.
            images = images.astype(np.float32, copy=False)
        for start in range(0, len(images), _ROWS_PER_CHECK):
            rows = images[start : start + _ROWS_PER_CHECK].reshape(-1, images[0].size)
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
      config: how the data was loaded, if it was loaded.

    Raises:
      DataError: on construction, when the splits do not fit together.
    """

    train: Examples
    validation: Examples
    test: Examples
    class_names: tuple[str, ...]
    pixel_max: float = 1.0
    config: DataConfig | None = None

    def __post_init__(self) -> None:
        if len(self.class_names) < 2:
            raise DataError(f"{self.train.name}: {len(self.class_names)} class; expected at least two")
        if not self.pixel_max > 0:
            raise DataError(f"{self.train.name}: pixel_max is {self.pixel_max}; expected a number above 0")
        for split in (self.train, self.validation, self.test):
            check_same_form(self.train, split)
            check_labels_below(split, len(self.class_names))

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
