"""What the benchmarks share: the machine, runs in processes of their own, and where the results are kept."""

import importlib.metadata
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile
import time
from typing import Any

ITERATIONS_PER_EPOCH = 83  # Of the tutorial's run: 50,000 images in minibatches of 600.
DOCS = pathlib.Path(__file__).parent.parent / "docs"


def machine() -> dict[str, Any]:
    """What the figures of a benchmark depend on, apart from the program."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.+)$", cpuinfo.read_text() if cpuinfo.exists() else "", re.MULTILINE)
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_GiB": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def version(package: str) -> str | None:
    """The version of an installed package, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def in_own_process(*arguments: str) -> dict[str, Any]:
    """Runs `python ARGUMENTS`, whose last line of stdout is a JSON object.

    Adds `process_seconds`, from its start to its end, and `peak_rss_MB`, the most memory that it held.

    Raises:
      SystemExit: it failed; with what it wrote to stderr.
    """
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        begin = time.perf_counter()
        process = subprocess.Popen([sys.executable, *arguments], stdout=stdout, stderr=stderr)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        stdout.seek(0)
        stderr.seek(0)
        if status:
            message = stderr.read().decode(errors="replace")
            raise SystemExit(f"{' '.join(arguments)}: exit status {process.returncode}\n{message}")
        figures = json.loads(stdout.read().splitlines()[-1])
    return figures | {"process_seconds": seconds, "peak_rss_MB": usage.ru_maxrss * 1024 / 1e6}


def publish(name: str, results: dict[str, Any], text: str) -> None:
    """Keeps `results` in docs/benchmarks/NAME.json, and puts `text` between the marks of NAME in docs/benchmarks.md."""
    picture(name).with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n")
    document = DOCS / "benchmarks.md"
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, _, rest = document.read_text().partition(begin)
    _, mark, after = rest.partition(end)
    if not mark:
        raise SystemExit(f"{document}: has no lines {begin} and {end}, between which the results would stand")
    document.write_text(f"{before}{begin}\n{text.strip()}\n{end}{after}")


def fastest_peer() -> tuple[str, float]:
    """The contestant of docs/benchmarks/peers.json, tfpipe apart, with the fastest loop; its epochs a second.

    Raises:
      SystemExit: there are no such results yet.
    """
    path = picture("peers").with_suffix(".json")
    if not path.exists():
        raise SystemExit(f"{path}: is not there; run benchmark_peers.py --publish first")
    rows = json.loads(path.read_text())["contestants"]
    peers = [name for name in rows if name != "tfpipe" and not name.startswith("floor")]
    name = min(peers, key=lambda name: rows[name]["seconds"])
    return name, rows[name]["iterations"] / ITERATIONS_PER_EPOCH / rows[name]["seconds"]


def picture(name: str) -> pathlib.Path:
    """Where the plot NAME is kept."""
    folder = DOCS / "benchmarks"
    folder.mkdir(exist_ok=True)
    return folder / f"{name}.png"


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    """A table, its first column to the left and the others to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
