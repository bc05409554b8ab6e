"""All that is said of GPUs, tried on one: figures, rates, memory, TensorFloat-32, bits. At most ten minutes.

    TFPIPE_MNIST_DIR=FOLDER python experiments/gpu_check.py [--device=gpu|cpu] [--minutes=10] [--programs=FILE]
        [--publish]
    TFPIPE_MNIST_DIR=FOLDER python experiments/gpu_check.py --save_programs=FILE

Each part is a process of its own with a limit of time: one that crashes or hangs is a finding, and the next one
begins. Each claim *holds*, *fails*, or was *not tried*, and then why. On a CPU the same parts run, for fewer epochs,
and what is said of GPUs alone is not tried. Without TFPIPE_MNIST_DIR the data are the built-in digits, and the
tutorial's run is not tried.

Where TensorFlow cannot be installed and JAX is there, --programs runs programs that were saved elsewhere with
--save_programs, through JAX's XLA: what that shows of XLA and the device holds for TensorFlow's XLA only as far as the
two are alike, and the output says so at each claim. NumPy, absl-py, joblib and threadpoolctl are all that is needed
beside.

Tells each part and claim on stderr, and prints one JSON object to stdout; with --publish also into docs/gpu.md.
Exit status: 1 if a claim fails.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import measuring
import numpy as np
import saved_programs

HERE = pathlib.Path(__file__).parent
HOLDS, FAILS, NOT_TRIED = "holds", "fails", "not tried"
# Of grids, by the kind of device and the number of heads.
EPOCHS = {"gpu": {1: 100, 2: 5, 64: 100, 1024: 40}, "cpu": {1: 20, 2: 5, 64: 2, 1024: 1}}
# Seconds that a part may take. The first one may have the driver compile TensorFlow's kernels, which it keeps.
LIMIT, LIMIT_OF_FIRST = 120, 240
# How far W may be from that in another arithmetic after five epochs, relative to its largest number: in float32 1.4e-6
# were measured on a CPU; TensorFloat-32, with 10 bits behind the point, makes 6e-5 in NumPy; bfloat16 has 7.
OF_FLOAT32, OF_TF32, OF_BFLOAT16 = 1e-5, 1e-3, 1e-2
MOST_ERRORS_APART = 5
# tfpipe/compute/speeds.py assumes them, of this card.
ASSUMED_OF, PRODUCT_RATE, STEP_SECONDS, FACTOR = "H100", 33e12, 100e-6, 2.0
TUTORIAL = {"validation_error": 720 / 9600, "test_error": 719 / 9600, "epochs": 74, "iterations": 6141}
THROUGH_JAX = "measured through JAX's XLA, not TensorFlow"
AGAIN, OF_JAX = ", again", "through JAX: "
Figures = dict[str, Any]


class Outcome(NamedTuple):
    """What became of a part: figures; or a problem, if it was `tried`; or why it was not."""

    figures: Figures | None
    problem: str = ""
    tried: bool = True


class Claim(NamedTuple):
    """What is said of GPUs.

    Attributes:
      words: what is said.
      parts: by which it is judged.
      judge: of their figures: whether it holds, and what was found.
      why_not: why it is not tried; empty: it is.
    """

    words: str
    parts: tuple[str, ...]
    judge: Callable[..., tuple[bool, str]]
    why_not: str = ""


class Verdict(NamedTuple):
    """Of a claim: HOLDS, FAILS or NOT_TRIED, and what was found, or why not."""

    claim: str
    verdict: str
    found: str


def verdict(claim: Claim, outcomes: Mapping[str, Outcome]) -> Verdict:
    """Judges a claim when its parts are over. Where one of them has failed, it fails."""
    of_parts = [(name, outcomes[name]) for name in claim.parts]
    reasons = [claim.why_not, *(outcome.problem for _, outcome in of_parts if not outcome.tried)]
    if why_not := next(filter(None, reasons), ""):
        return Verdict(claim.words, NOT_TRIED, why_not)
    for name, outcome in of_parts:
        if outcome.figures is None:
            return Verdict(claim.words, FAILS, f"{name}: {outcome.problem}")
    holds, found = claim.judge(*(outcome.figures for _, outcome in of_parts))
    return Verdict(claim.words, HOLDS if holds else FAILS, found)


def child(arguments: Sequence[str], seconds: float, environment: Mapping[str, str] | None = None) -> Outcome:
    """Runs `python ARGUMENTS`, whose last line of stdout is a JSON object.

    When `seconds` are over it is ended, with what it has started.
    """
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=stdout, stderr=stderr, start_new_session=True,
            env=measuring.environment() | dict(environment or {}),
        )  # fmt: skip
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return Outcome(None, f"had not ended after {seconds:.0f} s")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        stdout.seek(0)
        stderr.seek(0)
        lines, said = stdout.read().splitlines(), stderr.read().decode(errors="replace").split("\n")
    if status:
        how = f"signal {-status} ({signal.strsignal(-status)})" if status < 0 else f"exit status {status}"
        return Outcome(None, f"ended with {how}: {next((line for line in reversed(said) if line.strip()), 'no word')}")
    try:
        return Outcome(dict(json.loads(lines[-1])))
    except (IndexError, ValueError, TypeError):
        return Outcome(None, "ended without a JSON object")


class Part(NamedTuple):
    """A process: its arguments, seconds that it may take, and what its environment has besides."""

    arguments: list[str]
    seconds: float = LIMIT
    environment: Mapping[str, str] = {}


def part(name: str, *, seconds: float = LIMIT, **options: Any) -> Part:
    """One of `gpu_parts.py`."""
    return Part([str(HERE / "gpu_parts.py"), name, json.dumps(options)], seconds)


class Check:
    """The parts in turn, and claims as soon as their parts are over.

    Args:
      device: `gpu` or `cpu`.
      minutes: that all of it may take.
      programs: the file of saved programs, if there is one.
    """

    def __init__(self, device: str, minutes: float, programs: pathlib.Path | None):
        self._device, self._programs = device, programs
        # Read at once: a file that is none ends it before anything has begun.
        self._names = [each.name for each in saved_programs.load(programs)] if programs else []
        self._since, self._minutes = time.monotonic(), minutes
        self.outcomes: dict[str, Outcome] = {}
        self.verdicts: list[Verdict] = []

    def run(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self._with_tensorflow(pathlib.Path(folder))
        if self._programs:
            self._through_jax(self._programs)

    def _take(self, name: str, part: Part, why_not: str) -> None:
        """Runs a part, unless there is a reason not to, or no time is left."""
        left = 60 * self._minutes - (time.monotonic() - self._since)
        if why_not:
            outcome = Outcome(None, why_not, tried=False)
        elif left <= 1:
            outcome = Outcome(None, f"the {self._minutes:g} minutes were over", tried=False)
        else:
            begin = time.monotonic()
            outcome = child(part.arguments, min(part.seconds, left), part.environment)
            words = outcome.problem if outcome.figures is None else brief(outcome.figures)
            say(f"{name}: {words} ({time.monotonic() - begin:.0f} s)")
        self.outcomes[name] = outcome

    def _claim(
        self, words: str, parts: tuple[str, ...], judge: Callable[..., tuple[bool, str]], why_not: str = ""
    ) -> None:
        self.verdicts.append(verdict(Claim(words, parts, judge, why_not), self.outcomes))
        say("  {1}: {0}: {2}".format(*self.verdicts[-1]))

    def _with_tensorflow(self, folder: pathlib.Path) -> None:
        device, mnist = self._device, os.environ.get("TFPIPE_MNIST_DIR")
        is_there = importlib.util.find_spec("tensorflow") is not None
        self._take(
            "device",
            part("found", seconds=LIMIT_OF_FIRST, device=device),
            "" if is_there else "TensorFlow is not installed",
        )
        self._claim(f"TensorFlow computes on the {device.upper()}", ("device",), lambda has: (True, has["device"]))
        has = self.outcomes["device"].figures
        usable = "" if has else f"there is no usable {device.upper()}" if is_there else "TensorFlow is not installed"
        if not has:
            has = {"tf32": False, "bfloat16": False, "devices": 0, "device": "", "gpus": None}
        of_gpus = usable or ("" if device == "gpu" else "it is said of GPUs")
        of_mnist = "" if mnist else "TFPIPE_MNIST_DIR, which would name the folder of MNIST, is not set"

        def first(*reasons: str) -> str:
            return next(filter(None, reasons), "")

        smi = "" if has["gpus"] else "nvidia-smi does not say what is in use"
        self._claim("GPU memory grows as needed", ("device",), grows, first(of_gpus, smi))

        command = [
            "-m", "tfpipe", "train", f"--dataset={mnist}", f"--flagfile={HERE / 'theano_tutorial.flags'}",
            f"--device={device}", "--strategy=none", f"--workdir={folder / 'tutorial'}",
        ]  # fmt: skip
        self._take("tutorial", Part(command), first(usable, of_mnist))
        self._claim("the tutorial's run, to the last digit", ("tutorial",), is_the_published_run)

        self._take("lbfgs", part("optimum", device=device), usable)
        self._take("lbfgs on the CPU", part("optimum", device="cpu"), of_gpus)
        self._claim("L-BFGS comes to a certificate of 1e-4 of the cost", ("lbfgs",), is_certified)
        both = "lbfgs", "lbfgs on the CPU"
        self._claim("L-BFGS comes as low as on the CPU, by the certificates", both, is_as_low)
        self._claim(f"and has as many errors, but for {MOST_ERRORS_APART}", both, has_as_few_errors)

        two = self._grid(2, usable)
        once_more = self._grid(2, usable, AGAIN)
        exact = self._grid(2, usable, ", float64", precision="float64")
        on_cpu = self._grid(2, of_gpus, " on the CPU", device="cpu")
        self._claim("two runs give the same bits", (two, once_more), same_bits)
        self._claim("without TensorFloat-32, figures are those of float32", (two, exact), is_near(OF_FLOAT32))
        self._claim("and those of the CPU", (two, on_cpu), is_near(OF_FLOAT32))

        one, some, many = (self._grid(heads, usable) for heads in saved_programs.HEADS)
        self._say_rates(one, some, many)
        words = "MNIST does not keep a GPU busy: an epoch of 64 heads takes less than twice as long as of one"
        self._claim(words, (one, some), is_idle, first(of_gpus, of_mnist))
        # Of a CPU `measure_memory.py` tells.
        self._claim("no run takes more GPU memory than is estimated", (one, some, many), fits, of_gpus)
        assumed = "" if ASSUMED_OF in has["device"] else f"it is said of NVIDIA's {ASSUMED_OF}"
        words = (
            f"a step takes {STEP_SECONDS * 1e6:.0f} us, and products run at {PRODUCT_RATE / 1e12:.0f} TFLOP/s, within"
        )
        self._claim(f"{words} a factor of {FACTOR:g}", (one, many), is_as_assumed, first(of_gpus, of_mnist, assumed))

        no_tf32 = "" if has["tf32"] else "it has no TensorFloat-32"
        no_bfloat16 = "" if has["bfloat16"] else "it has no AVX512_BF16"
        no_tf32, no_bfloat16 = first(of_gpus, no_tf32), first(usable, no_bfloat16)
        rounded = self._grid(2, no_tf32, ", tf32", tf32=True)
        fast = self._grid(1024, no_tf32, ", tf32", tf32=True)
        near = is_near(OF_TF32, beyond=OF_FLOAT32)
        self._claim("TensorFloat-32 gives other figures, near those of float32", (rounded, exact), near)
        self._claim("TensorFloat-32 is faster", (fast, many), is_faster, of_mnist)
        coarse = self._grid(2, no_bfloat16, ", bfloat16", precision="bfloat16")
        fast = self._grid(1024, no_bfloat16, ", bfloat16", precision="bfloat16")
        self._claim("bfloat16 gives figures near those of float32", (coarse, exact), is_near(OF_BFLOAT16))
        self._claim("bfloat16 is faster", (fast, many), is_faster, of_mnist)
        is_single = "" if has["devices"] > 1 else "there is one"
        every = self._grid(64, first(of_gpus, is_single), ", all devices", strategy="devices")
        self._claim("several GPUs find the same as one, to the bit", (every, some), same_bits)

    def _say_rates(self, one: str, *others: str) -> None:
        """How many times as many heads others train in the same time as the first."""
        figures = {name: self.outcomes[name].figures for name in (one, *others)}
        if of_one := figures.pop(one):
            for name, found in figures.items():
                if found:
                    ratio = found["head_epochs_per_second"] / of_one["head_epochs_per_second"]
                    say(f"  {name}: {ratio:.1f} times the head-epochs a second of {one}")

    def _grid(self, heads: int, why_not: str, suffix: str = "", **options: Any) -> str:
        """Takes a grid of SGD; the name of the part."""
        name = f"sgd, {heads_in_words(heads)}{suffix}"
        of_run: dict[str, Any] = {"device": self._device, "heads": heads, "epochs": EPOCHS[self._device][heads]}
        self._take(name, part("grid", **of_run | options), why_not)
        return name

    def _through_jax(self, path: pathlib.Path) -> None:
        say(f"programs of {path}, {THROUGH_JAX}:")
        why_not = "" if importlib.util.find_spec("jax") else "JAX is not installed"
        environment = {"JAX_PLATFORMS": "cpu"} if self._device == "cpu" else {}
        names = self._names
        for name in (*names, again(names)):
            arguments = [str(HERE / "saved_programs.py"), str(path), name.removesuffix(AGAIN), self._device, "2"]
            self._take(OF_JAX + name, Part(arguments, LIMIT, environment), why_not)
        sgd = [name for name in names if name.startswith("sgd") and name.endswith("float32")]
        self._say_rates(*(OF_JAX + name for name in sgd))
        for name in names:
            self._claim_of_jax(f"{name}: results are those of the CPU", (name,), is_within)
        self._claim_of_jax("two runs give the same bits", (again(names).removesuffix(AGAIN), again(names)), same_bits)
        of_gpus = "" if self._device == "gpu" else "it is said of GPUs"
        self._claim_of_jax("no program of SGD takes more memory than is estimated", tuple(sgd), needs_no_more)
        if rounded := [name for name in names if name.endswith("tf32")]:
            self._claim_of_jax("TensorFloat-32 is faster", (rounded[-1], sgd[-1]), is_faster, of_gpus)

    def _claim_of_jax(
        self, words: str, names: tuple[str, ...], judge: Callable[..., tuple[bool, str]], why_not: str = ""
    ) -> None:
        self._claim(f"{words} ({THROUGH_JAX})", tuple(OF_JAX + name for name in names), judge, why_not)

    def as_json(self) -> dict[str, Any]:
        return {
            "device": self._device,
            "data": "MNIST" if os.environ.get("TFPIPE_MNIST_DIR") else "digits",
            "minutes": (time.monotonic() - self._since) / 60,
            "parts": {
                name: {
                    key: value for key, value in (outcome.figures or {"problem": outcome.problem}).items() if key != "W"
                }
                for name, outcome in self.outcomes.items()
            },
            "claims": [each._asdict() for each in self.verdicts],
        }


def heads_in_words(heads: int) -> str:
    return "1 head" if heads == 1 else f"{heads:,} heads"


def again(names: Sequence[str]) -> str:
    """Of the saved programs, the one that runs twice: the last of SGD in float32."""
    return [name for name in names if name.startswith("sgd") and name.endswith("float32")][-1] + AGAIN


def apart(a: Figures, b: Figures) -> float:
    """How far W of two grids are apart, relative to the largest number."""
    first, second = (np.array(each["W"]) for each in (a, b))
    return float(np.max(np.abs(first - second)) / np.max(np.abs(second)))


def is_near(most: float, beyond: float = -1.0) -> Callable[[Figures, Figures], tuple[bool, str]]:
    """Judges whether W of two grids are at most so far apart, and further than `beyond`."""
    bounds = f"{most:.0e} at most" if beyond < 0 else f"between {beyond:.0e} and {most:.0e}"

    def judge(a: Figures, b: Figures) -> tuple[bool, str]:
        distance = apart(a, b)
        return beyond < distance <= most, f"W is {distance:.1e} apart; {bounds} are expected"

    return judge


def same_bits(a: Figures, b: Figures) -> tuple[bool, str]:
    if a["digest"] == b["digest"]:
        return True, "the same bits"
    return False, f"W is {apart(a, b):.1e} apart" if "W" in a else "other bits"


def is_faster(a: Figures, b: Figures) -> tuple[bool, str]:
    ratio = a["head_epochs_per_second"] / b["head_epochs_per_second"]
    return ratio > 1, f"{ratio:.2f} times as fast"


def grows(figures: Figures) -> tuple[bool, str]:
    if not figures["gpus"]:
        return False, "nvidia-smi does not say how much memory is in use"
    used, total = (float(figures["gpus"][0][f"memory.{name}"]) for name in ("used", "total"))
    return used < total / 2, f"{used:,.0f} of {total:,.0f} MiB in use after a first program"


def is_the_published_run(figures: Figures) -> tuple[bool, str]:
    wrong = (round(9600 * figures[name]) for name in ("validation_error", "test_error"))
    found = "{} and {} wrong of 9,600 in validation and test, {} epochs, {} steps".format(
        *wrong, figures["epochs"], figures["iterations"]
    )
    return all(figures[name] == expected for name, expected in TUTORIAL.items()), found


def is_certified(figures: Figures) -> tuple[bool, str]:
    relative = figures["certificate"] / figures["objective"]
    return relative <= 1e-4, f"{figures['objective']:.6f} is at most {relative:.1e} above the least, relative to it"


def is_as_low(a: Figures, b: Figures) -> tuple[bool, str]:
    """Each is at most its certificate above the least, so they are no further apart than the larger one."""
    distance, most = abs(a["objective"] - b["objective"]), max(a["certificate"], b["certificate"])
    return distance <= most, f"{distance:.1e} apart; the larger certificate is {most:.1e}"


def has_as_few_errors(a: Figures, b: Figures) -> tuple[bool, str]:
    pairs = [(a[name], b[name]) for name in ("validation_wrong", "test_wrong")]
    found = "; ".join(
        f"{name} {one} and {other}" for name, (one, other) in zip(("validation", "test"), pairs, strict=True)
    )
    return all(abs(one - other) <= MOST_ERRORS_APART for one, other in pairs), f"wrong in {found}"


def is_idle(one: Figures, many: Figures) -> tuple[bool, str]:
    longer = (many["seconds"] / many["epochs"]) / (one["seconds"] / one["epochs"])
    return longer < 2, f"an epoch takes {longer:.2f} times as long"


def fits(*grids: Figures) -> tuple[bool, str]:
    found = ", ".join(
        f"{heads_in_words(each['heads'])} {each['peak'] / 2**20:,.0f} of {each['estimate'] / 2**20:,.0f} MiB"
        for each in grids
    )
    return all(each["peak"] <= each["estimate"] for each in grids), found


def is_as_assumed(one: Figures, many: Figures, *, steps: int = 83, sizes: int = 784 * 10 * 600) -> tuple[bool, str]:
    """Of an epoch of MNIST in minibatches of 600: what a step of one head takes, and the rate of products of many."""
    step = one["seconds"] / one["epochs"] / steps
    rate = 4 * many["heads"] * sizes * steps * many["epochs"] / many["seconds"]
    near = all(
        1 / FACTOR <= found / assumed <= FACTOR for found, assumed in ((step, STEP_SECONDS), (rate, PRODUCT_RATE))
    )
    return near, f"{1e6 * step:.0f} us a step and {rate / 1e12:.1f} TFLOP/s, validation included"


def is_within(program: Figures) -> tuple[bool, str]:
    pairs = [(away, program["tolerance"][number]) for number, away in program["away"].items()]
    found = ", ".join(f"{away:.1e}" for away, _ in pairs)
    return all(
        away <= most for away, most in pairs
    ), f"{found} apart; {', '.join(f'{most:.0e}' for _, most in pairs)} may be"


def needs_no_more(*programs: Figures) -> tuple[bool, str]:
    taken = [each["peak"] or each["takes"] for each in programs]
    found = "; ".join(
        f"{each['program']}: {size / 2**20:,.0f} of {each['estimate'] / 2**20:,.0f} MiB"
        for each, size in zip(programs, taken, strict=True)
    )
    return all(size <= each["estimate"] for each, size in zip(programs, taken, strict=True)), found


def brief(figures: Figures) -> str:
    """What a part has found, in a line."""
    told = (
        f"{name} {value:,.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in figures.items()
        if isinstance(value, (int, float, str)) and name not in ("digest", "workdir")
    )
    return ", ".join(told)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def as_text(results: dict[str, Any]) -> str:
    """Rates and claims, in Markdown."""
    rates = {
        name: figures["head_epochs_per_second"]
        for name, figures in results["parts"].items()
        if "head_epochs_per_second" in figures
    }
    rows = [
        [
            name,
            f"{rate:,.0f}",
            _to_one_head(name, rates),
            *(
                f"{size / 2**20:,.0f} MiB" if (size := results["parts"][name].get(key)) else ""
                for key in ("peak", "estimate")
            ),
        ]
        for name, rate in rates.items()
    ]
    machine, versions = results["machine"], ", ".join(f"{name} {one}" for name, one in results["versions"].items())
    told = f"{machine['heading']}; {machine['system']}; Python {machine['python']}; {versions}; {results['data']}; "
    claims = [f"| {each['claim']} | {each['verdict']} | {each['found']} |" for each in results["claims"]]
    return "\n\n".join(
        [
            measuring.markdown_table(["part", "head-epochs a second", "to 1 head", "memory", "estimate"], rows),
            "\n".join(["| claim | | found |", "| --- | --- | --- |", *claims]),
            f"{told}{results['minutes']:.1f} minutes.",
        ]
    )


def _to_one_head(name: str, rates: Mapping[str, float]) -> str:
    """How many times the rate of a single head, of TensorFlow's or of JAX's."""
    through = OF_JAX if name.startswith(OF_JAX) else ""
    one = next((rates[each] for each in rates if each.startswith(f"{through}sgd, 1 head")), None)
    return f"{rates[name] / one:.1f}" if one and name.startswith(f"{through}sgd") else ""


def with_gpu(found: dict[str, Any], device: str, outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """The machine that was found, under the name of its GPU and its processor."""
    figures = [outcome.figures for outcome in outcomes.values() if outcome.figures and "device" in outcome.figures]
    if device == "cpu" or not figures:
        return found
    card = re.sub(r"^gpu \((.*)\)$", r"\1", figures[0]["device"])
    return found | {"gpu": card, "heading": f"{card}, {found['heading']}"}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--programs", type=pathlib.Path)
    parser.add_argument("--save_programs", type=pathlib.Path)
    parser.add_argument("--publish", action="store_true")
    arguments = parser.parse_args()
    if arguments.publish and arguments.device == "cpu":
        parser.error("--publish is for a GPU: benchmarks.md has the rates of CPUs")
    return arguments


def main() -> int:
    arguments = parse_arguments()
    if arguments.save_programs:
        saved = child(part("save", path=str(arguments.save_programs)).arguments, 60 * arguments.minutes)
        if saved.figures is None:
            raise SystemExit(f"{arguments.save_programs}: {saved.problem}")
        say("\n".join(saved.figures["programs"]))
        return 0
    machine = measuring.machine()
    check = Check(arguments.device, arguments.minutes, arguments.programs)
    check.run()
    results = {
        "machine": with_gpu(machine, arguments.device, check.outcomes),
        "versions": measuring.versions("tfpipe", "tensorflow", "jax", "numpy"),
        **check.as_json(),
    }
    counts = {verdict: sum(each.verdict == verdict for each in check.verdicts) for verdict in (HOLDS, FAILS, NOT_TRIED)}
    say(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    print(json.dumps(results))
    if arguments.publish:
        measuring.publish("gpu", results, as_text(results), page="gpu.md")
    return 1 if counts[FAILS] else 0


if __name__ == "__main__":
    sys.exit(main())
