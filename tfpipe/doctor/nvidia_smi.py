"""What `nvidia-smi` says, the program that comes with NVIDIA's driver."""

import pathlib
import re
import shutil

from tfpipe.doctor import children
from tfpipe.doctor.facts import Gpu, Smi

_QUERY = "index,name,driver_version,compute_cap,memory.total,memory.free,pci.bus_id"
# A driver that is not kept loaded takes seconds to start, of eight GPUs half a minute.
_SMI_SECONDS = 60.0
_OF_WSL = pathlib.Path("/usr/lib/wsl/lib/nvidia-smi")


def path() -> str | None:
    """`nvidia-smi`, on the path or where Windows' Linux has it; None: it is not there."""
    return shutil.which("nvidia-smi") or (str(_OF_WSL) if _OF_WSL.exists() else None)


def asked() -> Smi:
    """What it says."""
    program = path()
    if program is None:
        return Smi()
    answer = children.run([program, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"], _SMI_SECONDS)
    if answer.problem and "compute_cap" in answer.output + answer.log:  # A driver from before 2021.
        fields = _QUERY.replace("compute_cap", "gpu_bus_id")  # Which is no capability, and is taken for none.
        answer = children.run([program, f"--query-gpu={fields}", "--format=csv,noheader,nounits"], _SMI_SECONDS)
    if answer.problem:
        nothing = "No devices were found" in answer.output + answer.log
        return Smi(program, error=None if nothing else answer.last_line or answer.problem)
    gpus = tuple(_gpu(line) for line in answer.output.splitlines() if line.count(",") == _QUERY.count(","))
    header = children.run([program], _SMI_SECONDS).output
    cuda = re.search(r"CUDA(?: UMD)? Version:\s*(\d+\.\d+)", header)
    return Smi(program, gpus, cuda[1] if cuda else None)


def _gpu(line: str) -> Gpu:
    number, name, driver, capability, memory, free, bus = (cell.strip() for cell in line.split(","))
    is_known = re.fullmatch(r"\d+\.\d+", capability) is not None
    return Gpu(int(number), name, driver, capability if is_known else "", _number(memory), _number(free), bus)


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None
