"""Text in pictures: in fonts that have its characters, and every name in its own direction."""

import functools
import itertools
import math
import pathlib
import re
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from PIL import ImageDraw, ImageFont, features

if TYPE_CHECKING:
    from matplotlib.font_manager import FontEntry

# Of these fonts each character is a box, or has colours, which cannot be drawn here.
_NOT_DRAWN = ("Last Resort", "Color Emoji")
_RIGHT_TO_LEFT = ("R", "AL")
# What begins and ends a part that is laid out by itself, whatever stands around it: Unicode Standard Annex 9.
_ISOLATE, _END = "\u2068", "\u2069"
_ISOLATES = re.compile("[\u2066-\u2069]")
_MIRRORED = str.maketrans("()[]{}<>«»", ")(][}{><»«")


class Font(NamedTuple):
    """A font file, and the numbers of the characters that it has."""

    family: str
    path: str
    characters: frozenset[int]


class _Fonts:
    """The fonts that were needed so far: DejaVu Sans, and installed ones for what that lacks."""

    def __init__(self) -> None:
        import matplotlib
        from matplotlib.ft2font import FT2Font

        # It comes with matplotlib, and knows more letters than Pillow's own font.
        path = str(pathlib.Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))
        self.found = [Font("DejaVu Sans", path, frozenset(FT2Font(path).get_charmap()))]
        self._nowhere: set[str] = set()

    def of(self, character: str) -> Font | None:
        return next((font for font in self.found if ord(character) in font.characters), None)

    def look_for(self, texts: Iterable[str]) -> None:
        missing = {c for c in set("".join(texts)) - self._nowhere if self.of(c) is None}
        if not missing:
            return
        from matplotlib import font_manager
        from matplotlib.ft2font import FT2Font

        for entry in sorted(font_manager.fontManager.ttflist, key=_plainness):
            if not missing:
                break
            if getattr(entry, "index", 0) or any(words in entry.name for words in _NOT_DRAWN):
                continue
            try:
                characters = frozenset(FT2Font(entry.fname).get_charmap())
            except (OSError, RuntimeError):  # It was removed, or is damaged.
                continue
            if has := {c for c in missing if ord(c) in characters}:
                self.found.append(Font(entry.name, entry.fname, characters))
                missing -= has
        self._nowhere |= missing


def look_for(texts: Iterable[str]) -> None:
    """Finds the fonts for all of these texts at once: of a character that no font has, all are searched."""
    needed = [text for text in texts if not _is_plain(text)]
    if needed:
        _fonts().look_for(needed)


def drawable(text: str) -> str:
    """The text, with escapes such as `\\u732b` for characters that no installed font has."""
    if _is_plain(text):
        return text
    look_for([text])
    return "".join(c if _fonts().of(c) else c.encode("unicode_escape").decode() for c in text)


def families(texts: Iterable[str]) -> list[str]:
    """The families of fonts that have the characters of these texts, for matplotlib."""
    characters = set("".join(texts))
    look_for(["".join(characters)])
    needed = {font.family for c in characters if (font := _fonts().of(c))}
    return [font.family for font in _fonts().found if font.family in needed] or ["DejaVu Sans"]


def isolated(name: str) -> str:
    """The name; where it has letters from right to left, marked so that these turn nothing else round."""
    return f"{_ISOLATE}{name}{_END}" if any(map(_is_right_to_left, name)) else name


def visual(name: str) -> str:
    """The characters as they stand from left to right, for programs that draw them in this order.

    Words from right to left are turned, numbers and words from left to right within them are not; of the rules of
    Unicode Standard Annex 9 these are what names of classes need.
    """
    if not any(map(_is_right_to_left, name)):
        return name
    clusters = [match[0] for match in re.finditer(r".[\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f]*", name)]
    directions = [_direction(cluster[0]) for cluster in clusters]
    base = "R" if _begins_right_to_left(name) else "L"
    for place, direction in enumerate(directions):
        if not direction:
            before = directions[place - 1] if place else base
            after = next((d for d in directions[place:] if d), base)
            directions[place] = before if before == after else base
    runs = []
    for direction, run in itertools.groupby(zip(directions, clusters, strict=True), key=lambda pair: pair[0]):
        of_run = [cluster for _, cluster in run]
        runs.append("".join(of_run) if direction == "L" else "".join(of_run[::-1]).translate(_MIRRORED))
    return "".join(runs if base == "L" else runs[::-1])


def for_matplotlib(name: str) -> str:
    """The name as matplotlib takes it: from version 3.11 on it knows directions."""
    import matplotlib

    return name if matplotlib.__version_info__ >= (3, 11) else visual(name)


def length(text: str, size: int) -> int:
    """How wide `draw` draws it, in pixels."""
    return sum(math.ceil(font.getlength(run)) for run, font in _laid_out(text, size))


def height(size: int) -> int:
    """How high a line is, in pixels."""
    return sum(_loaded(_fonts().found[0].path, size).getmetrics())


def draw(canvas: ImageDraw.ImageDraw, place: tuple[int, int], text: str, size: int) -> None:
    """Draws text in black, on one line whose upper left corner is `place`.

    Args:
      canvas: where.
      place: x and y.
      text: of characters that `drawable` leaves as they are.
      size: of the font, in pixels.
    """
    x, top = place
    ascent, _ = _loaded(_fonts().found[0].path, size).getmetrics()
    for run, font in _laid_out(text, size):
        canvas.text((x, top + ascent), run, fill="black", font=font, anchor="ls")
        x += math.ceil(font.getlength(run))


def _laid_out(text: str, size: int) -> list[tuple[str, ImageFont.FreeTypeFont]]:
    """From left to right, what is to be drawn in one font."""
    look_for([text])
    laid_out = []
    for part in _ISOLATES.split(text):
        runs: list[tuple[str, Font]] = []
        for character in part:
            font = _fonts().of(character) or _fonts().found[0]
            # A mark goes onto the letter before it, as far as one font can draw both.
            onto = unicodedata.combining(character) and runs and ord(character) in runs[-1][1].characters
            if runs and (onto or font is runs[-1][1]):
                runs[-1] = runs[-1][0] + character, runs[-1][1]
            else:
                runs.append((character, font))
        for run, font in runs[::-1] if _begins_right_to_left(part) else runs:
            shown = run if _knows_directions() else visual(run)
            laid_out.append((shown, _loaded(font.path, size)))
    return laid_out


@functools.cache
def _fonts() -> _Fonts:
    return _Fonts()


@functools.cache
def _loaded(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)


@functools.cache
def _knows_directions() -> bool:
    """Whether Pillow does, by the library Raqm."""
    return bool(features.check("raqm"))


def _plainness(entry: "FontEntry") -> tuple[bool, int, str, str]:
    distance = abs(entry.weight - 400) if isinstance(entry.weight, int) else 0  # 400 is normal, and has words too.
    return entry.style != "normal", distance, entry.name, entry.fname


def _is_plain(text: str) -> bool:
    """Whether any font has it: most names need no search for one."""
    return text.isascii() and text.isprintable()


def _is_right_to_left(character: str) -> bool:
    return unicodedata.bidirectional(character) in _RIGHT_TO_LEFT


def _begins_right_to_left(text: str) -> bool:
    strong = (c for c in text if unicodedata.bidirectional(c) in ("L", *_RIGHT_TO_LEFT))
    return _is_right_to_left(next(strong, "a"))


def _direction(character: str) -> str:
    if _is_right_to_left(character):
        return "R"
    return "L" if unicodedata.bidirectional(character) in ("L", "EN", "AN") else ""
