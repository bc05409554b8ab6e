"""The benchmarks in turn, each in a few rounds: all of them into docs/benchmarks.md, or a few of them to be read.

    TFPIPE_MNIST_DIR=FOLDER python experiments/bench.py [--quick]

All, with every library that is installed, take at most 20 minutes on two cores, with --quick at most three. What each
takes there is told before it begins. Left out is what takes longer than all of these: the path and the folds of
benchmark_optimum.py, and the bootstrap of benchmark_resampling.py.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent
# To look for tolerances takes longer than to measure with them.
OF_ONE, OF_SHOTS = (f"--tolerances={HERE / 'peers' / f'tolerances_{name}.json'}" for name in ("one", "shots"))
# Seconds on two cores of an AMD EPYC.
ALL = {
    ("roofline.py", "--publish"): 15,
    ("benchmark_peers.py", "--rounds=2", "--publish"): 270,
    ("benchmark_grid.py", "--rounds=1", "--publish"): 120,
    ("benchmark_optimum.py", "--values=one", "--rounds=1", OF_ONE, "--publish"): 50,
    ("benchmark_resampling.py", OF_SHOTS, "--publish"): 180,
    ("benchmark_start.py", "--rounds=3", "--publish"): 70,
    ("benchmark_scaling.py", "--rounds=1", "--publish"): 300,
}
QUICK = {
    ("roofline.py",): 15,
    ("benchmark_peers.py", "--rounds=1", "tfpipe", "NumPy", "JAX, in parts"): 30,
    ("benchmark_grid.py", "--rounds=1", "--heads=64"): 35,
    ("benchmark_optimum.py", "--values=path", "--rounds=1", "tfpipe"): 30,
    ("benchmark_resampling.py", "tfpipe"): 50,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    commands = QUICK if parser.parse_args().quick else ALL
    if not os.environ.get("TFPIPE_MNIST_DIR"):
        raise SystemExit("TFPIPE_MNIST_DIR must name a folder with MNIST's IDX files")
    print(f"about {sum(commands.values()) / 60:.0f} minutes on two cores, during which the machine should be idle")
    begin = time.perf_counter()
    for (program, *arguments), seconds in commands.items():
        print(f"\n{program}: about {seconds} s", flush=True)
        since = time.perf_counter()
        subprocess.run([sys.executable, HERE / program, *arguments], stdout=subprocess.DEVNULL, check=True)
        print(f"{program}: {time.perf_counter() - since:.0f} s", flush=True)
    print(f"\n{(time.perf_counter() - begin) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
