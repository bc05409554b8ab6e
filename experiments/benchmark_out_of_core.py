"""Training from a file that is larger than memory allows: rate and memory.

    python experiments/benchmark_out_of_core.py [FOLDER] [GIGABYTES]

Writes a float32 matrix of GIGABYTES (default 12) with 784 columns to FOLDER (default: a temporary one), trains one
shuffled epoch from it with `tfpipe train` as a user would, and deletes it: first when the system's cache of files has
dropped it, beside the time that `cat` takes then, and again with what the cache has kept of it. For comparison the same
columns with as many rows as fill 1 GB train three epochs from memory. Memory is the peak of RssAnon and RssShmem in
/proc/PID/status: what the process holds; mapped pages of the file, which the kernel can drop at any time, are RssFile
and do not count.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

COLUMNS = 784
BLOCK = 100_000


def write(folder: pathlib.Path, gigabytes: float) -> tuple[pathlib.Path, pathlib.Path]:
    """A matrix of noise around ten templates, and its labels."""
    rows = int(gigabytes * 1e9 / (4 * COLUMNS))
    random = np.random.default_rng(0)
    templates = random.uniform(0, 1, (10, COLUMNS)).astype(np.float32)
    labels = random.integers(0, 10, rows).astype(np.uint8)
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.float32, (rows, COLUMNS))
    noise = random.uniform(0, 1, (BLOCK, COLUMNS)).astype(np.float32)
    for start in range(0, rows, BLOCK):
        part = labels[start : start + BLOCK]
        images[start : start + BLOCK] = templates[part] * 0.2 + noise[: len(part)] * 0.8
    images.flush()
    np.save(folder / "labels.npy", labels)
    return folder / "images.npy", folder / "labels.npy"


def drop_from_cache(path: pathlib.Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())  # What is not on the disk yet cannot be dropped.
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def seconds_to_read(path: pathlib.Path) -> float:
    begin = time.perf_counter()
    subprocess.run(["cat", path], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begin


def train(arguments: list[str]) -> dict[str, float]:
    """Runs the command and watches its memory."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as workdir:
        command = [sys.executable, "-m", "tfpipe", "train", f"--workdir={workdir}/run", "--validation_split=10000",
                   "--test_split=10000", "--learning_rate=0.13", *arguments]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        peak = 0
        while process.poll() is None:
            peak = max(peak, _held(process.pid))
            time.sleep(0.05)
        assert process.stdout
        figures = json.loads(process.stdout.read().splitlines()[-1])
        report = json.loads(pathlib.Path(workdir, "run", "report.json").read_text())
    whole = time.perf_counter() - begin
    rate = report["train_examples"] * figures["epochs"] / figures["seconds"]
    return {
        "examples_per_second": rate,
        "peak_gb": peak / 1e9,
        "seconds": figures["seconds"],
        "whole_command_seconds": whole,
    }


def _held(pid: int) -> int:
    try:
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    fields = dict(line.split(":", 1) for line in lines)
    return sum(int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssShmem") if name in fields)


def main(parent: str | None, gigabytes: float) -> None:
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        images, labels = write(pathlib.Path(folder), gigabytes)
        arguments = [f"--dataset={images}", f"--labels={labels}", "--epochs=1"]
        drop_from_cache(images)
        cat = seconds_to_read(images)
        drop_from_cache(images)
        cold = train(arguments)
        mapped = train(arguments)
        rows = int(1e9 / (4 * COLUMNS))
        part = pathlib.Path(folder, "part.npz")
        np.savez(part, images=np.load(images, mmap_mode="r")[:rows], labels=np.load(labels)[:rows])
        memory = train([f"--dataset={part}", "--epochs=3"])
    result = {
        "gigabytes": gigabytes,
        "cat_cold_seconds": cat,
        "mapped_cold": cold,
        "mapped": mapped,
        "in_memory": memory,
        "ratio": mapped["examples_per_second"] / memory["examples_per_second"],
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None, float(sys.argv[2]) if len(sys.argv) > 2 else 12)
