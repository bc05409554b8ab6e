"""Labels of any form that people store, as numbers of classes."""

import numpy as np

from tfpipe.exceptions import DataError, brief


def encode(splits: list[tuple[np.ndarray, str]]) -> tuple[list[np.ndarray], tuple[str, ...] | None]:
    """Brings the labels of all splits of a data set to numbers.

    Args:
      splits: `(labels, name)` of each split, the training split first; `name` is for error messages. Labels are
        integers of any width or strings, `[N]` or `[N, 1]`; or one-hot rows `[N, K]`.

    Returns:
      `[N]` integers for each split, and the class names: for strings the sorted ones of the training split, else None.

    Raises:
      DataError: labels of another form; a string that no training example has.
    """
    flat = [(_flat(labels, name), name) for labels, name in splits]
    if all(labels.dtype.kind in "iu" for labels, _ in flat):
        return [labels for labels, _ in flat], None
    for labels, name in flat:
        if labels.dtype.kind not in "US":
            raise DataError(f"{name}: labels of type {labels.dtype}; expected integers, or strings in every split")
    texts = [(_decoded(labels, name), name) for labels, name in flat]
    classes = np.unique(texts[0][0])
    numbers = []
    for labels, name in texts:
        number = np.searchsorted(classes, labels).clip(max=len(classes) - 1)
        unknown = classes[number] != labels
        if unknown.any():
            row = int(np.argmax(unknown))
            raise DataError(f"{name}: label {str(labels[row])!r} of example {row}: no training example has it")
        numbers.append(number.astype(np.int32))
    return numbers, tuple(str(name) for name in classes)


def _decoded(labels: np.ndarray, name: str) -> np.ndarray:
    """Text of Unicode characters: NumPy keeps whatever numbers a file has for them."""
    try:
        if labels.dtype.kind == "S":
            return np.char.decode(labels, "utf-8")
        np.ascontiguousarray(labels).astype(labels.dtype.newbyteorder("<")).tobytes().decode("utf-32-le")
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: a label is no text: {brief(error)}") from error
    return labels


def _flat(labels: np.ndarray, name: str) -> np.ndarray:
    """`[N]`, from `[N]`, `[N, 1]` or one-hot `[N, K]`."""
    if labels.dtype.kind == "b":
        labels = labels.astype(np.uint8)
    if labels.ndim == 2 and labels.shape[1] == 1:
        return labels[:, 0]
    if labels.ndim == 2 and labels.shape[1] > 1:
        if labels.dtype.kind in "iuf" and ((labels == 0) | (labels == 1)).all() and (labels.sum(axis=1) == 1).all():
            return labels.argmax(axis=1)
        raise DataError(f"{name}: labels of shape {labels.shape} that are not one-hot; expected [N], or one 1 a row")
    if labels.ndim != 1:
        raise DataError(f"{name}: labels of shape {labels.shape}; expected [N]")
    return labels
