"""Tables of plain text."""


def aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """The lines of a table: every column as wide as its widest cell, cells to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
