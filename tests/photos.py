"""Pictures that have what makes photos hard: all scales at once, colours, and edges."""

import numpy as np
from PIL import Image, ImageFilter


def photo(seed, height, width):
    """An RGB picture: noise whose amplitude falls with the frequency, as in photos, alike in all channels."""
    random = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, np.newaxis], np.fft.rfftfreq(width))
    frequency[0, 0] = np.inf
    channels = np.fft.irfft2(np.fft.rfft2(random.normal(size=(3, height, width))) / frequency**1.1, (height, width))
    channels /= channels.std(axis=(1, 2), keepdims=True)
    channels[1:] = 0.9 * channels[0] + 0.4 * channels[1:]
    return Image.fromarray((127 + 50 * np.moveaxis(channels, 0, -1)).clip(0, 255).astype(np.uint8))


def blurred_noise(seed, height, width):
    """An RGB picture on which decoders differ most: coloured blots of a few pixels, as dark and bright as can be."""
    random = np.random.default_rng(seed)
    noise = Image.fromarray(random.integers(0, 256, (height, width, 3)).astype(np.uint8))
    blurred = np.asarray(noise.filter(ImageFilter.GaussianBlur(2)), np.float64)
    return Image.fromarray((127 + 8 * (blurred - 127)).clip(0, 255).astype(np.uint8))
