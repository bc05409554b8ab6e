"""Columns of a table of which a model can learn something."""

import numpy as np

from tfpipe.data.examples import Examples
from tfpipe.data.readers.source import Source
from tfpipe.exceptions import enumeration
from tfpipe.log import log
from tfpipe.text import one_line

_MOST_NAMED = 5
# What columns are called, in small letters, that are seldom meant as features, and the flags that are for these.
_OTHER_PURPOSES = {
    "groups": "--groups=FILE",
    "sample_weight": "--sample_weight=FILE",
    "weight": "--sample_weight=FILE",
    "id": "",
    "index": "",
}


def warn_of_other_purposes(source: Source) -> None:
    """Warns of columns of numbers that are features, and are called like what is none: keys, groups, weights."""
    plain = [column.name for column in source.columns or () if column.value is None]
    found = {name: _OTHER_PURPOSES[key] for name in plain if (key := name.strip().lower()) in _OTHER_PURPOSES}
    if not found:
        return
    names = enumeration([repr(one_line(name)) for name in found])
    are, them = ("is a feature", "it") if len(found) == 1 else ("are features", "them")
    flags = " and ".join(dict.fromkeys(filter(None, found.values())))
    remedy = f"leave {them} out" + f", and give {flags}" * bool(flags)
    log.warning("%s: %s %s like any other; if not meant so, %s", source.train.name, names, are, remedy)


def trained(source: Source) -> Source:
    """The data without columns for values that no training row has, where it says which these are.

    Rows of other splits that have such a value are 0 in all columns of its own, as they are to a model that has not
    seen it; a warning names the values.
    """
    if source.columns is None or source.parts is None or "train" not in source.parts:
        return source
    seen = np.array([column.value is None for column in source.columns])
    for block in source.train.take(source.parts["train"]).blocks():
        seen |= (block != 0).any(axis=0)
    if seen.all():
        return source
    unseen = [column for column, is_seen in zip(source.columns, seen, strict=True) if not is_seen]
    log.warning(
        "%s: %d of %d rows have values that no training row has, and count as none of the values of their columns: %s",
        source.train.name,
        np.count_nonzero((source.train.stored[:, ~seen] != 0).any(axis=1)),
        len(source.train),
        enumeration([repr(one_line(str(column))) for column in unseen], _MOST_NAMED),
    )
    rows = Examples(source.train.stored[:, seen], source.train.labels, source.train.name)
    columns = tuple(column for column in source.columns if column not in unseen)
    return source._replace(train=rows.annotated(source.train.weights, source.train.groups), columns=columns)
