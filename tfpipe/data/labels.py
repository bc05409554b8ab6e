"""Labels of any form that people store, as numbers of classes."""

import numpy as np

from tfpipe.data.class_names import composed, doubtful, spelled_in_two_ways
from tfpipe.exceptions import DataError, brief, enumeration
from tfpipe.log import log

# Whole numbers up to here float64 tells apart.
_LARGEST_WHOLE = 2.0**53


def encode(
    splits: list[tuple[np.ndarray, str]], *, numbered: bool = False, names: tuple[str, ...] | None = None
) -> tuple[list[np.ndarray], tuple[str, ...] | None]:
    """Brings the labels of all splits of a data set to numbers.

    Labels are integers of any width, floating-point numbers that are whole, or text, `[N]` or `[N, 1]`; or one-hot rows
    `[N, K]`. Integers of which the least is 0 are the numbers of their classes. Where it is another, such as -1 or 1,
    they are names like text: the classes are those that the training split has, in order. Spellings of a text that
    Unicode holds equal are one class, spelled as first in training; a line of the log says so, and a warning that names
    differ in case or outer space alone.

    Args:
      splits: `(labels, name)` of each split, the training split first; `name` is for error messages.
      numbered: integers are the numbers of their classes also where the least is above 0.
      names: K texts, the names of the classes of integer labels: from 0 on, or from 1 to K; None: they have none.

    Returns:
      `[N]` integers for each split, and the class names; None where the classes have numbers alone.

    Raises:
      DataError: labels of another form; a class that no training example has, or of which `names` has no name, or
        one of two.
    """
    encoded, class_names = _encoded(splits, numbered=numbered, names=names)
    if class_names is not None:
        _tell(splits, class_names)
    return encoded, class_names


def _encoded(
    splits: list[tuple[np.ndarray, str]], *, numbered: bool, names: tuple[str, ...] | None = None
) -> tuple[list[np.ndarray], tuple[str, ...] | None]:
    """As `encode`, which tells of doubtful names."""
    # The columns of one-hot rows are the numbers, also where the first holds no 1.
    numbered = numbered or any(labels.ndim == 2 and labels.shape[1] > 1 for labels, _ in splits)
    flat = [(_flat(labels, name), name) for labels, name in splits]
    if all(labels.dtype.kind in "iu" for labels, _ in flat):
        least = min((int(labels.min()) for labels, _ in flat if len(labels)), default=0)
        if names is not None and least >= 0:
            return _named(flat, names, least)
        if least == 0 or (numbered and least > 0):
            return [labels for labels, _ in flat], None
        return _numbered(flat)
    for labels, name in flat:
        if labels.dtype.kind not in "US":
            raise DataError(f"{name}: labels of type {labels.dtype}; expected integers, or strings in every split")
    return _numbered([(decoded(labels, name), name) for labels, name in flat])


def of_examples(labels: np.ndarray, name: str) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """`[N]` integers from 0 on, and the class names where the labels are text, or one of them is below 0.

    Raises:
      DataError: labels of another form than `encode` takes.
    """
    (numbers,), class_names = _encoded([(labels, name)], numbered=True)
    return numbers, class_names


def _flat(labels: np.ndarray, name: str) -> np.ndarray:
    """Integers or text `[N]`, from those, booleans or whole floating-point numbers `[N]` or `[N, 1]`, or one-hot rows.

    Raises:
      DataError: labels of another form.
    """
    if isinstance(labels, np.ma.MaskedArray):
        raise DataError(f"{name}: labels in a masked array, whose mask would be lost; leave out the examples it masks")
    if labels.dtype.kind == "b":
        labels = labels.astype(np.uint8)
    if labels.ndim == 2 and labels.shape[1] > 1:
        if labels.dtype.kind in "iuf" and ((labels == 0) | (labels == 1)).all() and (labels.sum(axis=1) == 1).all():
            return labels.argmax(axis=1)
        raise DataError(f"{name}: labels of shape {labels.shape} that are not one-hot; expected [N], or one 1 a row")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise DataError(f"{name}: labels of shape {labels.shape}; expected [N]")
    return _whole(labels, name) if labels.dtype.kind == "f" else labels


def _whole(labels: np.ndarray, name: str) -> np.ndarray:
    """`[N]` int64, from whole numbers."""
    values = labels.astype(np.float64)
    with np.errstate(invalid="ignore"):
        wrong = ~((values == np.floor(values)) & (np.abs(values) <= _LARGEST_WHOLE))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(f"{name}: label {labels[row]:g} of example {row}; expected whole numbers, or text")
    return values.astype(np.int64)


def _named(
    splits: list[tuple[np.ndarray, str]], names: tuple[str, ...], least: int
) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Numbers of classes that have names."""
    largest, name = max((int(labels.max()), name) for labels, name in splits if len(labels))
    if least >= 1 and largest < len(names):
        found = f"labels from {least} to {largest} and {len(names)} class names, of which the first may be of 0 or of 1"
        expected = f"expected a label 0 or {len(names)}; numbered_classes takes the labels without these names"
        raise DataError(f"{name}: {found}; {expected}")
    # From 1 to K, of K names: number 0 has none.
    first = 1 if least >= 1 and largest == len(names) else 0
    if largest - first >= len(names):
        raise DataError(f"{name}: label {largest}, and {len(names)} class names; expected one for each class from 0 on")
    return [labels.astype(np.int64) - first for labels, _ in splits], names


def _numbered(splits: list[tuple[np.ndarray, str]]) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Numbers in the order of the different values of the training split, which are the names."""
    different = [np.unique(labels, return_index=True, return_inverse=True) for labels, _ in splits]
    values, first, _ = different[0]
    spelled: dict[str | int, str | int] = {}
    for value in values[np.argsort(first)].tolist():
        spelled.setdefault(_key(value), value)
    classes = sorted(spelled.values())  # All are text, or all are integers.
    number_of = {_key(value): number for number, value in enumerate(classes)}
    numbers = []
    for (labels, name), (values, _, places) in zip(splits, different, strict=True):
        of_labels = np.array([number_of.get(_key(value), -1) for value in values.tolist()], np.int32)[places]
        if (of_labels < 0).any():
            row = int(np.argmin(of_labels))
            label, known = labels[row].item(), enumeration(list(map(str, classes)), 5)
            problem = f"no training example has it; those have {known}"
            raise DataError(f"{name}: label {label!r} of example {row}: {problem}")
        numbers.append(of_labels)
    return numbers, tuple(map(str, classes))


def _key(value: str | int) -> str | int:
    return composed(value) if isinstance(value, str) else value


def _tell(splits: list[tuple[np.ndarray, str]], class_names: tuple[str, ...]) -> None:
    """Says which labels of text are one class in two spellings, and which names of classes may be mistakes."""
    where = splits[0][1]
    texts = [decoded(labels, name) for labels, name in splits if labels.dtype.kind in "US"]
    for line in spelled_in_two_ways(text for labels in texts for text in np.unique(labels).tolist()):
        log.info("%s: %s", where, line)
    if doubts := doubtful(class_names):
        log.warning("%s: %s", where, doubts)


def decoded(labels: np.ndarray, name: str) -> np.ndarray:
    """Text of Unicode characters: NumPy keeps whatever numbers a file has for them."""
    try:
        if labels.dtype.kind == "S":
            return np.char.decode(labels, "utf-8")
        np.ascontiguousarray(labels).astype(labels.dtype.newbyteorder("<")).tobytes().decode("utf-32-le")
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: a label is no text: {brief(error)}") from error
    return labels
