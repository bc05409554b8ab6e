"""What the picture files of a folder or a list are, by their headers: whatever a reader makes of them, or refuses."""

import collections
import concurrent.futures
import contextlib
import os
import pathlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from PIL import Image

from tfpipe.compute import cpu, host
from tfpipe.config import DataConfig, Reading
from tfpipe.data import picture_files, pictures
from tfpipe.data.addresses import Places
from tfpipe.data.picture_files import Listing
from tfpipe.data.readers import picture_list, registry
from tfpipe.exceptions import ConfigError, DataError, brief
from tfpipe.text import one_line

# Pillow's names of modes that people call otherwise.
_MODES = {
    "1": "1 bit", "L": "gray", "LA": "gray, transparency", "P": "palette", "PA": "palette, transparency",
    "RGB": "RGB", "RGBA": "RGBA", "CMYK": "CMYK", "I": "gray, 32 bits", "F": "floating point",
}  # fmt: skip
_MOST_SIZES = 5
_MOST_NAMED = 100
_SHOWN_NAMES = 5


class _Header(NamedTuple):
    """What the header of a picture says; or, of one that does not open, what is wrong."""

    format: str = ""
    height: int = 0
    width: int = 0
    mode: str = ""
    orientation: int = 1
    is_transparent: bool = False
    is_deep: bool = False
    is_coloured: bool = False
    problem: str = ""


def of_data(config: DataConfig, places: Places | None = None) -> dict[str, Any] | None:
    """`of_files` of the data that `config` names, if that is a folder of pictures or a list of them; else None.

    Of a folder the pictures at any depth, in classes or not. `places` is as for `loading.loaded`.
    """
    with contextlib.suppress(DataError, ConfigError):  # Who loads it says what is wrong.
        here = (places or Places(config)).local(config)
        found = registry.find(here)
        if "orientation" not in found.format.options:
            return None
        if os.path.isdir(found.what):
            return of_files(found.what, picture_files.below(str(found.what)))
        return of_files(*picture_list.listing(found.what, here.images_dir, here.label_column))
    return None


def of_files(root: pathlib.Path, listing: Listing) -> dict[str, Any]:
    """What the headers of files say, as JSON can hold it.

    Args:
      root: the folder from which their names are told.
      listing: the files.

    Returns:
      `files`: how many pictures there are; `formats`, `modes`, `orientations` (as EXIF numbers them): how many of each,
      the most frequent first; `sizes`: the five most frequent, each with `height` and `width`, as turned upright, and
      `files`; `different_sizes`: how many there are; `transparent`, `deep` (gray of more than 8 bits a pixel) and
      `coloured` (by their mode): how many; `bad`: those that do not open, by name, with what is wrong; `skipped`: other
      files, by name; of both the first 100, and in `bad_files` and `skipped_files` their numbers; `hidden`: how many
      files are hidden or of the system.
    """
    with (
        host.as_error(Image.DecompressionBombWarning),  # Of so many pixels they are not read.
        concurrent.futures.ThreadPoolExecutor(cpu.cores()) as pool,
    ):
        headers = list(pool.map(_header, listing.pictures))
    sound = [header for header in headers if not header.problem]
    bad = [(path, header.problem) for path, header in zip(listing.pictures, headers, strict=True) if header.problem]
    bad += listing.problems
    sizes = collections.Counter((header.height, header.width) for header in sound).most_common()

    def named(path: str) -> str:
        return one_line(os.path.relpath(path, root))

    return {
        "files": len(headers),
        "formats": _counts(header.format for header in sound),
        "sizes": [{"height": h, "width": w, "files": count} for (h, w), count in sizes[:_MOST_SIZES]],
        "different_sizes": len(sizes),
        "modes": _counts(header.mode for header in sound),
        "orientations": _counts(str(header.orientation) for header in sound),
        "transparent": sum(header.is_transparent for header in sound),
        "deep": sum(header.is_deep for header in sound),
        "coloured": sum(header.is_coloured for header in sound),
        "bad": {named(path): problem for path, problem in bad[:_MOST_NAMED]},
        "bad_files": len(bad),
        "skipped": [named(path) for path in listing.skipped[:_MOST_NAMED]],
        "skipped_files": len(listing.skipped),
        "hidden": listing.hidden,
    }


def table(survey: dict[str, Any]) -> str:
    """The same for people, and what each flag of pictures concerns."""
    sound = sum(survey["formats"].values())
    upright = survey["orientations"].get("1", 0)
    turned = {"upright" if n == "1" else f"turned (EXIF {n})": count for n, count in survey["orientations"].items()}
    sizes = [f"{one['files']} of {one['height']} x {one['width']}" for one in survey["sizes"]]
    more = survey["different_sizes"] - len(sizes)
    lines = [
        ("picture files", f"{survey['files']}"),
        ("formats", _words(survey["formats"])),
        ("height x width", ", ".join(sizes) + f" and {more} other sizes" * bool(more)),
        ("modes", _words(survey["modes"])),
        ("orientations", _words(turned)),
        ("do not open", _names([*survey["bad"]], survey["bad_files"])),
        ("no pictures", _names(survey["skipped"], survey["skipped_files"])),
        ("hidden", f"{survey['hidden']}"),
    ]
    usual = survey["sizes"][0]["files"] if survey["sizes"] else 0
    flags = [
        ("--image_size", sound - usual, "of another size than most"),
        ("--fit", sound - usual, "the same"),
        ("--color_mode", survey["coloured"], "with colours by their mode"),
        ("--orientation", sound - upright, "turned upright"),
        ("--background", survey["transparent"], "transparent"),
        ("--gray_max", survey["deep"], "gray of more than 8 bits a pixel"),
        ("--decoding", sum(survey["formats"].get(name, 0) for name in ("JPEG", "MPO")), "JPEG"),
        ("--skip_bad_images", survey["bad_files"], "that do not open"),
    ]
    lines += [(flag, f"concerns {count} of {survey['files']}: {which}") for flag, count, which in flags]
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name.ljust(width)}  {words}" for name, words in lines)


def _header(path: str) -> _Header:
    try:
        with open(path, "rb") as file, pictures.opened(file, os.path.basename(path)) as picture:
            return _Header(
                picture.format or "",
                *pictures.upright_size(picture, Reading()),
                "gray, 16 bits" if picture.mode.startswith("I;") else _MODES.get(picture.mode, picture.mode),
                pictures.orientation(picture),
                picture.has_transparency_data,
                pictures.is_deep(picture),
                not pictures.is_gray(picture),
            )
    except MemoryError:
        raise
    except Exception as error:  # Damage shows in many kinds of errors, depending on the format.
        return _Header(problem=brief(error))


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(collections.Counter(values).most_common())


def _words(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "-"


def _names(names: list[str], total: int) -> str:
    if not total:
        return "0"
    shown = names[:_SHOWN_NAMES]
    more = total - len(shown)
    return f"{total}: {', '.join(shown)}" + f" and {more} more" * bool(more)
