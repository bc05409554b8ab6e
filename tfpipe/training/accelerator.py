"""On which device a run computes; and what is said where that is no GPU, though there is one."""

import functools

from tfpipe.compute import device as devices
from tfpipe.compute.device import Device
from tfpipe.config import TrainConfig
from tfpipe.doctor import nvidia_smi
from tfpipe.exceptions import DeviceError
from tfpipe.monitor import warn


def selected(config: TrainConfig, strategy: str) -> Device:
    """The device that the hyper-parameters name; of several, those that `strategy` says, see `devices.select`.

    A run that takes the CPU though `nvidia-smi` sees a GPU is warned, once a process, and its device has the remark.

    Raises:
      DeviceError: it cannot be used, and why.
    """
    try:
        device = devices.select(config.device, tf32=config.tf32, strategy=strategy)
    except DeviceError as error:
        if error.option != "device" or (why := _why("gpu")) is None:
            raise
        raise DeviceError(error.option, error.value, f"{error.problem}; {why}") from error
    if config.device != "auto" or device.is_gpu or (remark := _remark()) is None:
        return device
    return device._replace(remarks=(remark,))


def _why(device: str) -> str | None:
    from tfpipe.doctor import brief  # Most runs have no use for it.

    return brief.why_none(device)


@functools.cache  # Programs that train many models would ask nvidia-smi for each.
def _remark() -> str | None:
    """What was warned of; None: nothing."""
    if nvidia_smi.path() is None or (why := _why("auto")) is None:
        return None
    remark = f"a GPU is there, and the run takes the CPU: {why}; --device=cpu says that it is meant so"
    warn(remark)
    return remark
