"""Whether TensorFlow can use the GPUs, and what keeps it from it: what is told first is the cause of what follows.

The figures are those of TensorFlow 2.21. It opens these libraries, and lists no GPU if one is missing
(`xla/tsl/platform/default/dlopen_checker.cc`); XLA looks for libdevice and ptxas where `cuda_root_path.cc` says.
"""

from collections.abc import Iterator

from tfpipe.doctor.facts import DeviceFile, Gpu, Library, Machine
from tfpipe.doctor.finding import BAD, Finding, as_notes, bad, good, note

# What must be there for a GPU to be listed, by the package of pip that brings it; and what only some runs want.
NEEDED = {
    "libcudart.so.12": "nvidia-cuda-runtime-cu12",
    "libcublas.so.12": "nvidia-cublas-cu12",
    "libcublasLt.so.12": "nvidia-cublas-cu12",
    "libcufft.so.11": "nvidia-cufft-cu12",
    "libcusolver.so.11": "nvidia-cusolver-cu12",
    "libcusparse.so.12": "nvidia-cusparse-cu12",
    "libcudnn.so.9": "nvidia-cudnn-cu12",
}
OPTIONAL = {"libcupti.so.12": ("nvidia-cuda-cupti-cu12", "--profile of GPUs")}
DRIVER = "libcuda.so.1"
ALL = "pip install 'tensorflow[and-cuda]>=2.21,<2.22'"

# CUDA 12 runs on drivers of any CUDA 12 ("minor version compatibility"); one of 12.5 or newer also takes its PTX.
_LEAST_CUDA = 12, 0
_FULL_CUDA = 12, 5
_LEAST_DRIVER, _FULL_DRIVER = "525.60.13", "555"
_FULL = f"install driver {_FULL_DRIVER} or newer"
_LEAST_CUDNN = 9, 3
_LEAST_CAPABILITY = 6, 0
# From here on there is PTX alone; and from there on XLA's PTX, 8.5, is too old for the GPU, and LLVM ends the process.
_ONLY_PTX = 10, 0
_TOO_NEW = 12, 0
_MINIMUM_MULTIPROCESSORS = "TF_MIN_GPU_MULTIPROCESSOR_COUNT"
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_WITHOUT = "--device=cpu does without"
LONGER = "a larger --timeout gives it longer"


def is_wanted(machine: Machine, device: str) -> bool:
    """Whether a GPU is wanted by `--device`: for `auto` one that `nvidia-smi` sees is."""
    return device == "gpu" or (device == "auto" and bool(machine.smi.gpus))


def findings(machine: Machine, device: str) -> list[Finding]:
    """What there is to say of GPUs, in the order in which one would mend it.

    Args:
      machine: as observed.
      device: what `--device` says: `auto`, `cpu` or `gpu`.
    """
    if device == "cpu":
        return []
    if not is_wanted(machine, device) and not machine.device_files:
        why = machine.smi.error or ("nvidia-smi sees none" if machine.smi.path else "nvidia-smi is not there")
        return [good("GPU", f"none ({why}), and none is wanted: runs take the CPU")]
    found = [
        *_build(machine),
        *_seen(machine),
        *_permissions(machine),
        *_visible(machine),
        *_driver(machine),
        *_libraries(machine),
        *_compiler(machine),
        *_capabilities(machine),
        *_hidden(machine),
    ]
    tried = [trial for name, trial in machine.trials.items() if name.startswith("GPU")]
    # What runs, runs: then the rules only tell what may be better.
    runs = bool(tried) and not any(trial.error for trial in tried)
    if runs or not is_wanted(machine, device):
        found = as_notes(found)
    return [*found, *_trials(machine, device, any(one.level == BAD for one in found))]


def _build(machine: Machine) -> Iterator[Finding]:
    build = machine.build
    if build is None:
        yield bad("TensorFlow", "is not installed, or does not say how it was built", ALL)
    elif build.cuda is None:
        of_cpu = "is built for CPUs alone"
        if (machine.system, machine.architecture) != ("Linux", "x86_64"):
            where = f"{machine.system} on {machine.architecture}"
            yield bad(
                "TensorFlow", f"{build.package} {of_cpu}: so it is on {where}", "GPUs want Linux on x86-64, or WSL2"
            )
        else:
            yield bad("TensorFlow", f"{build.package} {of_cpu}", f"pip uninstall {build.package}, then {ALL}")
    else:
        yield good("TensorFlow", f"{build.package} is built for CUDA {build.cuda} and cuDNN {build.cudnn}")


def _seen(machine: Machine) -> Iterator[Finding]:
    smi, subject = machine.smi, "nvidia-smi"
    install = (
        f"install NVIDIA's driver, {_LEAST_DRIVER} or newer; in a container: start it with GPUs (docker run --gpus all)"
    )
    for gpu in smi.gpus:
        memory = "" if gpu.memory is None else f", {gpu.free or 0:,} of {gpu.memory:,} MiB free"
        yield good(
            f"GPU {gpu.number}",
            f"{gpu.name}, driver {gpu.driver}, capability {gpu.capability or '-'}{memory}, {gpu.bus}",
        )
    if smi.gpus:
        return
    if smi.path is None:
        there = " though there are device files of GPUs" if machine.device_files else ""
        yield bad(subject, f"is not there{there}", install)
    elif smi.error and "mismatch" in smi.error.lower():
        yield bad(subject, f"fails: {smi.error}", "the driver was updated while it was in use: restart the machine")
    elif smi.error and "permission" in smi.error.lower():
        yield bad(subject, f"fails: {smi.error}", "see to the device files below /dev")
    elif smi.error:
        yield bad(subject, f"fails: {smi.error}", f"start or {install}")
    else:
        yield bad(subject, "sees no GPU", "look whether the system has one: lspci | grep -i nvidia")


def _permissions(machine: Machine) -> Iterator[Finding]:
    closed: dict[DeviceFile, list[str]] = {}
    for path, file in machine.device_files.items():
        if not file.usable:
            closed.setdefault(file, []).append(path)
    for file, paths in closed.items():
        is_for_group = file.mode[4:6] == "rw" and file.group != "root"
        join, open_up = f"sudo usermod -aG {file.group} $USER, and log in again", " ".join(["sudo chmod 666", *paths])
        what = (
            f"this user may not read and write {'it' if len(paths) == 1 else 'them'} ({file.mode}, group {file.group})"
        )
        yield bad(", ".join(paths), what, join if is_for_group else open_up)


def _visible(machine: Machine) -> Iterator[Finding]:
    gpus, given = machine.smi.gpus, machine.environment.get(_VISIBLE)
    if given is not None:
        first = given.split(",")[0].strip()
        is_number = first.removeprefix("-").isdigit()
        unset = f"unset {_VISIBLE}; if it is meant so, --device=cpu says it"
        if not first or (is_number and int(first) < 0) or not (is_number or first.startswith(("GPU-", "MIG-"))):
            yield bad(_VISIBLE, f"{_VISIBLE}={given} hides all GPUs", unset)
        elif is_number and gpus and int(first) >= len(gpus):
            last = f"0 to {len(gpus) - 1}" if len(gpus) > 1 else "0 alone"
            yield bad(
                _VISIBLE, f"{_VISIBLE}={given} names a GPU that is not there, which hides all", f"there is {last}"
            )
        else:
            yield good(_VISIBLE, f"{_VISIBLE}={given}")
    if len({gpu.name for gpu in gpus}) > 1 and machine.environment.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        yield note("CUDA_DEVICE_ORDER", "CUDA numbers GPUs of several kinds fastest first, and nvidia-smi by bus",
                   "export CUDA_DEVICE_ORDER=PCI_BUS_ID gives both the same numbers")  # fmt: skip
    if not gpus and machine.environment.get("NVIDIA_VISIBLE_DEVICES") in ("", "void", "none"):
        value = machine.environment["NVIDIA_VISIBLE_DEVICES"]
        yield bad("NVIDIA_VISIBLE_DEVICES", f"NVIDIA_VISIBLE_DEVICES={value} keeps GPUs out of this container",
                  "start it with NVIDIA_VISIBLE_DEVICES=all")  # fmt: skip


def _driver(machine: Machine) -> Iterator[Finding]:
    library = machine.libraries.get(DRIVER)
    if library and library.error:
        yield bad(DRIVER, f"the driver's library {_reason(DRIVER, library)}",
                  "install the driver's part for programs (libnvidia-compute); in a container: start it with GPUs, and "
                  "with NVIDIA_DRIVER_CAPABILITIES=compute,utility")  # fmt: skip
    said = machine.smi.cuda or (library.version if library else None)
    if said is None:
        return
    cuda = numbers(said)
    if cuda < _LEAST_CUDA:
        yield bad("driver", f"serves CUDA {said} at most, and TensorFlow is built for 12.5",
                  f"install driver {_LEAST_DRIVER} or newer, best {_FULL_DRIVER} or newer")  # fmt: skip
    elif cuda < _FULL_CUDA:
        what = f"serves CUDA {said}, and TensorFlow is built for 12.5: XLA compiles slower"
        ptx_alone = any(numbers(gpu.capability) >= _ONLY_PTX for gpu in machine.smi.gpus if gpu.capability)
        if ptx_alone:  # An older driver does not take the PTX of a newer toolkit.
            yield bad("driver", f"{what}, and this GPU needs what the driver cannot compile", _FULL)
        else:
            yield note("driver", what, _FULL)
    else:
        yield good("driver", f"serves CUDA {said}")


def _reason(name: str, library: Library) -> str:
    """Why a library cannot be opened."""
    error = library.error or ""
    return "is not found" if not error or error.startswith(f"{name}: cannot open") else f"cannot be opened: {error}"


def _libraries(machine: Machine) -> Iterator[Finding]:
    if not machine.libraries:
        return
    missing = [name for name in NEEDED if _lacks(machine, name)]
    nowhere = [name for name in missing if machine.libraries[name].elsewhere is None]
    newer = [f"{name} {version}" for name, version in machine.cuda_packages.items() if _is_of_cuda_13(name)]
    if nowhere and newer and not any(name.endswith("-cu12") for name in machine.cuda_packages):
        what = f"pip's packages are of CUDA 13 ({', '.join(newer[:2])}, ...), and TensorFlow is built for CUDA 12"
        yield bad("libraries", what, f"{ALL} adds those of CUDA 12")
    elif len(nowhere) > 1:
        yield bad("libraries", f"not found: {', '.join(nowhere)}", ALL)
    for name, package in NEEDED.items():
        if name in nowhere:
            if len(nowhere) == 1:
                yield bad(name, _reason(name, machine.libraries[name]), f"pip install '{package}{_bounds(package)}'")
        elif name in missing:
            folder = (machine.libraries[name].elsewhere or "").rpartition("/")[0]
            others = ":$LD_LIBRARY_PATH" if machine.environment.get("LD_LIBRARY_PATH") else ""
            yield bad(
                name, f"lies in {folder}, where TensorFlow does not look", f"export LD_LIBRARY_PATH={folder}{others}"
            )
        else:
            yield _library(machine, name)
    for name, (package, use) in OPTIONAL.items():
        if name in machine.libraries:
            yield (
                note(name, f"is not found, for {use}", f"pip install '{package}<13'")
                if _lacks(machine, name)
                else _library(machine, name)
            )


def _lacks(machine: Machine, name: str) -> bool:
    library = machine.libraries.get(name)
    return library is not None and library.file is None


def _library(machine: Machine, name: str) -> Finding:
    library = machine.libraries[name]
    by = library.package or "none of pip's packages"
    if name == "libcudnn.so.9" and library.version and numbers(library.version) < _LEAST_CUDNN:
        return bad(name, f"is cuDNN {library.version} ({library.file}, {by}), and TensorFlow is built for 9.3",
                   f"pip install 'nvidia-cudnn-cu12{_bounds('nvidia-cudnn-cu12')}'" if library.package
                   else f"{ALL}, and take its folder from LD_LIBRARY_PATH")  # fmt: skip
    return good(name, f"{library.version or 'version not told'}: {library.file}, {by}")


def _bounds(package: str) -> str:
    return ">=9.3,<10" if "cudnn" in package else "<12" if "cufft" in package or "cusolver" in package else "<13"


def _is_of_cuda_13(package: str) -> bool:
    """Whether a package of NVIDIA is one of CUDA 13: most of their names have no ending any more."""
    return package.endswith("-cu13") or f"{package}-cu12" in NEEDED.values()


def _compiler(machine: Machine) -> Iterator[Finding]:
    if not machine.libraries:
        return
    install = "pip install 'nvidia-cuda-nvcc-cu12<13', or XLA_FLAGS=--xla_gpu_cuda_data_dir=/path/to/cuda"
    there = []
    for name, file in (("libdevice", machine.libdevice), ("ptxas", machine.ptxas)):
        if file is None:
            yield bad(name, "is not found, without which XLA compiles nothing for a GPU", install)
        else:
            there.append(file)
    if len(there) == 2:
        yield good("libdevice, ptxas", ", ".join(there))


def _capabilities(machine: Machine) -> Iterator[Finding]:
    for gpu in machine.smi.gpus:
        if gpu.capability:
            yield from _capability(machine, gpu, numbers(gpu.capability))


def _capability(machine: Machine, gpu: Gpu, capability: tuple[int, ...]) -> Iterator[Finding]:
    subject, has = f"GPU {gpu.number}", f"capability {gpu.capability}"
    if capability < _LEAST_CAPABILITY:
        yield bad(subject, f"{has}, and TensorFlow wants 6.0 or newer", "--device=cpu")
    elif capability >= _TOO_NEW:
        yield bad(subject, f"{has} is newer than XLA of TensorFlow 2.21, whose PTX 8.5 it does not take",
                  "--device=cpu, a newer TensorFlow, or NVIDIA's container of it (tensorflow#111958)")  # fmt: skip
    elif capability >= _ONLY_PTX:
        newer, cache = f"{has} is newer than TensorFlow's programs", machine.cache
        if cache and cache.error:
            lost = f"each start compiles for minutes, as {cache.path} cannot be written ({cache.error})"
            yield note(subject, f"{newer}: {lost}", "set CUDA_CACHE_PATH to a folder that can be written")
        else:
            yield note(subject, f"{newer}: the first start compiles for minutes; what is compiled is kept for the next")


def _hidden(machine: Machine) -> Iterator[Finding]:
    """GPUs that `nvidia-smi` sees and TensorFlow passes over, by its own words."""
    for line in machine.log:
        if "Ignoring visible gpu device" in line:
            takes_small = f"export {_MINIMUM_MULTIPROCESSORS}=1 takes small GPUs too"
            yield bad("TensorFlow", line.rstrip("."), takes_small if "core count" in line else "--device=cpu")


def _trials(machine: Machine, device: str, is_explained: bool) -> Iterator[Finding]:
    of_gpus = {name: trial for name, trial in machine.trials.items() if name.startswith("GPU")}
    for name, trial in of_gpus.items():
        if trial.error:
            remedy = f"{LONGER}; {_WITHOUT}" if trial.is_late else _WITHOUT
            yield bad(name, f"a compiled program does not run: {trial.error}", remedy)
        else:
            yield good(name, f"a compiled program ran in {trial.seconds:.1f} s")
    if machine.trials and not of_gpus and is_wanted(machine, device) and "TensorFlow" not in machine.trials:
        said = "; ".join(_briefly(line) for line in machine.log if "Ignoring visible" not in line)
        remedy = "mend what stands above" if is_explained else "TF_CPP_MAX_VLOG_LEVEL=1 has TensorFlow say more"
        yield bad("TensorFlow", f"lists no GPU{f': {said}' if said else ''}", f"{remedy}; {_WITHOUT}")


def _briefly(line: str) -> str:
    return line.partition(". Please make sure")[0].rstrip(".")


def numbers(version: str) -> tuple[int, ...]:
    """A version as numbers, as far as it is made of them: `12.5` is (12, 5)."""
    parts = []
    for part in version.split("."):
        if not part.isdigit():
            break
        parts.append(int(part))
    return tuple(parts)
