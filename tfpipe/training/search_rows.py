"""Which rows the heads of a search are fitted to, and under which weights: said once, for all of its processes."""

import numpy as np

from tfpipe.training.fitted import Fitted
from tfpipe.training.search_plan import SearchPlan

# The rows on which settings are tried, and those on which the one that is taken is fitted again.
SEARCH, LAST = "search", "last"


def fitted(plan: SearchPlan, name: str) -> Fitted:
    """The rows of this name."""
    splits, precision = plan.splits, plan.config.precision
    if name == SEARCH:
        validation = None if plan.n_folds else splits.validation
        return Fitted(splits, plan.examples, plan.weights, precision, validation)
    examples = splits.train.joined(splits.validation)
    return Fitted(splits, examples, plan.counted(np.ones((1, len(examples))), examples), precision)
