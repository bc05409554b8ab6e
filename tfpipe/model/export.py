"""A trained model in the form of other programs, written whole or not at all.

All of them compute in float64, like `artifact`: in float32 each would sum in its own order, and on MNIST they would
differ by 2e-6. What they give is float32.
"""

import json
import os
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np

from tfpipe.config import known
from tfpipe.disk import files
from tfpipe.exceptions import DataError, OptionError
from tfpipe.model import artifact
from tfpipe.model.artifact import TrainedModel

# Newer ones have nothing that this graph needs, and older programs read it.
_OPSET, _IR_VERSION = 17, 8


def saved_model(model: TrainedModel, path: pathlib.Path) -> None:
    """TensorFlow's SavedModel, a folder. Signatures, each for any number of images at once:

    `serving_default`: `images` `[N, ...]`, uint8 if white is 255, else float32.
    `encoded` (of a model that takes pictures): `pictures` `[N]`, the bytes of PNG, JPEG, BMP or GIF files of any size;
    any other is an error, and so are GIF whose first frame is transparent or does not fill it, and BMP that is
    compressed or has fewer than 8 bits a pixel; of a model that turns pictures upright, those without an orientation in
    EXIF data that may have one elsewhere, in XMP or in a PNG's `Raw profile type exif`; and gray PNG of 16 bits, where
    the model does not know what is white in it. They become what they are in training, to the bit, but for JPEG in
    CMYK, of which each value may be one of 255 less.

    Both give `probabilities` `[N, K]` float32, `numbers` `[N]` int64 and `classes` `[N]`, the names.
    """
    import tensorflow as tf

    module = tf.Module()
    module.W, module.b = (tf.Variable(part, dtype=tf.float64) for part in (model.W, model.b))
    names = tf.constant(model.class_names)

    def predict(images: tf.Tensor) -> dict[str, tf.Tensor]:
        x = tf.reshape(tf.cast(images, tf.float64), [-1, len(model.W)])
        z = x @ module.W + module.b
        numbers = tf.argmax(z, axis=1)
        return {
            "probabilities": tf.cast(tf.nn.softmax(z), tf.float32),
            "numbers": numbers,
            "classes": tf.gather(names, numbers),
        }

    dtype = tf.uint8 if model.white == 255 else tf.float32
    images = tf.TensorSpec([None, *model.image_shape], dtype, "images")
    signatures = {"serving_default": tf.function(predict, [images])}
    if model.color_mode is not None:

        def encoded(pictures: tf.Tensor) -> dict[str, tf.Tensor]:
            pixels = tf.map_fn(lambda data: _pixels(data, model), pictures, fn_output_signature=tf.float64)
            return predict(pixels * (model.white / 255))

        signatures["encoded"] = tf.function(encoded, [tf.TensorSpec([None], tf.string, "pictures")])
    tf.saved_model.save(module, str(path), signatures)


def _pixels(data: Any, model: TrainedModel) -> Any:
    """The bytes of a picture as `data.pictures` brings it to the model's size: `[H, W]` or `[H, W, 3]`, 0 to 255."""
    import tensorflow as tf

    from tfpipe.data.pictures import MODES
    from tfpipe.model import encoded

    height, width = model.image_shape[:2]
    pixels = encoded.pixels(data, (height, width), MODES[known(model.color_mode)], model.reading)
    return tf.reshape(pixels, model.image_shape)


def keras(model: TrainedModel, path: pathlib.Path) -> None:
    """A `.keras` file with Keras' own layers alone: images `[N, ...]` as they are stored -> probabilities `[N, K]`."""
    import keras

    layers = keras.layers
    built = keras.Sequential(
        [
            keras.Input(model.image_shape, dtype="uint8" if model.white == 255 else "float32"),
            layers.Rescaling(1.0, dtype="float64", name="as_numbers"),
            layers.Flatten(dtype="float64", name="flatten"),
            layers.Dense(len(model.b), "softmax", dtype="float64", name="softmax_regression"),
        ]
    )
    built.layers[-1].set_weights([model.W, model.b])
    built.save(path)


def onnx(model: TrainedModel, path: pathlib.Path) -> None:
    """An ONNX model of ONNX's own operators: `images` `[N, ...]` -> `probabilities` `[N, K]` float32, `numbers` `[N]`.

    Its metadata hold `class_names`, and `columns` of a table as in `model.npz`, as JSON.

    Raises:
      OptionError: the package `onnx` is not installed.
    """
    try:
        from onnx import TensorProto, checker, helper, numpy_helper
    except ModuleNotFoundError as error:
        raise OptionError("format", "onnx", "needs a package that is not there: pip install 'tfpipe[onnx]'") from error

    W, b = (numpy_helper.from_array(getattr(model, name).astype(np.float64), name) for name in ("W", "b"))
    dtype = TensorProto.UINT8 if model.white == 255 else TensorProto.FLOAT
    nodes = [
        helper.make_node("Cast", ["images"], ["x"], to=TensorProto.DOUBLE),
        helper.make_node("Flatten", ["x"], ["rows"], axis=1),
        helper.make_node("MatMul", ["rows", "W"], ["products"]),
        helper.make_node("Add", ["products", "b"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["exact"], axis=1),
        helper.make_node("Cast", ["exact"], ["probabilities"], to=TensorProto.FLOAT),
        helper.make_node("ArgMax", ["logits"], ["numbers"], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "softmax_regression",
        [helper.make_tensor_value_info("images", dtype, ["N", *model.image_shape])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", len(model.b)]),
            helper.make_tensor_value_info("numbers", TensorProto.INT64, ["N"]),
        ],
        [W, b],
    )
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    named = {"class_names": model.class_names} | ({"columns": model.columns} if model.columns else {})
    helper.set_model_props(built, {name: json.dumps(value) for name, value in named.items()})
    checker.check_model(built, full_check=True)
    path.write_bytes(built.SerializeToString())


def npz(model: TrainedModel, path: pathlib.Path) -> None:
    """The `model.npz` of a run, elsewhere: see `artifact`."""
    artifact.save(path, model)


FORMATS: dict[str, Callable[[TrainedModel, pathlib.Path], None]] = {
    "saved_model": saved_model,
    "keras": keras,
    "onnx": onnx,
    "npz": npz,
}


def write(model: TrainedModel, path: pathlib.Path, format: str, *, overwrite: bool = False) -> None:
    """Writes `model` to `path` in one of FORMATS.

    Args:
      model: what is written.
      path: where to; a file, or a folder for `saved_model`.
      format: one of FORMATS.
      overwrite: whether an export of the same kind, file or folder, may be replaced.

    Raises:
      DataError: there is something at `path` that may not be replaced, or its folder is not there.
      OptionError: a package that the format needs is not installed.
      OSError: it cannot be written; what was there still is.
    """
    if not path.absolute().parent.is_dir():
        raise DataError(f"{path}: {path.absolute().parent} is no folder; give a path in one that is there")
    if os.path.lexists(path):
        if not overwrite:
            raise DataError(f"{path}: is there already; give another path, or --overwrite")
        is_such = (path / "saved_model.pb").is_file() if format == "saved_model" else path.is_file()
        if path.is_symlink() or not is_such:
            raise DataError(f"{path}: is there, and no export of this kind; give another path")
    temporary = path.with_name(files.temporary_name(path))
    try:
        temporary.mkdir()
        new = temporary / path.name
        FORMATS[format](model, new)
        files.sync_all(new)
        _put_in_place(new, path, aside=temporary / "old")
        files.sync(path.absolute().parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _put_in_place(new: pathlib.Path, path: pathlib.Path, *, aside: pathlib.Path) -> None:
    if not path.is_dir():
        os.replace(new, path)
        return
    os.replace(path, aside)  # A folder cannot take the place of another at once.
    try:
        os.replace(new, path)
    except BaseException:
        os.replace(aside, path)
        raise
