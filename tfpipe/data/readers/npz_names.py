"""Which arrays of an `.npz`, or of a file like it, are what: by the names that people use, else by their shapes."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from tfpipe.data.split_names import NAMES
from tfpipe.exceptions import ConfigError, DataError, enumeration


class Form(NamedTuple):
    """What an array is, as its header says: its shape and the type of its values."""

    shape: tuple[int, ...]
    dtype: np.dtype


class Names(NamedTuple):
    """What the arrays of a split are called, in an archive or in errors; None: it has none."""

    images: str
    labels: str
    weights: str | None = None
    groups: str | None = None


class Roles(NamedTuple):
    """What the arrays of an archive are.

    Attributes:
      splits: of train, validation and test; None where there is no such split.
      class_names: None where there are none.
      unused: arrays that are none of these.
    """

    splits: tuple[Names | None, ...]
    class_names: str | None
    unused: list[str]


_KINDS = {
    "images": "images?|x|data|features|embeddings|inputs",
    "labels": "labels?|y|targets?",
    "weights": "sample_weights?",
    "groups": "groups",
}
# Between the words of a name, or a group and its array; or nothing is.
_BETWEEN = "[_/.]?"
_CLASS_NAMES = re.compile("class_names|target_names|label_names", re.IGNORECASE)
# Where several may be meant, these are: images and labels of each split. Older versions read no others.
_PREFERRED = (
    {
        split: (f"{prefix}images", f"{prefix}labels")
        for split, prefix in zip(NAMES, ("", "validation_", "test_"), strict=True)
    },
    {split: (f"x_{suffix}", f"y_{suffix}") for split, suffix in zip(NAMES, ("train", "val", "test"), strict=True)},
)
_EXPECTED = (
    "expected images [N, ...] and labels [N], by names such as images and labels, X and y, or x_train and y_train (and "
    "x_test, y_test); --images_key and --labels_key say which they are"
)


def roles(where: str, forms: Mapping[str, Form], images_key: str | None = None, labels_key: str | None = None) -> Roles:
    """What each array is.

    A name says what it is, and of which split: `test_labels`, `y_test`, `X`, `test/images`; upper and lower case are
    alike. Training images and labels of other names are told by their shapes: the only array `[N, ...]` of numbers
    beside the only one `[N]`.

    Args:
      where: the archive, in errors.
      forms: its arrays.
      images_key: the name of the training images, where the user gives it.
      labels_key: the same for their labels.

    Raises:
      DataError: there are no images with labels, or it is not clear which they are; or something goes with no images.
      ConfigError: a key names no array.
    """
    for option, key in (("images_key", images_key), ("labels_key", labels_key)):
        if key is not None and key not in forms:
            raise ConfigError(option, key, f"{where} holds {_listed(forms)}")
    meant = _meant(forms)
    preferred = next((pairs for pairs in _PREFERRED if set(pairs["train"]) <= set(forms)), {})
    images, labels = preferred.get("train", (None, None))
    images = images_key or images or _only(where, "images", meant.get(("train", "images"), []), labels_key)
    labels = labels_key or labels or _only(where, "labels", meant.get(("train", "labels"), []), images_key)
    train = _by_shape(where, forms, images, labels, meant)
    splits: dict[str, Names | None] = {"train": train}
    for split in ("validation", "test"):
        pair = preferred.get(split, ())
        splits[split] = Names(*pair) if pair and set(pair) <= set(forms) else _others(where, split, meant, train)
    for (split, kind), names in meant.items():
        of_split = splits[split]
        if kind not in ("weights", "groups"):
            continue
        if of_split is None:
            raise DataError(f"{where}: holds {names[0]}, which goes with no images there; expected {split}_images")
        name = _only(where, f"{split} {kind}", names)
        splits[split] = of_split._replace(weights=name) if kind == "weights" else of_split._replace(groups=name)
    class_names = _only(where, "class_names", [name for name in forms if _CLASS_NAMES.fullmatch(name)])
    used = {class_names, *(name for of_split in splits.values() if of_split for name in of_split)}
    return Roles(tuple(splits.values()), class_names, sorted(set(forms) - used))


def is_known(name: str) -> bool:
    """Whether the name says what an array is."""
    return bool(_meant([name]) or _CLASS_NAMES.fullmatch(name))


def _meant(names: Iterable[str]) -> dict[tuple[str, str], list[str]]:
    """The names by what they mean: split and kind."""
    meant: dict[tuple[str, str], list[str]] = {}
    for kind, stems in _KINDS.items():
        for split in NAMES:
            words = "|".join(NAMES[split])
            pattern = f"({words}){_BETWEEN}({stems})|({stems}){_BETWEEN}({words})" + f"|({stems})" * (split == "train")
            if found := [name for name in sorted(names) if re.fullmatch(pattern, name, re.IGNORECASE)]:
                meant[split, kind] = found
    return meant


def _only(where: str, what: str, names: list[str], *others: str | None) -> str | None:
    """The one of these names that is none of `others`; None if there is none."""
    left = [name for name in names if name not in others]
    if len(left) > 1:
        remedy = f"--{what}_key says which" if what in ("images", "labels") else "expected one of them"
        raise DataError(f"{where}: holds {' and '.join(left)}, each of which may be the {what}; {remedy}")
    return left[0] if left else None


def _others(where: str, split: str, meant: Mapping[tuple[str, str], list[str]], train: Names) -> Names | None:
    """The images and labels of a split other than the training split."""
    kinds = ("images", "labels")
    images, labels = (_only(where, f"{split} {kind}", meant.get((split, kind), []), *train[:2]) for kind in kinds)
    if images is not None and labels is not None:
        return Names(images, labels)
    if images is None and labels is None:
        return None
    raise DataError(f"{where}: holds {images or labels} alone; expected {split}_images and {split}_labels")


def _by_shape(
    where: str,
    forms: Mapping[str, Form],
    images: str | None,
    labels: str | None,
    meant: Mapping[tuple[str, str], list[str]],
) -> Names:
    """The training images and labels, by their shapes where they are not known by name."""
    known = {name for names in meant.values() for name in names}
    free = [name for name in forms if name not in known and not _CLASS_NAMES.fullmatch(name)]
    of_images = [images] if images else [name for name in free if name != labels and _may_be_images(forms[name])]
    of_labels = [labels] if labels else [name for name in free if name != images and _may_be_labels(forms[name])]
    pairs = [
        (one, other)
        for one in of_images
        for other in of_labels
        if one != other and ((images and labels) or forms[one].shape[:1] == forms[other].shape[:1])
    ]
    if not pairs:
        raise DataError(f"{where}: holds {_listed(forms)}; {_EXPECTED}")
    if len(pairs) > 1:
        shown = " or ".join(f"{one} with {other}" for one, other in pairs[:3])
        raise DataError(f"{where}: {shown} may be images with labels; --images_key and --labels_key say which are")
    return Names(*pairs[0])


def _may_be_images(form: Form) -> bool:
    return len(form.shape) >= 2 and form.shape[1:] != (1,) and form.dtype.kind in "fiu"


def _may_be_labels(form: Form) -> bool:
    return form.dtype.kind in "biufUSO" and (len(form.shape) == 1 or form.shape[1:] == (1,))


def _listed(forms: Mapping[str, Form]) -> str:
    """The arrays with their shapes, the first eight."""
    each = [f"{name} [{', '.join(map(str, form.shape))}]" for name, form in sorted(forms.items())]
    return enumeration(each, 8) if each else "nothing"
