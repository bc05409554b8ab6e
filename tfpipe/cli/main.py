"""`tfpipe COMMAND [flags]`: finds the command, parses its flags, turns errors into one line and an exit status.

argparse finds the command, by absl's argparse_flags; absl parses what follows, for argparse would take away spellings
(`--shuffle=false`, `-epochs=3`, `--learning_rate -1e-3`) and the suggestions for a misspelled flag.
"""

import argparse
import logging as python_logging
import os
import re
import sys
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from absl import app, flags, logging
from absl.flags import argparse_flags

from tfpipe.cli import (
    compare,
    describe,
    doctor,
    evaluate,
    export,
    help_text,
    interruption,
    launch,
    predict,
    streams,
    train,
)
from tfpipe.exceptions import ClusterError, OptionError, TfpipeError
from tfpipe.stores import address as addresses
from tfpipe.version import __version__

FAILED = 1
WRONG_USAGE = 2
# An address in a message; what ends a sentence or a quotation is not of it.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://\S*?(?=['\",;:)]*(?:\s|$))")


class Command(NamedTuple):
    """A command.

    Attributes:
      summary: one line for the help.
      define: defines the command's flags on the FlagValues it is given.
      prepare: turns the parsed flags, and the arguments that are none, into the function that does the work and returns
        the exit status. It imports nothing heavy: wrong usage is found out at once.
      arguments: what the arguments that are no flags are, in the words of the help; empty: there are none. Where these
        words begin with `--`, so must the arguments: their flags are another command's.
    """

    summary: str
    define: Callable[[flags.FlagValues], None]
    prepare: Callable[[flags.FlagValues, list[str]], Callable[[], int]]
    arguments: str = ""


COMMANDS = {
    "train": Command("train softmax regression on a data set", train.define, train.prepare),
    "launch": Command("train in several processes", launch.define, launch.prepare, "-- train [flags]"),
    "evaluate": Command("tell how good a trained model is on a data set", evaluate.define, evaluate.prepare),
    "compare": Command("compare finished runs on the same examples", compare.define, compare.prepare, "RUN RUN..."),
    "predict": Command("tell the classes of pictures", predict.define, predict.prepare, "FILE..."),
    "export": Command("write a trained model in the form of other programs", export.define, export.prepare),
    "describe": Command("tell what a data set holds, and show examples", describe.define, describe.prepare),
    "doctor": Command(
        "tell why there is no GPU, and what else is wrong with the machine", doctor.define, doctor.prepare
    ),
}
_THE_COMMANDS = f"the commands are: {', '.join(COMMANDS)} (see tfpipe --help)"


def main(argv: list[str] | None = None) -> int:
    """Runs the command line `argv` (default: the process's own). Ends the process with SystemExit, as absl does.

    Exit status: 0 done, 1 failed (data, files, devices), 2 wrong usage (what the command line alone shows), 143
    stopped by SIGTERM, SIGINT or SIGHUP, with the results so far saved if the training had begun; of `launch` that
    of the worker that failed first.
    """
    streams.repair()
    argv = sys.argv if argv is None else argv
    arguments = argv[1:]
    parser = _parser_of_commands()
    try:
        asked = parser.parse_args(arguments[:1])
    except argparse.ArgumentError:
        _fail("tfpipe", f"unknown command '{arguments[0]}'; {_THE_COMMANDS}", WRONG_USAGE)
    if asked.version:
        return _answer(__version__)
    if asked.help:
        return _answer(parser.format_help().rstrip())
    name = asked.command
    if name is None:
        _fail("tfpipe", f"no command; {_THE_COMMANDS}", WRONG_USAGE)

    command = COMMANDS[name]
    command.define(flags.FLAGS)
    if help_text.is_asked_for(arguments):
        return _answer(
            help_text.of_command(name, command.summary, command.arguments, flags.FLAGS, "--helpfull" in arguments)
        )
    app.run(
        lambda work: _run(name, work),
        argv=[f"tfpipe {name}", *arguments[1:]],
        flags_parser=lambda argv: _parse(name, command, argv),
    )
    raise AssertionError("absl's app.run does not return")


class _Parser(argparse_flags.ArgumentParser):
    """Raises what is wrong, where argparse would print its own words and exit."""

    def error(self, message: str) -> NoReturn:
        raise argparse.ArgumentError(None, message)


def _parser_of_commands() -> argparse.ArgumentParser:
    """Takes one argument: the name of a command, or a flag instead of one."""
    options: dict[str, Any] = {"inherited_absl_flags": None, "add_help": False}
    parser = _Parser(
        prog="tfpipe",
        usage="tfpipe COMMAND [flags]",
        description="Softmax regression on image matrices, with TensorFlow.",
        epilog="tfpipe COMMAND --help lists the flags of a command; tfpipe --version prints the version.",
        exit_on_error=False,
        **options,
    )
    parser.add_argument("-version", "--version", action="store_true", help=argparse.SUPPRESS)
    forms = ["-h", "--help", "--helpshort", "--helpfull", "--helpxml"]
    parser.add_argument(*forms, dest="help", nargs="?", const=True, help=argparse.SUPPRESS)
    commands = parser.add_subparsers(dest="command", title="commands", metavar="COMMAND [flags]")
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.summary, **options)
    return parser


def _answer(text: str) -> int:
    try:
        streams.write_output(text)
    except TfpipeError as error:
        _fail("tfpipe", str(error), FAILED)
    return 0


def _parse(name: str, command: Command, argv: list[str]) -> Callable[[], int]:
    program = f"tfpipe {name}"
    if command.arguments.startswith("--") and "--" not in argv:
        _fail(program, f"no -- before the command; usage: {program} [flags] {command.arguments}", WRONG_USAGE)
    try:
        positional = flags.FLAGS(argv)[1:]
        if positional and not command.arguments:
            _fail(program, f"unexpected argument '{positional[0]}'; flags are written --name=value", WRONG_USAGE)
        _format_log()
        return command.prepare(flags.FLAGS, positional)
    except OptionError as error:
        _fail(program, _one_line(error), WRONG_USAGE)
    except (flags.Error, OSError, ValueError) as error:  # The last two: of a --flagfile, which absl opens and decodes.
        _fail(program, f"{error} (see {program} --help)", WRONG_USAGE)


def _run(name: str, work: Callable[[], int]) -> int:
    program = f"tfpipe {name}"
    interruption.listen()
    try:
        status = work()
        _leave(status)
        return status
    except interruption.Interrupted as signal:
        _fail(program, f"stopped by {signal}", interruption.STATUS)
    except Exception as error:
        if logging.get_verbosity() >= logging.DEBUG:
            logging.exception("%s failed", program)
        try:
            _fail(program, _one_line(error), FAILED)
        finally:
            if isinstance(error, ClusterError):  # TensorFlow would wait for the others.
                _leave(FAILED)


def _leave(status: int) -> None:
    """Ends the process where TensorFlow would be taken down first: half a second, of the 5.5 of the tutorial's run."""
    if "tensorflow" in sys.modules:
        logging.flush()
        streams.flush()
        os._exit(status)


def _one_line(error: Exception) -> str:
    if isinstance(error, OptionError):
        return f"--{error}"  # An option's name is that of its flag.
    if isinstance(error, TfpipeError):
        return str(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    # A fault of ours or of the machine: its kind says more than its words.
    return f"{type(error).__name__}: {error} (--verbosity=1 shows where)"


def _fail(program: str, message: str, status: int) -> NoReturn:
    # Control characters, line breaks in a file's name among them, would make it more than one line.
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
    # Wrong usage is repeated: an address among it may hold a password, or a signature.
    line = _ADDRESS.sub(lambda match: addresses.shown(match[0]), line)
    streams.write_error(f"{program}: {line}")
    sys.exit(status)


def _format_log() -> None:
    """Plain lines: people read this log while they wait."""
    logging.get_absl_handler().setFormatter(python_logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
