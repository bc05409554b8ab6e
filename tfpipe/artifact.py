"""The trained model as a file, `model.npz`. Needs NumPy alone: the model takes raw input, so it works anywhere.

probabilities = softmax(images.reshape(len(images), -1) @ W + b)
"""

import io
import pathlib
from typing import NamedTuple

import numpy as np

from tfpipe import files, npz
from tfpipe.exceptions import DataError, brief

FORMAT_VERSION = 1
_TYPES = (np.float32, np.float64)


class TrainedModel(NamedTuple):
    """What is kept of a run.

    Attributes:
      W: `[D, K]`, b: `[K]`, both float32 or both float64, as they were trained. They take images as they
        were stored: the scaling is folded in.
      class_names: K names, by number.
      image_shape: the shape of one image; its product is D.
    """

    W: np.ndarray
    b: np.ndarray
    class_names: tuple[str, ...]
    image_shape: tuple[int, ...]


def save(path: pathlib.Path, model: TrainedModel) -> None:
    """Writes `model` to `path`, whole or not at all. The same model gives the same bytes.

    Raises:
      OSError: the file cannot be written.
    """
    buffer = io.BytesIO()
    np.savez(
        buffer,
        W=model.W,
        b=model.b,
        class_names=np.array(model.class_names),
        image_shape=np.array(model.image_shape, np.int64),
        format_version=np.array(FORMAT_VERSION, np.int64),
    )
    files.write_whole(path, buffer.getvalue())


def load(path: pathlib.Path | str) -> TrainedModel:
    """Reads what `save` wrote; executes nothing that is in the file.

    Raises:
      DataError: the file is missing, damaged, of another version, or its parts do not fit together.
    """
    try:
        with open(path, "rb") as file:
            arrays = npz.load(str(path), file)
        version = int(arrays["format_version"])
        if version != FORMAT_VERSION:
            raise DataError(f"{path}: a model of format version {version}; this program reads {FORMAT_VERSION}")
        W, b = arrays["W"], arrays["b"]
        class_names = tuple(str(name) for name in arrays["class_names"])
        image_shape = tuple(int(size) for size in arrays["image_shape"])
    except (DataError, MemoryError):
        raise
    except Exception as error:  # Of an archive that is sound, but none of a model.
        raise DataError(f"{path}: not a model that can be read: {brief(error)}") from error
    expected = (int(np.prod(image_shape)), len(class_names))
    if W.shape != expected or b.shape != expected[1:] or W.dtype not in _TYPES or b.dtype != W.dtype:
        raise DataError(f"{path}: W {W.shape} and b {b.shape} do not fit images {image_shape}, {expected[1]} classes")
    if not (np.isfinite(W).all() and np.isfinite(b).all()):
        raise DataError(f"{path}: W or b holds a value that is not finite")
    return TrainedModel(W, b, class_names, image_shape)
