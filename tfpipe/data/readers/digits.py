"""The 1,797 handwritten digits that scikit-learn ships (UCI "Optical Recognition of Handwritten Digits", test part)."""

import numpy as np

from tfpipe.data.examples import Examples
from tfpipe.data.readers.source import Source


def read() -> Source:
    """Images `[1797, 8, 8]` uint8 with values 0 to 16, ten classes, in the order of the original file."""
    from sklearn import datasets  # Costs 0.6 s to import, so only those pay who use it.

    bunch = datasets.load_digits()
    images = bunch.images.astype(np.uint8)  # Whole numbers stored as float64: nothing is lost.
    return Source(Examples(images, bunch.target, "digits"), validation=None, test=None, pixel_max=16.0)
