"""From a decoded picture of any size and kind to the pixels that a model takes."""

import numpy as np
from PIL import Image

# What color_mode says, in Pillow's words.
MODES = {"grayscale": "L", "rgb": "RGB"}


def fitted(picture: Image.Image, size: tuple[int, int], mode: str) -> np.ndarray:
    """Brings a picture to `size`, height and width, by Pillow's bilinear filter: `[H, W]` or `[H, W, 3]` uint8.

    Args:
      picture: of any mode that Pillow has.
      size: height and width.
      mode: `L` or `RGB`.
    """
    if picture.mode.startswith("I"):  # 16 bits a pixel, which Pillow would clip.
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    picture = picture.convert(mode)
    if picture.size != size[::-1]:
        picture = picture.resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(picture)
