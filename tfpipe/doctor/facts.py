"""What is known of the machine, as values that JSON can hold: what rules judge, and what tests have written down."""

from collections.abc import Mapping
from typing import Any, NamedTuple

# How the error of a program begins that was ended because it took too long.
LATE = "did not end"


class Gpu(NamedTuple):
    """A GPU, as `nvidia-smi` has it.

    Attributes:
      number: of it there: by PCI bus.
      name: of the card.
      driver: version of the driver.
      capability: compute capability, such as `8.9`; empty where a driver is too old to tell.
      memory, free: in MiB; None where it is not told, as of a GPU that shares the memory of the machine.
      bus: its PCI bus.
    """

    number: int
    name: str
    driver: str
    capability: str
    memory: int | None
    free: int | None
    bus: str


class Smi(NamedTuple):
    """What `nvidia-smi` says.

    Attributes:
      path: the program; None: there is none.
      gpus: that it sees.
      cuda: the newest CUDA that the driver serves, such as `12.8`; None: it does not say.
      error: what it says where it fails.
    """

    path: str | None = None
    gpus: tuple[Gpu, ...] = ()
    cuda: str | None = None
    error: str | None = None


class DeviceFile(NamedTuple):
    """A file below `/dev` by which programs reach a GPU.

    Attributes:
      usable: whether this process may read and write it.
      mode: as `ls -l` has it.
      group: name of its group.
    """

    usable: bool
    mode: str
    group: str


class Library(NamedTuple):
    """A library that TensorFlow opens by its name, opened likewise.

    Attributes:
      file: that was found; None: it cannot be opened.
      version: as it says itself; None: it does not.
      package: that brought the file, with its version; None: none of pip's.
      error: what the system says of one that cannot be opened.
      elsewhere: a file of that name which one of pip's packages has brought, where TensorFlow does not look.
    """

    file: str | None = None
    version: str | None = None
    package: str | None = None
    error: str | None = None
    elsewhere: str | None = None


class Build(NamedTuple):
    """For what TensorFlow was built.

    Attributes:
      package: that brought it, such as `tensorflow`, `tensorflow-cpu`.
      cuda, cudnn: versions; None: without CUDA.
      capabilities: of GPUs that it has programs for: `sm_89`, or `compute_90`, which is PTX to be compiled.
    """

    package: str
    cuda: str | None = None
    cudnn: str | None = None
    capabilities: tuple[str, ...] = ()


class Trial(NamedTuple):
    """How a small compiled program went on a device.

    Attributes:
      seconds: until its result was there, with compiling; None: it never was.
      error: what went wrong; None: the result is right.
    """

    seconds: float | None = None
    error: str | None = None

    @property
    def is_late(self) -> bool:
        """Whether it was ended because it took too long."""
        return (self.error or "").startswith(LATE)


class Folder(NamedTuple):
    """A folder that must be writable, or an address of a store.

    Attributes:
      path: of it; of a store the address, without secrets, and the folder by way of which it is written.
      error: why it cannot be written; None: it can.
      free: bytes that are free there; None: not known.
      locks: whether files can be locked there.
    """

    path: str
    error: str | None = None
    free: int | None = None
    locks: bool = True


class Machine(NamedTuple):
    """All that was observed.

    Attributes:
      system, architecture: as Python calls them: `Linux`, `x86_64`.
      versions: of Python and of packages, by name; None: not installed.
      processor: its model.
      features: instructions that it has, by Linux's names.
      cores: that this process may use.
      memory, free: bytes that this process may use, and of these could still be used.
      smi: what `nvidia-smi` says.
      device_files: by path.
      environment: variables that matter and are set.
      build: for what TensorFlow was built; None: it is not installed, or does not say.
      cuda_packages: pip's packages of NVIDIA, with their versions.
      libraries: that TensorFlow opens, by name; empty: not looked at.
      libdevice, ptxas: the files that XLA needs to compile for a GPU; None: not found.
      cache: where the driver keeps what it has compiled; None: not looked at.
      trials: by device, such as `CPU:0`; `TensorFlow`, where it could not list any. Empty: none was made.
      log: what TensorFlow said of GPUs meanwhile.
      tensorboard: why it cannot be used; empty: it can; None: not tried.
      port_is_free: whether TensorBoard's port is.
      workdir: where runs are kept; None: not looked at.
      failed: observations that failed, and how.
    """

    system: str
    architecture: str
    versions: Mapping[str, str | None]
    processor: str = ""
    features: tuple[str, ...] = ()
    cores: int = 1
    memory: int | None = None
    free: int | None = None
    smi: Smi = Smi()
    device_files: Mapping[str, DeviceFile] = {}
    environment: Mapping[str, str] = {}
    build: Build | None = None
    cuda_packages: Mapping[str, str] = {}
    libraries: Mapping[str, Library] = {}
    libdevice: str | None = None
    ptxas: str | None = None
    cache: Folder | None = None
    trials: Mapping[str, Trial] = {}
    log: tuple[str, ...] = ()
    tensorboard: str | None = None
    port_is_free: bool = True
    workdir: Folder | None = None
    failed: Mapping[str, str] = {}

    def as_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        plain = _plain(self)
        assert isinstance(plain, dict)
        return plain

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Machine":
        """The way back."""
        smi, build = content.get("smi", {}), content.get("build")
        folders = {name: content.get(name) for name in ("cache", "workdir")}
        return cls(
            **{
                **content,
                "features": tuple(content.get("features", ())),
                "smi": Smi(**{**smi, "gpus": tuple(Gpu(**gpu) for gpu in smi.get("gpus", ()))}),
                "device_files": {path: DeviceFile(**one) for path, one in content.get("device_files", {}).items()},
                "build": build and Build(**{**build, "capabilities": tuple(build.get("capabilities", ()))}),
                "libraries": {name: Library(**one) for name, one in content.get("libraries", {}).items()},
                **{name: folder and Folder(**folder) for name, folder in folders.items()},
                "trials": {device: Trial(**one) for device, one in content.get("trials", {}).items()},
                "log": tuple(content.get("log", ())),
            }
        )


def _plain(value: Any) -> Any:
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: _plain(one) for name, one in value._asdict().items()}
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, tuple) else value
