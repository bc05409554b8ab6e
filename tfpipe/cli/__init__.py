"""The command line. Nothing else in the package knows about flags."""
