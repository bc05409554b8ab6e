"""What there is to say of a machine: functions of what was observed, and of nothing else."""

from collections.abc import Iterator

from tfpipe.doctor import gpu_rules
from tfpipe.doctor.facts import Machine
from tfpipe.doctor.finding import BAD, Finding, bad, good, note
from tfpipe.doctor.gpu_rules import LONGER, numbers

_GIB = 2**30
# TensorFlow takes half a GiB by itself, and a run as much as its data: see `tfpipe/training/footprint.py`.
_LITTLE_MEMORY = 1 * _GIB
# States and event files of a run on MNIST take some 10 MB; images that are copied, as much as they are.
_LITTLE_SPACE = 1 * _GIB
# TensorBoard 2.21 and no other reads what this version writes: see `setup.py`.
_TENSORBOARD = 2, 21
_PORT = 6006


def findings(machine: Machine, device: str) -> list[Finding]:
    """All that there is to say, in the order of the report.

    Args:
      machine: as observed.
      device: what `--device` says: `auto`, `cpu` or `gpu`.
    """
    return [
        *_versions(machine),
        *_processor(machine),
        *_memory(machine),
        *gpu_rules.findings(machine, device),
        *_environment(machine),
        *_cpu_trials(machine),
        *_tensorboard(machine),
        *_workdir(machine),
        *_failed(machine),
    ]


def is_usable(found: list[Finding]) -> bool:
    """Whether all that is wanted can be used."""
    return not any(one.level == BAD for one in found)


def _versions(machine: Machine) -> Iterator[Finding]:
    there = [f"{name} {version}" for name, version in machine.versions.items() if version is not None]
    yield good("versions", ", ".join(there))
    for name, version in machine.versions.items():
        if version is None and name != "tensorboard":
            yield bad(name, "is not installed", f"pip install {name}")


def _processor(machine: Machine) -> Iterator[Finding]:
    has = machine.features
    cores = "1 core" if machine.cores == 1 else f"{machine.cores} cores"
    name = f"{machine.processor or machine.architecture}, {cores}"
    if machine.architecture not in ("x86_64", "AMD64"):
        yield good("processor", f"{name}: products in float32; no others were measured on {machine.architecture}")
    elif has and "avx" not in has:
        yield bad("processor", f"{name}, without AVX, which TensorFlow's packages want", "another machine")
    else:
        fast = [words for is_there, words in (
            ("avx512f" in has, "AVX-512: products in float32, 16 numbers at once"),
            ("avx512f" not in has and "avx2" in has, "AVX2: products in float32, 8 numbers at once"),
            ("avx512_bf16" in has and "amx_bf16" not in has, "AVX512_BF16: --precision=bfloat16 is fast"),
            ("amx_int8" in has, "AMX: bytes are multiplied as bytes"),
        ) if is_there]  # fmt: skip
        yield good("processor", "; ".join([name, *fast]))


def _memory(machine: Machine) -> Iterator[Finding]:
    if machine.free is None or machine.memory is None:
        return
    what = f"{machine.free / _GIB:.1f} of {machine.memory / _GIB:.1f} GiB are free"
    if machine.free < _LITTLE_MEMORY:
        yield note("memory", what, "end other programs; TensorFlow alone takes half a GiB")
    else:
        yield good("memory", what)


def _environment(machine: Machine) -> Iterator[Finding]:
    """Variables of which no other rule speaks."""
    shown = {name: value for name, value in machine.environment.items() if name.startswith(("TF_", "XLA_"))}
    if shown:
        what = " ".join(f"{name}={value}" for name, value in shown.items())
        yield note("environment", f"{what}: TensorFlow and XLA go by it")


def _cpu_trials(machine: Machine) -> Iterator[Finding]:
    for name, trial in machine.trials.items():
        if name.startswith("GPU"):
            continue
        if name == "TensorFlow":
            install = "pip install --force-reinstall 'tensorflow>=2.21,<2.22'"
            yield bad(name, f"does not start: {trial.error}", LONGER if trial.is_late else install)
        elif trial.error:
            look = "look at XLA_FLAGS, TF_* and the versions"
            yield bad(name, f"a compiled program does not run: {trial.error}", LONGER if trial.is_late else look)
        else:
            yield good(name, f"a compiled program ran in {trial.seconds:.1f} s")


def _tensorboard(machine: Machine) -> Iterator[Finding]:
    version = machine.versions.get("tensorboard")
    install = "pip install 'tensorboard>=2.21,<2.22', or --notensorboard"
    if version is None:
        yield bad("TensorBoard", "is not installed", install)
    elif numbers(version)[:2] != _TENSORBOARD:
        yield bad("TensorBoard", f"is {version}, and runs are written for 2.21", install)
    elif machine.tensorboard:
        yield bad("TensorBoard", f"does not start: {machine.tensorboard}", install)
    elif not machine.port_is_free:
        yield note("TensorBoard", f"{version}; its port {_PORT} is taken", "tensorboard --port=0 takes another")
    else:
        untried = "" if machine.tensorboard == "" else ", not tried"
        yield good("TensorBoard", f"{version}{untried}; its port {_PORT} is free")


def _workdir(machine: Machine) -> Iterator[Finding]:
    workdir = machine.workdir
    if workdir is None:
        return
    if workdir.error:
        # A store says by itself which object it was.
        says_where = workdir.error.startswith(workdir.path)
        what = workdir.error if says_where else f"{workdir.path} cannot be written: {workdir.error}"
        yield bad("workdir", what, "--workdir=PATH names another")
        return
    free = "" if workdir.free is None else f", {workdir.free / _GIB:.1f} GiB free"
    if not workdir.locks:
        what = f"{workdir.path} can be written{free}, but not locked: a second run there would not notice"
        yield note("workdir", what, "give each run a workdir of its own")
    elif workdir.free is not None and workdir.free < _LITTLE_SPACE:
        yield note("workdir", f"{workdir.path} can be written{free}", "make room, or --workdir=PATH names another")
    else:
        yield good("workdir", f"{workdir.path} can be written{free}")


def _failed(machine: Machine) -> Iterator[Finding]:
    for what, error in machine.failed.items():
        if what == "programs":
            yield bad("CPU:0", f"no program could be tried: {error}", "mend that")
        elif what == "workdir":
            yield bad("workdir", f"could not be tried: {error}", "--workdir=PATH names another")
        else:
            yield note(what, f"could not be observed: {error}")
