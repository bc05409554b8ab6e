"""What `tfpipe doctor` says of GPUs, in a line, for a run that has none: without its program, which takes seconds."""

from tfpipe.doctor import gpu_rules, observing
from tfpipe.doctor.finding import BAD


def why_none(device: str) -> str | None:
    """Why a run has no GPU: the first thing that is to be mended; None: there is none to wonder at.

    Args:
      device: what `--device` says: `auto`, where it is a wonder if `nvidia-smi` sees one; or `gpu`.
    """
    machine = observing.gpus(device)
    if not gpu_rules.is_wanted(machine, device):
        return None
    wrong = [one for one in gpu_rules.findings(machine, device) if one.level == BAD]
    if not wrong:
        return "tfpipe doctor looks for the reason"
    more = f"{len(wrong) - 1} more to mend, see tfpipe doctor" if len(wrong) > 1 else "tfpipe doctor tells more"
    return f"{wrong[0].subject}: {wrong[0].words} ({more})"
