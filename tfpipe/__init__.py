"""Softmax regression on image matrices, trained by TensorFlow.

splits = tfpipe.load("digits")
result = tfpipe.train(tfpipe.TrainConfig(batch_size=100, epochs=30), splits)
result.model.predict(splits.test.images)
"""

import importlib
from typing import TYPE_CHECKING, Any

from tfpipe.compute import host as _host
from tfpipe.version import __version__ as __version__

if TYPE_CHECKING:
    from tfpipe.config import TrainConfig as TrainConfig
    from tfpipe.data import Examples as Examples
    from tfpipe.data import Splits as Splits
    from tfpipe.data import load as load
    from tfpipe.estimator import SoftmaxClassifier as SoftmaxClassifier
    from tfpipe.estimator import SoftmaxClassifierCV as SoftmaxClassifierCV
    from tfpipe.model.regression import SoftmaxRegression as SoftmaxRegression
    from tfpipe.training.loop import train as train


# Each name is imported when it is first used: TensorFlow takes seconds to import, and `--help` does not need it.
_HOMES = {
    "Examples": "tfpipe.data",
    "SoftmaxClassifier": "tfpipe.estimator",
    "SoftmaxClassifierCV": "tfpipe.estimator",
    "SoftmaxRegression": "tfpipe.model.regression",
    "Splits": "tfpipe.data",
    "TrainConfig": "tfpipe.config",
    "load": "tfpipe.data",
    "train": "tfpipe.training.loop",
}
_NEED_TENSORFLOW = ("SoftmaxClassifier", "SoftmaxClassifierCV", "SoftmaxRegression", "train")
__all__ = list(_HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tfpipe' has no attribute {name!r}")
    with _host.undoing_imports():
        if name in _NEED_TENSORFLOW:
            importlib.import_module("tfpipe.compute.startup").import_tensorflow()
        found = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = found  # The next use does not come here.
    return found
