"""What was found, for people and for scripts."""

from collections.abc import Sequence
from typing import Any

from tfpipe.doctor import rules
from tfpipe.doctor.facts import Machine
from tfpipe.doctor.finding import BAD, Finding
from tfpipe.text import one_line


def lines(found: Sequence[Finding]) -> list[str]:
    """For people: a line for each, its level in a column, and what it comes to."""
    subjects, levels = (max(len(one[i]) for one in found) for i in range(2))
    table = [f"{one.subject:<{subjects}}  {one.level:<{levels}}  {one_line(one.words)}" for one in found]
    wrong = [one for one in found if one.level == BAD]
    if not wrong:
        return [*table, "all that is wanted can be used"]
    first = f"{wrong[0].subject}: {one_line(wrong[0].words)}"
    return [*table, f"{len(wrong)} to mend; begin with {first}"]


def content(machine: Machine, found: Sequence[Finding], device: str) -> dict[str, Any]:
    """For scripts: whether all that is wanted can be used, what was found, and what was observed."""
    return {
        "usable": rules.is_usable(list(found)),
        "device": device,
        "findings": [one._asdict() for one in found],
        "machine": machine.as_json(),
    }
