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
from collections.abc import Iterable
from typing import Any

import roofline

from tfpipe.compute import cpu

ITERATIONS_PER_EPOCH = 83  # Of the tutorial's run: 50,000 images in minibatches of 600.
DOCS = pathlib.Path(__file__).parent.parent / "docs"
FEATURES = (
    "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16",
)  # fmt: skip
# The widest first, by a feature that tells it.
UNITS = {"amx_int8": "AMX", "avx512_bf16": "AVX512_BF16", "avx512f": "AVX-512", "avx2": "AVX2"}
LEFT_OUT = ("OPENBLAS_CORETYPE",)
STAT = pathlib.Path("/proc/stat")


def heading(cpu_info: pathlib.Path = cpu.CPU_INFO) -> str:
    """Which tables of docs/benchmarks.md are this machine's: the processor, its widest unit, and how many cores."""
    name = re.sub(r"\((R|TM)\)|\b(CPU|Processor)\b|@.*", " ", cpu.processor(cpu_info))
    units = [unit for feature, unit in UNITS.items() if feature in cpu.features(cpu_info)]
    return ", ".join([" ".join(name.split()), *units[:1], f"{cpu.cores()} cores"])


def machine() -> dict[str, Any]:
    """What the figures of a benchmark depend on, apart from the program and what else runs."""
    has = cpu.features()
    return {
        "heading": heading(),
        "cpu": cpu.processor(),
        "features": [name for name in FEATURES if name in has],
        "cores": cpu.cores(),
        "memory_GiB": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "system": platform.system(),
        "python": platform.python_version(),
        "left_out_of_the_environment": [name for name in LEFT_OUT if name in os.environ],
    }


class Surroundings:
    """The machine and how quiet it was: made before the rounds of a benchmark, asked after them."""

    def __init__(self, products: Iterable[roofline.Products] = ()):
        self._begin = time.perf_counter(), *_busy_seconds()
        self.roofline = roofline.measure(products)

    def as_json(self) -> dict[str, Any]:
        after = roofline.measure(types=())
        end = time.perf_counter(), *_busy_seconds()
        elapsed, busy, own = (last - first for first, last in zip(self._begin, end, strict=True))
        return machine() | {
            "roofline": self.roofline,
            "reference_after": after["reference"],
            "quietness": roofline.quietness(self.roofline, after),
            "others_share": max(0.0, busy - own) / elapsed / (os.cpu_count() or 1),
        }


def _busy_seconds() -> tuple[float, float]:
    """Of all cores since the machine started, and of this process and those that it waited for."""
    own = sum(os.times()[:4])
    if not STAT.exists():
        return own, own
    user, nice, system, _, _, *interrupts_and_stolen = map(int, STAT.read_text().split("\n")[0].split()[1:9])
    return (user + nice + system + sum(interrupts_and_stolen)) / os.sysconf("SC_CLK_TCK"), own


def held(*fields: str, pid: int | str = "self") -> int:
    """Bytes, by Linux's /proc: the sum of `VmRSS` that a process holds, `VmHWM` that it held at most, or others."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return sum(1024 * int(found[field].split()[0]) for field in fields if field in found)


class Peak:
    """What this process holds at most from now on, beyond what it holds now."""

    def __init__(self) -> None:
        self._before = held("VmRSS")
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew.

    @property
    def bytes(self) -> int:
        return held("VmHWM") - self._before


def told(results: dict[str, Any]) -> str:
    """What stands under a table: `machine`, `versions`, and, where they are there, `rounds` and `not_installed`."""
    machine = results["machine"]
    rates = machine["roofline"]["rates"][0]
    of_types = "; ".join(
        f"{dtype} {rates[dtype]['one_core'] / 1e9:.0f} and {rates[dtype]['all_cores'] / 1e9:.0f}"
        for dtype in roofline.TYPES
        if dtype in rates
    )
    lines = [
        f"{machine['heading']} ({' '.join(machine['features'])}), {machine['memory_GiB']} GiB; {machine['system']};"
        f" Python {machine['python']}; {', '.join(f'{name} {one}' for name, one in results['versions'].items())}.",
        f"The reference product, GFLOP/s of one core and of all: {of_types}.",
        f"Quietness {machine['quietness']:.2f}; other processes had {machine['others_share']:.0%} of the cores.",
    ]
    if "rounds" in results:
        lines.append(f"Rounds: {results['rounds']}.")
    if machine["left_out_of_the_environment"]:
        lines.append(f"Without {', '.join(machine['left_out_of_the_environment'])}, which was set.")
    if results.get("not_installed"):
        lines.append(f"Not installed: {', '.join(results['not_installed'])}.")
    return "\n".join(lines)


def version(package: str) -> str | None:
    """The version of an installed package, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def versions(*packages: str) -> dict[str, str]:
    """Of those packages that are installed."""
    found = {name: version(name) for name in packages}
    return {name: one for name, one in found.items() if one is not None}


def environment() -> dict[str, str]:
    """Of the processes that are measured: without what would choose another kernel than OpenBLAS does by itself."""
    return {name: value for name, value in os.environ.items() if name not in LEFT_OUT}


def in_own_process(*arguments: str) -> dict[str, Any]:
    """Runs `python ARGUMENTS`, whose last line of stdout is a JSON object.

    Adds `process_seconds`, from its start to its end, and `peak_rss_MB`, the most memory that it held.

    Raises:
      SystemExit: it failed; with what it wrote to stderr.
    """
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        begin = time.perf_counter()
        process = subprocess.Popen([sys.executable, *arguments], stdout=stdout, stderr=stderr, env=environment())
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


def publish(
    name: str, results: dict[str, Any], text: str, docs: pathlib.Path = DOCS, page: str = "benchmarks.md"
) -> None:
    """Keeps `results` in the folder of this machine in docs/benchmarks, and puts `text` into a page of the docs.

    There it stands between the marks of NAME and of this machine; if there are none, they are put behind the last ones
    of NAME. So each machine has its own tables, and none takes another's place.

    Raises:
      SystemExit: the page has no marks of NAME.
    """
    path, here = docs / page, results["machine"]["heading"]
    content = path.read_text()
    of_others = re.findall(rf"<!-- end of {name}: .* -->\n", content)
    if not of_others:
        raise SystemExit(f"{path}: has no line <!-- end of {name}: MACHINE -->, behind which the results would stand")
    begin, end = f"<!-- {name}: {here} -->\n", f"<!-- end of {name}: {here} -->\n"
    if begin not in content:
        content = content.replace(of_others[-1], f"{of_others[-1]}\n{begin}{end}")
    before, rest = content.split(begin)
    path.write_text(f"{before}{begin}**{here}**\n\n{text.strip()}\n{end}{rest.split(end)[1]}")
    kept(name, here, docs).with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n")


def kept(name: str, here: str, docs: pathlib.Path = DOCS) -> pathlib.Path:
    """The path, less its suffix, at which what is called NAME is kept of the machine with this heading."""
    folder = docs / "benchmarks" / re.sub(r"[^a-z0-9]+", "-", here.lower())
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


def tolerances(path: pathlib.Path | None) -> dict[str, list[float]]:
    """An object of JSON, from names of libraries to tolerances, one for each value; nothing without a file."""
    found: dict[str, list[float]] = json.loads(path.read_text()) if path else {}
    return found


def picture(name: str) -> pathlib.Path:
    """Where the plot NAME of this machine is kept."""
    return kept(name, heading()).with_suffix(".png")


def shown(name: str, words: str) -> str:
    """The plot NAME of this machine, in docs/benchmarks.md."""
    return f"![{words}]({picture(name).relative_to(DOCS).as_posix()})"


def fastest_peer() -> tuple[str, float] | None:
    """The contestant with the fastest loop in this machine's peers.json, tfpipe apart; its epochs a second.

    None: there are no such results yet.
    """
    path = kept("peers", heading()).with_suffix(".json")
    if not path.exists():
        return None
    rows = json.loads(path.read_text())["contestants"]
    peers = [name for name in rows if name != "tfpipe" and not name.startswith("floor")]
    name = min(peers, key=lambda name: rows[name]["seconds"])
    return name, rows[name]["iterations"] / ITERATIONS_PER_EPOCH / rows[name]["seconds"]


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    """A table, its first column to the left and the others to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
