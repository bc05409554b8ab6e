"""Data sets: `load` brings any of them into one form, `Splits` of `Examples`. One file a format."""

from tfpipe.data.examples import Examples, Splits
from tfpipe.data.loading import load

__all__ = ["Examples", "Splits", "load"]
