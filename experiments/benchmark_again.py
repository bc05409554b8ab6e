"""What a second run costs in one process: its seconds beyond the training loop, and the memory that stays.

    python experiments/benchmark_again.py

The digits, two heads, three epochs, thirty times. The first run imports and compiles; the others take what is there.

Prints one JSON object to stdout: the seconds of the first run, the median and the most of the others, the seconds of
their loops, and by how many megabytes the process grew from the third run to the last.
"""

import json
import os
import pathlib
import statistics
import time

RUNS = 30


def resident() -> int:
    """Bytes of memory that the process holds."""
    pages = pathlib.Path("/proc/self/statm").read_text("utf-8").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    import tfpipe

    splits = tfpipe.load("digits")
    config = tfpipe.TrainConfig(batch_size=100, learning_rate=(0.1, 0.3), epochs=3, device="cpu")
    beyond, loops, sizes = [], [], []
    for _ in range(RUNS):
        begin = time.monotonic()
        loops.append(tfpipe.train(config, splits).report["seconds"])
        beyond.append(time.monotonic() - begin - loops[-1])
        sizes.append(resident())
    print(
        json.dumps(
            {
                "first": round(beyond[0], 3),
                "others": {"median": round(statistics.median(beyond[1:]), 3), "most": round(max(beyond[1:]), 3)},
                "loop": round(statistics.median(loops[1:]), 4),
                "grown_megabytes": round((sizes[-1] - sizes[2]) / 1e6, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
