"""The version of tfpipe: `setup.py` reads it here."""

__version__ = "0.1.0"
