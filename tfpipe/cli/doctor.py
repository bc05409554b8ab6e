"""`tfpipe doctor`."""

import json
import pathlib
from collections.abc import Callable

from absl import flags

from tfpipe.cli import paths, streams
from tfpipe.exceptions import ConfigError
from tfpipe.stores import address as addresses


def define(values: flags.FlagValues) -> None:
    """Defines the flags of the command."""
    flags.DEFINE_enum(
        "device",
        "auto",
        ["auto", "cpu", "gpu"],
        "which devices are wanted: auto, GPUs if nvidia-smi sees one; what is wanted and cannot be used makes the exit "
        "status 1",
        flag_values=values,
        module_name="doctor",
    )
    flags.DEFINE_string(
        "workdir",
        "runs",
        "where runs are to be kept, a folder or an address on an object store: it is written there",
        flag_values=values,
        module_name="doctor",
    )
    flags.DEFINE_float(
        "timeout",
        120.0,
        "seconds after which a program that tries devices is ended, and a store is not tried again; for GPUs newer "
        "than TensorFlow it needs minutes",
        lower_bound=1.0,
        flag_values=values,
        module_name="doctor",
    )


def prepare(values: flags.FlagValues, _: list[str]) -> Callable[[], int]:
    """Checks the flags; what it returns looks at the machine, prints what it found and returns the exit status."""
    workdir = _workdir(values.workdir)
    device, seconds = values.device, values.timeout
    return lambda: _examine(device, workdir, seconds)


def _workdir(value: str) -> pathlib.Path | str:
    """A path, or an address as it is."""
    if not value.strip():
        raise ConfigError("workdir", value, "must be a path or an address; without the flag it is runs")
    if addresses.is_address(value):
        addresses.check("workdir", value, writes=True, outlasts=True)
        return value
    addresses.check_path("workdir", value)
    return paths.expanded("workdir", value)


def _examine(device: str, workdir: pathlib.Path | str, seconds: float) -> int:
    from tfpipe.doctor import observing, report, rules  # NumPy: not for `--help`.

    machine = observing.machine(device, workdir, seconds)
    found = rules.findings(machine, device)
    streams.write_error("\n".join(report.lines(found)))
    streams.write_output(json.dumps(report.content(machine, found, device)))
    return 0 if rules.is_usable(found) else 1
