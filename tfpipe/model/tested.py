"""What a trained model does on examples that it has not seen: figures with their intervals, for scripts and people."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfpipe.data import Examples, Splits
from tfpipe.data.rows import BLOCK_BYTES
from tfpipe.model.artifact import TrainedModel
from tfpipe.model.diagnosis import Diagnosis
from tfpipe.statistics import intervals
from tfpipe.statistics.figures import Outcomes
from tfpipe.statistics.intervals import Estimate

_NAMES = {"macro_f1": "macro-F1", "auc": "AUC", "top5_error": "top-5 error"}
# Of a piece: short rows of many classes have more of these than the rows have bytes.
_PROBABILITIES_BYTES = 64 << 20
_HAS_SEEN = "the model has seen these examples"


def outcomes(model: TrainedModel, examples: Examples) -> Outcomes:
    """What a model as it is kept says of examples as they are stored, one at least; piece by piece."""
    of_probabilities = 8 * len(model.class_names)
    most_rows = max(1, _PROBABILITIES_BYTES // of_probabilities)
    blocks = examples.blocks(min(BLOCK_BYTES, most_rows * examples.stored[:1].nbytes))
    return Outcomes(examples.labels, (model.probabilities(block) for block in blocks))


def figures(
    found: Outcomes,
    weights: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    is_duplicate: np.ndarray | None = None,
    *,
    has_seen: bool = False,
) -> dict[str, Any]:
    """The figures, as JSON can hold them; null stands for what is not finite, or not there.

    Args:
      found: what a model says of n examples, one at least.
      weights: `[n]`, what each counts; None: 1.
      groups: `[n]`, of which group each is; None: each is its own.
      is_duplicate: `[n]` bool, whether the model has seen an equal one; None: not known.
      has_seen: whether it has seen these themselves: then their figures have no intervals.

    Returns:
      `examples`, n; `groups`, how many these are; `effective_examples`, Kish's number of those that count alike;
      `figures`, by name `value`, `interval` (95 %, low and high), `method` (`wilson`, `bootstrap`), `draws` of the
      latter, and `note`, such as why there is no interval; and `duplicates`: how many `examples`, and the `error` on
      the others.
    """
    if has_seen:
        estimates = {name: Estimate(value, note=_HAS_SEEN) for name, value in found.figures(weights).items()}
    else:
        estimates = intervals.estimates(found, weights, groups)
    counts = np.ones(len(found)) if weights is None else weights
    return {
        "examples": len(found),
        "groups": None if groups is None else len(np.unique(groups)),
        "effective_examples": intervals.effective(counts) if counts.any() else 0.0,
        "figures": {name: _as_json(estimates[name]) for name in sorted(estimates, key=_is_not_error)},
        "duplicates": None if is_duplicate is None else _without_duplicates(found, counts, is_duplicate),
    }


def weights_and_groups(parts: Sequence[Examples]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Those of several splits of a data set, one after the other, as `figures` takes them.

    Where some have none, an example weighs 1, or is a group of its own.
    """
    weights = groups = None
    if any(part.weights is not None for part in parts):
        weights = np.concatenate([np.ones(len(part)) if part.weights is None else part.weights for part in parts])
    if any(part.groups is not None for part in parts):
        free = 1 + max(int(part.groups.max(initial=0)) for part in parts if part.groups is not None)
        of_parts = []
        for part in parts:
            of_parts.append(free + np.arange(len(part)) if part.groups is None else part.groups)
            free += len(part)
        groups = np.concatenate(of_parts)
    return weights, groups


def on_test(model: TrainedModel, splits: Splits, n: int) -> tuple[dict[str, Any] | None, Diagnosis | None]:
    """What a model as it is kept does on the first n test examples; None if n is 0.

    Returns:
      `figures`, by the sample weights of the test split; and its predictions.
    """
    if not n:
        return None, None
    examples = splits.test if n == len(splits.test) else splits.test.take(np.arange(n))
    found = outcomes(model, examples)
    is_duplicate = splits.duplicates.seen_in_test[:n] if splits.duplicates else None
    return figures(found, examples.weights, examples.groups, is_duplicate), Diagnosis.of(found)


def of_error(content: dict[str, Any] | None) -> dict[str, Any]:
    """`test_error` and `test_error_interval`, of what `figures` gave; None: there are none."""
    of = content["figures"]["error"] if content else {"value": None, "interval": None}
    return {"test_error": of["value"], "test_error_interval": of["interval"]}


def table(content: dict[str, Any]) -> list[tuple[str, ...]]:
    """The figures for people: rows of cells, the first row the header."""
    rows: list[tuple[str, ...]] = [("figure", "value", "95% interval", "by", "note")]
    for name, figure in content["figures"].items():
        by = "-" if figure["method"] is None else figure["method"].capitalize()
        of_groups = " over groups" * (content["groups"] is not None and figure["interval"] is not None)
        between = "-" if figure["interval"] is None else _between(name, figure["interval"])
        rows.append((_words(name), _cell(name, figure["value"]), between, by + of_groups, figure["note"] or ""))
    if duplicates := content["duplicates"]:
        rest = _cell("error", duplicates["error"])
        rows.append((f"error without {_which(duplicates['examples'])}", rest, "-", "-", ""))
    return rows


def lines(what: str, content: dict[str, Any]) -> list[str]:
    """The figures in words, of `what` they are; and a line on duplicates, where there are some."""
    told = []
    for name, figure in content["figures"].items():
        between = "" if figure["interval"] is None else f" ({_between(name, figure['interval'])})"
        told.append(f"{_words(name)} {_cell(name, figure['value'])}{between}")
    groups = "" if content["groups"] is None else f" over {content['groups']} groups"
    has_some = any(figure["interval"] for figure in content["figures"].values())
    why_not = f"no interval: {content['figures']['error']['note']}"
    about = f"in brackets 95% intervals{groups}" if has_some else why_not
    found = [f"{what}: {', '.join(told)}; {about}"]
    duplicates = content["duplicates"]
    if duplicates and duplicates["examples"]:
        rest = content["examples"] - duplicates["examples"]
        on_rest = (
            f"; error on the other {rest}: {_cell('error', duplicates['error'])}" if rest else "; there is no other"
        )
        found.append(f"{what}: {duplicates['examples']} of {content['examples']} examples are duplicates{on_rest}")
    return found


def _without_duplicates(found: Outcomes, counts: np.ndarray, is_duplicate: np.ndarray) -> dict[str, Any]:
    counts = np.where(is_duplicate, 0.0, counts)
    of_rest = float(counts[found.wrong].sum() / counts.sum()) if counts.any() else None
    return {"examples": int(is_duplicate.sum()), "error": of_rest}


def _is_not_error(name: str) -> bool:
    return name != "error"


def _as_json(estimate: Estimate) -> dict[str, Any]:
    value = estimate.value if np.isfinite(estimate.value) else None
    between = None if estimate.interval is None else list(estimate.interval)
    return estimate._asdict() | {"value": value, "interval": between}


def _which(count: int) -> str:
    return f"the {count} duplicate{'s' * (count != 1)} of training or validation examples"


def _words(name: str) -> str:
    return _NAMES.get(name, name.replace("_", " "))


def _between(name: str, interval: Sequence[float]) -> str:
    return " to ".join(_cell(name, bound) for bound in interval)


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2%}" if name.endswith("error") else f"{value:.4g}"
