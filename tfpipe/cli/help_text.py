"""What `tfpipe COMMAND --help` prints."""

import textwrap

from absl import flags

_ASKING = frozenset({"help", "h", "helpshort", "helpfull", "helpxml"})
_WIDTH = 100
_ABSL = (
    "Also: --flagfile=FILE reads flags from a file, --verbosity=-1 hides the log (1: shows more), --only_check_args "
    "checks the flags and stops; --helpfull lists every flag."
)


def is_asked_for(arguments: list[str]) -> bool:
    """Whether a flag among `arguments` asks for help."""
    names = (argument.lstrip("-").split("=")[0] for argument in arguments if argument.startswith("-"))
    return not _ASKING.isdisjoint(names)


def of_command(name: str, summary: str, arguments: str, values: flags.FlagValues, everything: bool) -> str:
    """The help of one command: its own flags, or also those that absl brings."""
    own = values.flags_by_module_dict()[name]
    lines = [f"tfpipe {name}: {summary}", "", f"usage: tfpipe {name} [flags] {arguments}".rstrip(), ""]
    shown = list({id(values[flag]): values[flag] for flag in values}.values()) if everything else own
    for flag in shown:
        lines += _of_flag(flag)
    lines += ["", *textwrap.wrap(_ABSL, _WIDTH)]
    return "\n".join(lines)


def _of_flag(flag: flags.Flag) -> list[str]:
    if flag.boolean:
        default = "" if flag.default is None else f"  (default: --{'' if flag.default else 'no'}{flag.name})"
        head = f"  --[no]{flag.name}{default}"
    else:
        head = f"  --{flag.name}" + (f"  (default: {_default(flag)})" if flag.default is not None else "")
    return [head, *textwrap.wrap(flag.help or "", _WIDTH, initial_indent="      ", subsequent_indent="      ")]


def _default(flag: flags.Flag) -> str:
    return str(flag.default_as_str).strip("'")
