"""What the process imports that tests of the command are forked from: see tests.command."""

import sklearn.datasets  # noqa: F401

import tfpipe

tfpipe.train  # noqa: B018  # With TensorFlow, which has not begun to compute.
