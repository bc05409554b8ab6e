"""How long it takes to read a folder of pictures: 60,000 RGB PNG files of 32 x 32, as CIFAR-10 has them.

    python experiments/benchmark_pictures.py [FOLDER]

Writes the files to FOLDER (default: a temporary one), reads them three times with `tfpipe.load`, and deletes them.
Prints the seconds of each reading; the files are in the system's cache by then.
"""

import json
import pathlib
import sys
import tempfile
import time

import numpy as np
from PIL import Image

import tfpipe

FILES, CLASSES = 60_000, 10


def write(folder: pathlib.Path) -> None:
    random = np.random.default_rng(0)
    templates = random.integers(0, 128, (CLASSES, 32, 32, 3))
    for k in range(CLASSES):
        (folder / f"class_{k}").mkdir()
    for i in range(FILES):
        pixels = templates[i % CLASSES] + random.integers(0, 128, (32, 32, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"class_{i % CLASSES}" / f"{i:05}.png")


def main(parent: str | None) -> None:
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        write(pathlib.Path(folder))
        seconds = []
        for _ in range(3):
            begin = time.perf_counter()
            splits = tfpipe.load(folder)
            seconds.append(time.perf_counter() - begin)
        assert sum(map(len, (splits.train, splits.validation, splits.test))) == FILES
    print(json.dumps({"files": FILES, "seconds": seconds}))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
