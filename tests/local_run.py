"""A run in a local workdir, in a process that imports nothing for object stores by itself."""

import sys


def packages(folder):
    """Which packages for object stores the process has imported after it."""
    from tfpipe import TrainConfig, load, train

    train(TrainConfig(l2=0.01, device="cpu"), load("digits"), folder)
    return [name for name in ("fsspec", "s3fs", "gcsfs", "aiohttp", "botocore") if name in sys.modules]
