"""Where a library looks for others before the system does: what its file says (ELF, `DT_RUNPATH` or `DT_RPATH`)."""

import mmap
import pathlib
import struct

_MAGIC = b"\x7fELF\x02\x01"  # 64 bits, the lower bytes first: what TensorFlow is built for.
_LOAD, _DYNAMIC = 1, 2
_STRINGS, _RPATH, _RUNPATH = 5, 15, 29


def folders(library: pathlib.Path) -> list[pathlib.Path]:
    """The folders, in order, each once; `$ORIGIN` is that of the library.

    Raises:
      OSError: the file cannot be read.
      ValueError: it is no library of such a system.
    """
    with open(library, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content[:6] != _MAGIC:
            raise ValueError(f"{library} is no library of a 64-bit Linux")
        text = _run_path(content)
    origin = str(library.parent)
    places = [place.replace("$ORIGIN", origin).replace("${ORIGIN}", origin) for place in text.split(":") if place]
    return list(dict.fromkeys(pathlib.Path(place).resolve() for place in places))


def _run_path(content: mmap.mmap) -> str:
    begin, size, count = *struct.unpack_from("<Q", content, 0x20), *struct.unpack_from("<HH", content, 0x36)
    segments = [struct.unpack_from("<IIQQQQ", content, begin + i * size) for i in range(count)]
    loaded = [(address, offset, length) for kind, _, offset, address, _, length in segments if kind == _LOAD]
    for kind, _, offset, _, _, length in segments:
        if kind == _DYNAMIC:
            entries = dict(struct.iter_unpack("<qQ", content[offset : offset + length // 16 * 16]))
            place = entries.get(_RUNPATH, entries.get(_RPATH))
            if place is not None:
                strings = entries[_STRINGS]
                at = next(strings - a + o for a, o, length in loaded if a <= strings < a + length) + place
                return content[at : content.find(b"\0", at)].decode()
    return ""
