"""What a data set holds, for people who are about to train on it: figures, a table, a sheet of examples."""

from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from tfpipe.data import duplicates, lettering
from tfpipe.data.examples import Splits
from tfpipe.data.pictures import brightened
from tfpipe.exceptions import DataError
from tfpipe.text import aligned

_SPLITS = ("train", "validation", "test")
_EXAMPLES_A_CLASS = 10
_SHEET_CLASSES = 100
# Small images are enlarged to about this height, in pixels.
_TILE = 48
_MARGIN = 4
_TEXT = 12


def describe(splits: Splits, pictures: dict[str, Any] | None = None) -> dict[str, Any]:
    """The figures of a data set, as JSON can hold them.

    Args:
      splits: the data set.
      pictures: what `survey.of_data` says of the files that it is read from.

    Returns:
      `form` (what follows, in words), `image_shape`, `dtype`, `pixel_max`, `standardized`; `splits`: for each the
      number of examples, the range of the values `[min, max]`, null without examples, the number of examples of each
      class, in the order of `class_names`, the sum of their weights and the number of their groups, null where they
      have none, by which `split_order` they were taken from the data, null if it brings them, there are none, or
      that is not known, and the `duplicates` in them, as `Duplicates` counts them; `split_seed`, null unless some were
      drawn; `pictures`, as above; `reading`: how pictures of files became the images, null for other data; `columns`:
      the names of the columns of a table, of categories each with its value, null for other data; `notes`,
      `fingerprint`, as `Splits` has them.
    """
    parts = {name: getattr(splits, name) for name in _SPLITS}
    taken, config = splits.taken, splits.config
    found = (splits.duplicates or duplicates.search(splits)).counts
    orders = {name: config.split_order if config and name in taken else None for name in _SPLITS}
    return {
        "dataset": splits.config.dataset if splits.config else None,
        "form": splits.form,
        "image_shape": list(splits.image_shape),
        "dtype": str(splits.train.stored.dtype),
        "pixel_max": None if splits.standardization else splits.pixel_max,
        "standardized": splits.standardization is not None,
        "class_names": list(splits.class_names),
        "splits": {
            name: {
                "examples": len(part),
                "range": list(part.value_range()) if len(part) else None,
                "classes": np.bincount(part.labels, minlength=splits.n_out).tolist(),
                "weight": None if part.weights is None else float(part.weights.sum()),
                "groups": None if part.groups is None else len(np.unique(part.groups)),
                "split_order": orders[name],
                "duplicates": found[name]._asdict(),
            }
            for name, part in parts.items()
        },
        "split_seed": config.split_seed if config and "stratified" in orders.values() else None,
        "pictures": pictures,
        "reading": splits.reading._asdict() if splits.reading else None,
        "columns": None if splits.columns is None else list(map(str, splits.columns)),
        "notes": list(splits.notes),
        "fingerprint": splits.fingerprint,
    }


def table(description: dict[str, Any]) -> str:
    """The same for people: a line for each class."""
    parts = description["splits"]
    rows = [("class", *parts)]
    for k, name in enumerate(description["class_names"]):
        rows.append((name, *(str(part["classes"][k]) for part in parts.values())))
    rows.append(("all", *(str(part["examples"]) for part in parts.values())))
    for of_some in ("weight", "groups"):
        if any(part[of_some] is not None for part in parts.values()):
            of_each = [part[of_some] for part in parts.values()]
            rows.append((of_some, *("-" if value is None else f"{value:.6g}" for value in of_each)))
    ranges = [part["range"] for part in parts.values()]
    rows.append(("values", *("-" if values is None else "{:g} to {:g}".format(*values) for values in ranges)))
    rows.append(("split order", *(part["split_order"] or "-" for part in parts.values())))
    of_each = [part["duplicates"] for part in parts.values()]
    for key, words in (("repeated", "repeated"), ("seen", "in splits before"), ("label_differs", "label differs")):
        rows.append((words, *("-" if one[key] is None else str(one[key]) for one in of_each)))
    return "\n".join([f"{description['dataset']}: {description['form']}", *aligned(rows)])


def contact_sheet(splits: Splits) -> Image.Image:
    """A picture with a line for each class (100 at most): its name and its first ten training examples.

    Names have escapes for what no installed font has.

    Raises:
      DataError: the examples are rows of numbers, no pictures.
    """
    shape = splits.image_shape
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3)):
        raise DataError(f"{splits.train.name}: examples of shape {shape} are no pictures; expected [H, W] or [H, W, 3]")
    scale = max(1, _TILE // shape[0])
    height, width = shape[0] * scale, shape[1] * scale
    lettering.look_for(splits.class_names[:_SHEET_CLASSES])
    names = [lettering.isolated(lettering.drawable(name)) for name in splits.class_names[:_SHEET_CLASSES]]
    more = splits.n_out - len(names)
    line = lettering.height(_TEXT)
    text = max(lettering.length(name, _TEXT) for name in names) + 2 * _MARGIN
    below = len(names) * (height + _MARGIN) + _MARGIN
    size = text + _EXAMPLES_A_CLASS * (width + _MARGIN), below + (line + _MARGIN) * bool(more)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for k, name in enumerate(names):
        top = _MARGIN + k * (height + _MARGIN)
        lettering.draw(draw, (_MARGIN, top + (height - line) // 2), name, _TEXT)
        numbers = np.flatnonzero(splits.train.labels == k)[:_EXAMPLES_A_CLASS]
        if not len(numbers):
            continue
        for column, pixels in enumerate(brightened(splits.train.take(numbers).images)):
            tile = Image.fromarray(pixels.squeeze()).resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(tile, (text + column * (width + _MARGIN), top))
    if more:
        lettering.draw(draw, (_MARGIN, below), f"the first {len(names)} of {splits.n_out} classes", _TEXT)
    return sheet
