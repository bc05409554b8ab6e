"""An older model as a start: its classes and columns, brought to those of a search by their names."""

import hashlib
import io
import pathlib
from typing import NamedTuple

import numpy as np
import scipy.special

from tfpipe.data import Splits
from tfpipe.data.class_names import composed
from tfpipe.exceptions import ConfigError, enumeration
from tfpipe.log import log
from tfpipe.model import artifact, columns
from tfpipe.model.artifact import TrainedModel
from tfpipe.solvers.problem import FAR_BELOW, Problems
from tfpipe.training.fit import Fit

_MOST_NAMED = 5


class WarmStart(NamedTuple):
    """Where heads may begin.

    Attributes:
      W: `[D, K]`, b: `[K]`, both float64, for images as they are stored; 0 for what the older model does not know.
      known: `[K]` bool, the classes that it knows.
      digest: of the file's content.
    """

    W: np.ndarray
    b: np.ndarray
    known: np.ndarray
    digest: str

    @classmethod
    def of(cls, path: str, splits: Splits) -> "WarmStart":
        """Reads a model, and says what of it does not match.

        Raises:
          ConfigError: it is of other images, or knows none of the classes.
          DataError: it is missing or damaged; or its columns are missing in the data.
        """
        try:
            content = pathlib.Path(path).read_bytes()
        except OSError as error:
            raise ConfigError("init", path, f"cannot be read: {error.strerror}; give the model.npz of a run") from error
        model = artifact.decode(path, io.BytesIO(content))
        rows = _rows(path, model, splits)
        place_of = {composed(name): place for place, name in enumerate(model.class_names)}
        places = np.array([place_of.get(composed(name), -1) for name in splits.class_names])
        left_out = _left_out(model)
        known = (places >= 0) & ~left_out[places]
        if not known.any():
            knows = [name for name, is_out in zip(model.class_names, left_out, strict=True) if not is_out]
            names = (enumeration(of, _MOST_NAMED) for of in (knows, splits.class_names))
            raise ConfigError("init", path, "knows the classes {}, and none of {}".format(*names))
        gone = [name for place, name in enumerate(model.class_names) if place not in places]
        new = [name for name, is_known in zip(splits.class_names, known, strict=True) if not is_known]
        _say(path, "classes are gone, and left out", gone)
        _say(path, "classes are new, and begin at 0", new)
        W, b = model.fitted
        W, b = W[:, places] * known, b[places] * known
        # So that classes that are new, at 0, begin in their middle.
        W = (W - W.sum(axis=1, keepdims=True) / known.sum()) * known
        of_rows = np.zeros((splits.n_in, splits.n_out))
        of_rows[rows[rows >= 0]] = W[rows >= 0]
        digest = hashlib.sha256(content).hexdigest()[:16]
        return cls(of_rows, b, known, digest)

    def start(self, fit: Fit, problems: Problems) -> np.ndarray:
        """`[H, K, D + 1]`: where heads begin: at the model, if that costs them less than V = 0 does.

        It may cost more at a far larger l2, or where the model was sure of what new rows contradict. Without l2 they
        begin at V = 0 too: on separable data they would keep something of a model that may have seen their folds.

        Args:
          fit: the rows of the heads.
          problems: of the heads.
        """
        v = self._at(fit, problems)
        pays = (problems.l2 > 0) & (fit.cost(problems, v) < problems.at_zero)
        if not pays.all():
            log.info("init: %d of %d heads begin at W = 0, which costs them less", len(pays) - pays.sum(), len(pays))
        return np.where(pays[:, np.newaxis, np.newaxis], v, problems.start())

    def _at(self, fit: Fit, problems: Problems) -> np.ndarray:
        """The model; a class that is new, with the intercept of its share."""
        v = fit.coordinates(problems, self.W, self.b)
        old, shares = problems.there & self.known, problems.shares
        with np.errstate(divide="ignore", invalid="ignore"):  # Where none is old, NaN, which costs less than nothing.
            of_old = scipy.special.logsumexp(np.where(old, v[..., -1], -np.inf), axis=1)
            of_old -= np.log((shares * old).sum(axis=1))
            v[..., -1] = np.where(old, v[..., -1], np.log(shares) + of_old[:, np.newaxis])
        return problems.centred(np.where(problems.there[..., np.newaxis], v, 0))


def _left_out(model: TrainedModel) -> np.ndarray:
    """`[K]` bool: the classes of which it had no rows, so that they lie far below all others."""
    W, b = model.fitted
    return ~W.any(axis=0) & (b <= b.max() - FAR_BELOW / 2)


def _rows(path: str, model: TrainedModel, splits: Splits) -> np.ndarray:
    """`[D of the model]`: for each of its rows of W that of the data; -1: there is none."""
    if model.white != splits.white_pixel:
        scales = f"from 0 to {model.white:g}, and these are from 0 to {splits.white_pixel:g}"
        raise ConfigError("init", path, f"takes images {scales}; give a model of data that is stored as this is")
    if model.columns is None or splits.columns is None:
        if model.image_shape != splits.image_shape:
            shapes = (" x ".join(map(str, shape)) for shape in (model.image_shape, splits.image_shape))
            raise ConfigError("init", path, "takes {}, and the data has {}".format(*shapes))
        return np.arange(splits.n_in)
    found = columns.match(model.columns, splits.columns, splits.train.name)
    _say(path, "columns are new, and begin at 0", found.unused)
    for name, places in found.unseen.items():
        values = [repr(splits.columns[place].value) for place in places]
        _say(path, f"values of the column {name!r} are new, and begin at 0", values)
    _say(path, "columns are gone, and left out", [str(model.columns[i]) for i in np.flatnonzero(found.places < 0)])
    return found.places


def _say(path: str, words: str, names: list[str]) -> None:
    if names:
        log.info("init=%s: %d %s: %s", path, len(names), words, enumeration(names, _MOST_NAMED))
