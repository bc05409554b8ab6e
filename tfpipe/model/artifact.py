"""The trained model as a file, `model.npz`. Needs NumPy alone: the model takes raw input, so it works anywhere.

probabilities = softmax(images.reshape(len(images), -1) @ W + b)

Version 3 says how pictures in files become images, version 2 does not: that is from before there was a choice. Of
tables it holds the names of the columns; of a model that was calibrated the temperature.
"""

import io
import json
import math
import pathlib
from typing import IO, Any, NamedTuple

import numpy as np

from tfpipe.config import AS_STORED, Column, DataConfig, Reading
from tfpipe.disk import files, npz
from tfpipe.exceptions import DataError, brief

FORMAT_VERSION = 3
# How pictures are brought to the model's size, in training and after it: Pillow's filter of this name.
RESIZE = "bilinear"
_TYPES = (np.float32, np.float64)
_BLOCK_BYTES = 32 << 20


class TrainedModel(NamedTuple):
    """What is kept of a run.

    Attributes:
      W: `[D, K]`, b: `[K]`, both float32 or both float64, as they were trained. They take images as they
        were stored: the scaling is folded in.
      class_names: K names, by number.
      image_shape: the shape of one image; its product is D.
      white: the value of a white pixel in the images that it takes, above 0: 255 for bytes. Black is 0.
      summary: figures of the training, by name, as JSON can hold them.
      scale: `[D]`, or `[]` for one number, float64 above 0: what the columns of images as they were stored are measured
        in, s in what was minimized (see docs/search.md). None: not known, as in files of before there was one.
      reading: how pictures in files become images, but for size and colours.
      columns: what the D numbers are that it takes, where the training data was a table; None: they have no names.
      temperature: by which the logits were divided; W and b times it are what was fitted, and what the certificate in
        the summary is of. None: it was not calibrated.
    """

    W: np.ndarray
    b: np.ndarray
    class_names: tuple[str, ...]
    image_shape: tuple[int, ...]
    white: float
    summary: dict[str, Any]
    scale: np.ndarray | None = None
    reading: Reading = Reading()
    columns: tuple[Column, ...] | None = None
    temperature: float | None = None

    @property
    def fitted(self) -> tuple[np.ndarray, np.ndarray]:
        """`[D, K]` and `[K]` float64: W and b as they were before any calibration."""
        temperature = 1.0 if self.temperature is None else self.temperature
        return self.W.astype(np.float64) * temperature, self.b.astype(np.float64) * temperature

    @property
    def color_mode(self) -> str | None:
        """`grayscale` or `rgb`; None if it takes rows of numbers, and no pictures."""
        if len(self.image_shape) == 2 or self.image_shape[2:] == (1,):
            return "grayscale"
        return "rgb" if self.image_shape[2:] == (3,) else None

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """P(y = k | x): `[N, K]` float64 in [0, 1], rows sum to 1; NaN where numbers are too large for float64.

        In float64, because sums of float32 in another order differ by 2e-6 on MNIST, and so would any two programs.

        Args:
          images: `[N, ...]` with D values each, of any numeric type, as the data set stored them.
        """
        W, b = self.W.astype(np.float64), self.b.astype(np.float64)
        found = np.empty((len(images), len(b)))
        step = max(1, _BLOCK_BYTES // (8 * len(W)))
        for start in range(0, len(images), step):
            rows = np.asarray(images[start : start + step], np.float64)
            with np.errstate(over="ignore", invalid="ignore"):  # What is not finite gives NaN.
                z = rows.reshape(len(rows), -1) @ W + b
                p = np.exp(z - z.max(axis=1, keepdims=True))
                found[start : start + step] = p / p.sum(axis=1, keepdims=True)
        return found


def save(path: pathlib.Path, model: TrainedModel) -> None:
    """Writes `model` to `path`, whole or not at all. The same model gives the same bytes.

    Raises:
      OSError: the file cannot be written.
    """
    files.write_whole(path, encode(model))


def load(path: pathlib.Path | str) -> TrainedModel:
    """Reads what `save` wrote; executes nothing that is in the file.

    Raises:
      DataError: the file is missing, damaged, of another version, or its parts do not fit together.
    """
    try:
        with open(path, "rb") as file:
            return decode(str(path), file)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def encode(model: TrainedModel) -> bytes:
    """The content of a file. It holds anything; `decode` refuses what cannot be right."""
    buffer = io.BytesIO()
    # Programs of before there were these read this file too: they look for the others alone.
    known: dict[str, Any] = {} if model.scale is None else {"scale": model.scale}
    if model.reading.gray_max is not None:
        known["gray_max"] = np.array(model.reading.gray_max, np.int64)
    if model.columns is not None:
        known["columns"] = np.array(json.dumps(model.columns))
    if model.temperature is not None:
        known["temperature"] = np.array(model.temperature, np.float64)
    np.savez(
        buffer,
        W=model.W,
        b=model.b,
        class_names=np.array(model.class_names),
        image_shape=np.array(model.image_shape, np.int64),
        color_mode=np.array(model.color_mode or "none"),
        resize=np.array(RESIZE),
        orientation=np.array(model.reading.orientation),
        background=np.array(model.reading.background),
        fit=np.array(model.reading.fit),
        decoding=np.array(model.reading.decoding),
        white=np.array(model.white, np.float64),
        summary=np.array(json.dumps(model.summary, allow_nan=False)),
        **known,
        format_version=np.array(FORMAT_VERSION, np.int64),
    )
    return buffer.getvalue()


def decode(where: str, file: IO[bytes]) -> TrainedModel:
    """The model that `encode` was given, from what it gave.

    Raises:
      DataError: `file`, which is called `where`, is damaged, of another version, or its parts do not fit together.
    """
    try:
        arrays = npz.load(where, file)
        version = arrays["format_version"].item()
        if version not in (2, FORMAT_VERSION):
            raise DataError(f"{where}: a model of format version {version}; this program reads 2 and {FORMAT_VERSION}")
        model = TrainedModel(
            arrays["W"],
            arrays["b"],
            tuple(str(name) for name in arrays["class_names"]),
            tuple(int(size) for size in arrays["image_shape"]),
            float(arrays["white"]),
            dict(json.loads(str(arrays["summary"]))),
            arrays.get("scale"),
            AS_STORED if version == 2 else _reading(arrays),
            _columns(arrays),
            float(arrays["temperature"]) if "temperature" in arrays else None,
        )
        stated = str(arrays["color_mode"]), str(arrays["resize"])
    except (DataError, MemoryError):
        raise
    except Exception as error:  # Of an archive that is sound, but none of a model.
        raise DataError(f"{where}: not a model that can be read: {brief(error)}") from error
    W, b = model.W, model.b
    expected = (math.prod(model.image_shape), len(model.class_names))
    if min(model.image_shape, default=0) < 1 or len(set(model.class_names)) < expected[1]:
        raise DataError(f"{where}: images of shape {model.image_shape}, or two classes of one name, cannot be right")
    if W.dtype not in _TYPES or b.dtype != W.dtype:
        raise DataError(f"{where}: W is {W.dtype} and b {b.dtype}; expected float32, or float64")
    if W.shape != expected or b.shape != expected[1:]:
        shape = f"images {model.image_shape}, {expected[1]} classes"
        raise DataError(f"{where}: W {W.shape} and b {b.shape} do not fit {shape}")
    if not (np.isfinite(W).all() and np.isfinite(b).all()):
        raise DataError(f"{where}: W or b holds a value that is not finite")
    if model.scale is not None:
        _check_scale(where, model.scale, len(W))
    if model.columns is not None and not len(set(model.columns)) == len(model.columns) == len(W):
        raise DataError(f"{where}: {len(model.columns)} columns, or two of one name, do not fit W {W.shape}")
    if model.temperature is not None and not 0 < model.temperature < math.inf:
        raise DataError(f"{where}: temperature {model.temperature:g} is not a finite number above 0")
    if stated != (model.color_mode or "none", RESIZE) or not 0 < model.white < math.inf:
        how = f"color_mode {stated[0]}, resize {stated[1]}, white {model.white:g}"
        raise DataError(f"{where}: {how} do not fit images {model.image_shape}")
    return model


def _reading(arrays: dict[str, np.ndarray]) -> Reading:
    """Raises ConfigError unless it is one that pictures can be read by."""
    texts: dict[str, Any] = {name: str(arrays[name]) for name in ("orientation", "background", "fit", "decoding")}
    config = DataConfig(gray_max=arrays["gray_max"].item() if "gray_max" in arrays else None, **texts)
    return Reading(config.orientation, config.background, config.gray_max, config.fit, config.decoding)


def _columns(arrays: dict[str, np.ndarray]) -> tuple[Column, ...] | None:
    """Raises ValueError unless they are pairs of text, of which the second may be null."""
    if "columns" not in arrays:
        return None
    columns = tuple(Column(*pair) for pair in json.loads(str(arrays["columns"])))
    if not all(isinstance(column.name, str) and isinstance(column.value, str | None) for column in columns):
        raise ValueError("columns that are no text")
    return columns


def _check_scale(where: str, scale: np.ndarray, n_in: int) -> None:
    if scale.dtype != np.float64 or scale.shape not in ((), (n_in,)):
        raise DataError(f"{where}: scale is {scale.dtype} {scale.shape}; expected float64, () or ({n_in},)")
    if not (np.isfinite(scale) & (scale > 0)).all():
        raise DataError(f"{where}: scale holds a value that is not a finite number above 0")
