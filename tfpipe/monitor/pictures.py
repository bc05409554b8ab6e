"""The pictures of a run: what each class looks for, what it is confused with, where the model is sure and wrong."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from tfpipe.data import Examples, lettering
from tfpipe.data.pictures import brightened
from tfpipe.model.artifact import TrainedModel
from tfpipe.model.diagnosis import Calibration, Diagnosis
from tfpipe.monitor.events import Selected

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Small images are enlarged by a whole factor to about this height, in pixels; larger ones are made as small as that.
_TILE = 96
_LARGEST_TILE = 128
_MARGIN = 8
_CAPTION = 14
_COLUMNS = 10
_WIDEST = 1600
_MOST_TEMPLATES = 100
_MOST_MISTAKES = 40
_MOST_NAMED_CLASSES = 40
_MOST_COUNTED_CLASSES = 25
_LONGEST_NAME = 16
# Of a name with escapes, `\u732b`: six of these.
_LONGEST_SHOWN = 36
_DPI = 100
# In inches.
_LARGEST_FIGURE = 12.0
_MOST_NAMED_VALUES = 16


def prepare() -> None:
    """Imports what draws: 0.4 s, which a run has time for while it trains."""
    import matplotlib.backends.backend_agg
    import matplotlib.figure  # noqa: F401


def of_model(event: Selected) -> dict[str, bytes]:
    """The pictures of a model, by name, as PNG; `templates` and `mistakes` where the examples are pictures.

    Without test examples there are `templates` alone.
    """
    model, diagnosis = event.model, event.diagnosis
    shows = is_picture(model.image_shape)
    lettering.look_for(model.class_names)
    drawn = {"templates": encoded(sheet(*templates(model), note=_note_of_templates(model)))} if shows else {}
    if diagnosis is None:
        return drawn
    names = [shortened(name) for name in model.class_names]
    if diagnosis.has_matrix:
        drawn["confusion_matrix"] = png(confusion_matrix(diagnosis.confusion_matrix(), names))
    if shows and (diagnosis.labels != diagnosis.predicted).any():
        drawn["mistakes"] = encoded(sheet(*mistakes(diagnosis, event.examples, names)))
    drawn["reliability"] = png(reliability(diagnosis.calibration()))
    if event.uncalibrated:
        drawn["reliability_before"] = png(reliability(event.uncalibrated.calibration()))
    return drawn


def of_grid(grid: Sequence[dict[str, Any]], settings: Sequence[str]) -> dict[str, bytes]:
    """The `path` of a search, or the `heat_map` of other heads of a report, if several have a validation error.

    Args:
      grid: the heads.
      settings: the names of what they are trained with.
    """
    if len(grid) > 1 and "standard_error" in grid[0]:
        return {"path": png(path(grid))}
    return {"heat_map": png(heat_map(grid, settings))} if sum(_error(head) is not None for head in grid) > 1 else {}


def of_draws(report: Mapping[str, Any]) -> dict[str, bytes]:
    """The `curve` of a report of which a kind of draws has several sizes."""
    points = [point for point in report.get("curves", []) if point["size"] is not None]
    kinds = [point["kind"] for point in points]
    return {"curve": png(curve(points, report["draws"]))} if len(kinds) > len(set(kinds)) else {}


def of_coefficients(report: Mapping[str, Any]) -> dict[str, bytes]:
    """The `coefficients` of a search over l2, where the report has them."""
    along_path = report.get("coefficients", {}).get("path")
    return {"coefficients": png(coefficients(along_path))} if along_path else {}


def is_picture(shape: Sequence[int]) -> bool:
    """Whether examples of this shape can be shown: `[H, W]`, or `[H, W, 1]` or `[H, W, 3]`."""
    return len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))


def templates(model: TrainedModel) -> tuple[np.ndarray, list[str]]:
    """Each class's weights as an image, and its name: `[K, H, W, 3]` uint8, of 100 classes at most.

    One scale for all, symmetric around 0. Gray images: red where light speaks for the class, white for 0, blue where it
    speaks against it. Colour images: middle gray for 0, each channel lighter or darker with its weight.
    """
    W = model.W.T[:_MOST_TEMPLATES].reshape(-1, *model.image_shape)
    values = W / max(np.abs(W).max(), np.finfo(W.dtype).tiny)  # In [-1, 1].
    captions = [lettering.isolated(shortened(name)) for name in model.class_names[:_MOST_TEMPLATES]]
    if values.ndim == 4 and values.shape[3] == 3:
        return np.round((values + 1) * 127.5).astype(np.uint8), captions
    return colours(values.reshape(values.shape[:3])), captions


def colours(values: np.ndarray) -> np.ndarray:
    """[-1, 1] -> `[..., 3]` uint8, in matplotlib's colour map RdBu_r: blue, white, red."""
    import matplotlib

    return matplotlib.colormaps["RdBu_r"]((values + 1) / 2, bytes=True)[..., :3]


def mistakes(diagnosis: Diagnosis, examples: Examples, names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """The most confident mistakes: `[m, H, W, 3]` uint8, and what each was, was taken for, and how surely."""
    rows = diagnosis.mistakes(_MOST_MISTAKES)
    tiles = brightened(examples.stored[examples.rows[rows]])
    tiles = tiles.reshape(*tiles.shape[:3], -1)
    names = [lettering.isolated(name) for name in names]
    captions = [
        f"{names[diagnosis.labels[row]]} → {names[diagnosis.predicted[row]]}, {diagnosis.confidence[row]:.0%}"
        for row in rows
    ]
    return np.broadcast_to(tiles, (*tiles.shape[:3], 3)), captions


def sheet(tiles: np.ndarray, captions: Sequence[str], note: str = "") -> Image.Image:
    """`[n, H, W, 3]` uint8 side by side, each enlarged by a whole factor, with its caption below.

    There are ten in a row, or fewer where captions are long. Images of more than 128 pixels a side are made smaller: a
    page with many of them would weigh megabytes. `note` is a line below all, if there is something to say.
    """
    longest = max(tiles.shape[1:3])
    scale: float = max(1, _TILE // longest) if longest <= _LARGEST_TILE else _LARGEST_TILE / longest
    height, width = (max(1, round(scale * side)) for side in tiles.shape[1:3])
    resampling = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX
    cell = max(width, *(lettering.length(caption, _CAPTION) for caption in captions)) + _MARGIN
    line = height + 2 * _MARGIN + _CAPTION
    columns = min(_COLUMNS, len(tiles), max(1, (_WIDEST - _MARGIN) // cell))
    below = -(-len(tiles) // columns) * line + _MARGIN
    picture = Image.new("RGB", (columns * cell + _MARGIN, below + (line - height if note else 0)), "white")
    draw = ImageDraw.Draw(picture)
    for number, (tile, caption) in enumerate(zip(tiles, captions, strict=True)):
        left, top = _MARGIN + number % columns * cell, _MARGIN + number // columns * line
        picture.paste(Image.fromarray(np.ascontiguousarray(tile)).resize((width, height), resampling), (left, top))
        lettering.draw(draw, (left, top + height + _MARGIN // 2), caption, _CAPTION)
    if note:
        lettering.draw(draw, (_MARGIN, below), note, _CAPTION)
    return picture


def confusion_matrix(counts: np.ndarray, names: Sequence[str]) -> "Figure":
    """`[K, K]` counts: true classes down, predicted ones across. The colours show the shares of each true class."""
    from matplotlib.figure import Figure

    n = len(counts)
    size = min(_LARGEST_FIGURE, 2.5 + 0.45 * n)
    figure = Figure(figsize=(size, size), layout="constrained")
    axis = figure.add_subplot()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    # The root, so that what is rare is seen beside what is right.
    axis.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)
    if n <= _MOST_COUNTED_CLASSES:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.4 else "black"
                axis.text(column, row, f"{count:d}", ha="center", va="center", color=colour, fontsize=8)
    if n <= _MOST_NAMED_CLASSES:
        names = [lettering.for_matplotlib(lettering.drawable(name)) for name in names]
        text: dict[str, Any] = {"parse_math": False, "fontfamily": lettering.families(names)}
        axis.set_xticks(range(n), names, rotation=90 if max(map(len, names)) > 2 else 0, **text)
        axis.set_yticks(range(n), names, **text)
    axis.set(xlabel="predicted", ylabel="true", title=f"{np.trace(counts)} of {counts.sum()} are right")
    return figure


def reliability(calibration: Calibration) -> "Figure":
    """The share that is right against the probability that the model gave: on the diagonal its word is worth itself."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5, 4.5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    begin, width = calibration.edges[:-1], np.diff(calibration.edges)
    upper.bar(begin, np.nan_to_num(calibration.accuracy), width, align="edge", color="#5b84b1", edgecolor="white")
    upper.plot([0, 1], [0, 1], "--", color="gray")
    upper.plot(calibration.confidence, calibration.accuracy, "o", color="#d95f02", markersize=4)
    upper.set(ylim=(0, 1), ylabel="share that is right", title=f"expected calibration error {calibration.error:.2%}")
    lower.bar(begin, calibration.examples, width, align="edge", color="#b8b8b8", edgecolor="white")
    lower.set(xlim=(0, 1), xlabel="probability of the predicted class", ylabel="examples")
    return figure


def path(grid: Sequence[dict[str, Any]]) -> "Figure":
    """The validation cost of each setting of a search, with its standard error, over l2; the least is marked."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axis = figure.add_subplot()
    measured = [head for head in grid if head["validation_cost"] is not None and head["l2"] > 0]
    for scale in sorted({head["standardize"] for head in measured}):
        own = [head for head in measured if head["standardize"] == scale]
        l2, cost, error = ([head[name] or 0 for head in own] for name in ("l2", "validation_cost", "standard_error"))
        axis.errorbar(l2, cost, error, marker="o", markersize=4, capsize=3, label=f"standardize={scale}")
    if measured:
        best = min(measured, key=lambda head: head["validation_cost"])
        axis.plot(best["l2"], best["validation_cost"], "o", markersize=14, fillstyle="none", color="black")
        axis.legend()
    axis.set(xscale="log", yscale="log", xlabel="l2", ylabel="validation cost", title="what was tried")
    axis.grid(visible=True, which="major", alpha=0.3)
    return figure


def curve(points: Sequence[dict[str, Any]], draws: Sequence[dict[str, Any]]) -> "Figure":
    """The test error over the rows that were trained on: each draw, and the mean of a size with its 95 % interval."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axis = figure.add_subplot()
    for number, kind in enumerate(dict.fromkeys(point["kind"] for point in points)):
        own, colour = [point for point in points if point["kind"] == kind], f"C{number}"
        of_kind = [draw for draw in draws if draw["kind"] == kind]
        axis.plot(
            *([draw[name] for draw in of_kind] for name in ("rows", "error")), "x", color=colour, alpha=0.7, zorder=3
        )
        rows, mean = [point["rows"] for point in own], [point["error"]["mean"] for point in own]
        low, high = ([point["error"][side] for point in own] for side in ("low", "high"))
        ends = [(m, m) if lo is None else (lo, hi) for m, lo, hi in zip(mean, low, high, strict=True)]
        bars = np.abs(np.array(ends).T - mean)
        axis.errorbar(rows, mean, bars, marker="o", markersize=5, capsize=3, color=colour, label=kind)
    axis.legend()
    axis.set(xscale="log", xlabel="training rows", ylabel="test error", title="what fewer training rows do")
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:.1%}")
    axis.grid(visible=True, which="major", alpha=0.3)
    return figure


def coefficients(along_path: Mapping[str, Any]) -> "Figure":
    """The norms of the largest columns over l2, as `model.coefficients.along_path` has them; a line at what was taken.

    As glmnet draws them for several classes, by `type.coef="2norm"`: a line for each column, whatever K.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 4.5), layout="constrained")
    axis = figure.add_subplot()
    order = np.argsort(along_path["l2"])
    l2, norms = np.array(along_path["l2"])[order], np.array(along_path["norms"])[order]
    names = [shortened(name) for name in along_path["columns"]]
    lines = [axis.plot(l2, of_column, marker="o", markersize=3)[0] for of_column in norms.T]
    axis.axvline(along_path["taken"], color="black", linestyle="--", linewidth=1)
    # With its rank, for matplotlib leaves out a label that begins with an underscore.
    labels = [f"{rank}: {lettering.for_matplotlib(name)}" for rank, name in enumerate(names, start=1)]
    legend = figure.legend(lines, labels, loc="outside right upper", prop={"family": lettering.families(names)})
    for text in legend.get_texts():
        text.set_parse_math(False)
    axis.set(xscale="log", xlabel="l2", ylabel="norm over the classes", title="the largest coefficients")
    axis.grid(visible=True, which="major", alpha=0.3)
    return figure


def heat_map(grid: Sequence[dict[str, Any]], settings: Sequence[str]) -> "Figure":
    """The validation error of each head over two of its settings, the first one across; the smallest are framed.

    One of the heads at least must have one. Where heads differ in more than two settings, a field shows the best.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    values = {name: sorted({head[name] for head in grid}) for name in settings}
    across, down, *_ = [*sorted(settings, key=lambda name: len(values[name]) == 1), None]
    columns, rows = values[across], values.get(down, [0.0])
    errors = np.full((len(rows), len(columns)), np.nan)
    for head in grid:
        if (error := _error(head)) is not None:
            place = rows.index(head.get(down, 0.0)), columns.index(head[across])
            errors[place] = np.fmin(errors[place], error)
    wanted = 2.5 + 0.7 * len(columns), 2 + 0.45 * len(rows)
    width, height = (min(_LARGEST_FIGURE, side) for side in wanted)
    figure = Figure(figsize=(width, height), layout="constrained")
    axis = figure.add_subplot()
    image = axis.imshow(errors, cmap="viridis_r", aspect="auto")
    for (row, column), error in np.ndenumerate(errors):
        if (width, height) == wanted:  # There is room for words.
            text = "-" if np.isnan(error) else f"{error:.2%}"
            axis.text(
                column, row, text, ha="center", va="center", fontsize=8, color="black", backgroundcolor="#ffffffa0"
            )
        if error == np.nanmin(errors):
            axis.add_patch(
                Rectangle((column - 0.47, row - 0.45), 0.94, 0.9, fill=False, edgecolor="black", linewidth=2)
            )
    for set_ticks, ticks in ((axis.set_xticks, columns), (axis.set_yticks, rows if down else [])):
        shown = range(0, len(ticks), -(-len(ticks) // _MOST_NAMED_VALUES) or 1)
        set_ticks(shown, [f"{ticks[number]:.3g}" for number in shown])
    names = {"xlabel": across, "ylabel": down or ""}
    axis.set(**{axis_: name.replace("_", " ") for axis_, name in names.items()}, title="validation error")
    figure.colorbar(image, format=lambda value, _: f"{value:.1%}")
    return figure


def png(figure: "Figure") -> bytes:
    """The figure as a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    figure.set_dpi(_DPI)
    FigureCanvasAgg(figure).print_png(buffer)  # The bytes of `savefig`, which draws twice: a quarter less time.
    return buffer.getvalue()


def encoded(picture: Image.Image) -> bytes:
    """The picture as a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def size(picture: bytes) -> tuple[int, int]:
    """Width and height of a PNG file."""
    return Image.open(io.BytesIO(picture)).size


def shortened(name: str) -> str:
    """A class name that has room in a picture, with escapes for what no font has."""
    cut = len(name)
    shown = lettering.drawable(name)
    while cut > _LONGEST_NAME or len(shown) > _LONGEST_SHOWN:
        cut = min(cut, _LONGEST_NAME) - 1
        shown = f"{lettering.drawable(name[:cut])}…"
    return shown


def _note_of_templates(model: TrainedModel) -> str:
    n = len(model.class_names)
    return f"the first {_MOST_TEMPLATES} of {n} classes" if n > _MOST_TEMPLATES else ""


def _error(head: dict[str, Any]) -> float | None:
    return None if head["diverged"] else head["validation_error"]
