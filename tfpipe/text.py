"""Plain text: tables, and names on one line."""

import unicodedata

# Control characters, halves of surrogate pairs, and what separates lines and paragraphs.
_NOT_ON_A_LINE = ("Cc", "Cs", "Zl", "Zp")


def aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """The lines of a table: every column as wide as its widest cell, cells to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def is_one_line(text: str) -> bool:
    """Whether `text` stands on one line as it is: printable and format characters alone, such as those within emoji."""
    return not any(unicodedata.category(character) in _NOT_ON_A_LINE for character in text)


def one_line(text: str) -> str:
    """The same text; on one line, by escapes for what cannot stand there."""
    return "".join(c if is_one_line(c) else c.encode("unicode_escape").decode() for c in text)
