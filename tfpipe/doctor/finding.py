"""What a rule says of the machine."""

from collections.abc import Iterable
from typing import NamedTuple

GOOD, NOTE, BAD = "good", "note", "bad"


class Finding(NamedTuple):
    """A line of the report.

    Attributes:
      subject: what it is about.
      level: `good`; `note`, of what works and could be better, or is not wanted; `bad`, of what keeps something that is
        wanted from working.
      what: that was found.
      remedy: what would be right; empty where there is nothing to do.
    """

    subject: str
    level: str
    what: str
    remedy: str = ""

    @property
    def words(self) -> str:
        """What was found, and what would be right."""
        return f"{self.what}; {self.remedy}" if self.remedy else self.what


def good(subject: str, what: str) -> Finding:
    """All is well."""
    return Finding(subject, GOOD, what)


def note(subject: str, what: str, remedy: str = "") -> Finding:
    """It works, and something is to be known of it."""
    return Finding(subject, NOTE, what, remedy)


def bad(subject: str, what: str, remedy: str) -> Finding:
    """It keeps something from working."""
    return Finding(subject, BAD, what, remedy)


def as_notes(findings: Iterable[Finding]) -> list[Finding]:
    """The same, where they keep nothing from working that is wanted."""
    return [found._replace(level=NOTE) if found.level == BAD else found for found in findings]
