"""How far a model of SGD is from the optimum of what it minimized."""

import numpy as np

from tfpipe.compute.workers import Workers
from tfpipe.data import Splits
from tfpipe.model.artifact import TrainedModel
from tfpipe.training.fit import Fit
from tfpipe.training.fitted import Fitted


def certificate(splits: Splits, weights: np.ndarray, model: TrainedModel, l2: float, workers: Workers) -> float:
    """How far the training cost of a model, with weight decay, is above the least, at most.

    Args:
      splits: on whose training examples it was trained.
      weights: `[1, N]`, what these count.
      model: as it is kept.
      l2: above 0.
      workers: who compute.
    """
    fit = Fit(Fitted(splits, splits.train, weights, "float64"), 1, workers)
    problems = fit.problems("none", [l2], np.zeros(1, np.int32))
    if splits.standardization is not None:  # The penalty is on W for images that are standardized already.
        problems = problems._replace(scale=np.ones_like(problems.scale))
    found = fit.certified(problems, model.W, model.b, tolerance=1.0)
    if problems.there.all():
        return found.certificate
    # What classes without weight have of the softmax, in a run from before they were left out of it.
    every = problems._replace(shares=np.maximum(problems.shares, np.finfo(np.float64).tiny))
    return found.certificate + max(0.0, fit.certified(every, model.W, model.b, tolerance=1.0).cost - found.cost)
