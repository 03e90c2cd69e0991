"""The `plastic` command: finds out what is asked for, and ends well whatever comes.

What a subcommand does is in a file of `train.commands`, which is imported when it is asked for. For
PyTorch, whose import takes seconds, only those wait, before they can tell their options, whose
options come from signatures of networks and experiments: train, train-rl, demo and reproduce.
"""

import contextlib
import difflib
import importlib
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial, wraps
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from plastic_envs.project import check_agents
from plastic_envs.version import __version__
from train.places import seeing_working_directory, typed_path
from train.wording import columns, printable, say

if TYPE_CHECKING:
    from tyro.constructors import PrimitiveConstructorSpec, PrimitiveTypeInfo

    from train.supervised.distributed import Processes

logger = logging.getLogger(__name__)

COMMANDS = {
    "train": "Meta-train a network on a memory or few-shot task, by supervised learning.",
    "train-rl": "Train an agent by reinforcement learning, on any Gymnasium environment.",
    "watch": "Record an episode of an agent trained by reinforcement learning.",
    "evaluate": "Score a trained network or agent on test episodes.",
    "plot": "Draw learning curves and plasticity rates of runs of one task.",
    "demo": "Train networks with plastic weights, memories and neither, and compare them.",
    "reproduce": "Run experiments: what is missing is run, what was cut off goes on.",
    "report": "Write a page of figures and tables of what was reproduced.",
}
"""The subcommands, each a file of `train.commands`, with what they do."""

_HELP = ("-h", "--help")
_STOPPED = 128  # and the number of a signal: the exit status of programs that it ends
_PLAIN = (ValueError, OSError, MemoryError, ImportError, RuntimeError)  # told in one line


def main() -> None:
    """Run the command line."""
    _open_streams()
    processes = _launched()
    first = processes is None or processes.is_first
    who = "" if processes is None or first else f"process {processes.rank}: "
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_PrintableFormatter(f"%(levelname)s {who}%(message)s"))
    logging.basicConfig(level=logging.INFO if first else logging.ERROR, handlers=[handler])
    with _signals_stop(alone=processes is None) as received, seeing_working_directory():
        try:
            code = _run(sys.argv[1:], processes)
        except BaseException as error:  # noqa: BLE001 (also what a signal has become)
            code = _ended(error, received, processes)
    code = _flushed(code)
    if code:
        sys.exit(code)


def _ended(error: BaseException, received: list[int], processes: "Processes | None") -> int:
    """Say what ended the command, if it is none of its faults; return the exit status."""
    if isinstance(error, KeyboardInterrupt) and not received:
        received = [signal.SIGINT]
    if received:  # whatever became of it: PyTorch makes an error of its own of it while it writes
        if processes is None or processes.is_first:
            logger.error("%s", "; ".join(["stopped", *getattr(error, "__notes__", [])]))
        return _STOPPED + received[0]
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, BrokenPipeError):  # whoever read our output has seen enough
        return 1
    if not isinstance(error, _PLAIN):
        raise error
    if processes is not None:
        _let_first_speak(processes, error)
    logger.error("%s", _told(error))
    return 1


def _run(words: list[str], processes: "Processes | None") -> int:
    """Do what the words of the command line ask for; return the exit status."""
    name = words[0].replace("_", "-") if words else ""
    if name == "--version":
        say(f"plastic-envs {__version__}")
        return 0
    check_agents()
    if processes is not None and processes.size > 1 and name != "train":
        raise ValueError("torchrun is for plastic train alone: start other commands without")
    if name in _HELP:
        say(_help())
        return 0
    if name not in COMMANDS:
        logger.error("%s", _no_command(name))
        return 2
    first = processes is None or processes.is_first
    call: Callable[[], None] | int
    try:
        function = _function(name, words[1:])
    except ValueError as error:
        if first:
            logger.error("%s; plastic %s --help tells the options", error, name)
        call = 2
    else:
        call = _parsed(function, name, words[1:], first=first)
    if isinstance(call, int):
        if call and processes is not None:
            processes.let_first_speak()
        return call
    call()
    return 0


def _function(name: str, words: list[str]) -> Callable[..., None]:
    """Return what a command calls, whose arguments are the options that its words may have.

    Raises:
        ValueError: If the words name parts of a run that there are not.
    """
    module = importlib.import_module(f"train.commands.{name.replace('-', '_')}")
    function: Callable[..., None] = module.run
    return module.command(words) if hasattr(module, "command") else function


def _parsed(
    function: Callable[..., None], name: str, words: list[str], *, first: bool = True
) -> Callable[[], None] | int:
    """Return the call that the words of a command ask for, or the exit status if there is none.

    The first of several processes alone says what is wrong, or the help.
    """
    import tyro

    @wraps(function)
    def deferred(*args: Any, **kwargs: Any) -> Callable[[], None]:
        return partial(function, *args, **kwargs)

    registry = tyro.constructors.ConstructorRegistry()
    registry.primitive_rule(_path_rule)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            call: Callable[[], None] = tyro.cli(
                deferred,
                prog=f"plastic {name}",
                args=words,
                registry=registry,
                console_outputs=first,
            )
    except SystemExit as stop:
        if stop.code and first:
            logger.error(
                "%s; plastic %s --help tells the options", _in_a_line(said.getvalue()), name
            )
        return int(stop.code or 0)
    sys.stderr.write(said.getvalue())  # warnings
    return call


def _path_rule(info: "PrimitiveTypeInfo") -> "PrimitiveConstructorSpec[Path] | None":
    """Tell tyro how paths are read, in every option that takes one: `~` is a home directory."""
    from tyro.constructors import PrimitiveConstructorSpec

    if info.type is not Path:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda words: typed_path(words[0]),
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda path: [str(path)],
    )


def _in_a_line(said: str) -> str:
    """Return what tyro's box says, without its title and what it repeats below."""
    sections: list[list[str]] = [[]]
    for line in said.splitlines():
        text = line.strip("│╰╯ ")
        if text and not text.strip("─-"):  # a ruler
            sections.append([])
        elif text:
            sections[-1].append(text)
            if text.startswith("╭"):  # the title stands in the edge
                sections.append([])
    title, *others = [section for section in sections if section] or [["they cannot be read"]]
    told = " ".join(others[0] if others else title).rstrip(".")
    for section in others[1:]:
        if len(section) > 1 and section[0].startswith("Perhaps you meant"):
            told += f" (did you mean {section[1].split()[0]}?)"
    return told


def _help() -> str:
    listed = columns([(f"  {name}", told) for name, told in COMMANDS.items()])
    return (
        "usage: plastic [-h] [--version] COMMAND [OPTIONS]\n\n"
        "Networks with plastic weights: train, score, look, reproduce.\n\n"
        f"commands:\n{listed}\n\n"
        "options:\n"
        "  -h, --help  show this help message and exit\n"
        "  --version   show the version and exit\n\n"
        "plastic COMMAND --help tells the options of a command."
    )


def _no_command(name: str) -> str:
    known = f"one of {', '.join(COMMANDS)}; plastic --help tells more"
    if not name:
        return f"a command is missing: {known}"
    near = difflib.get_close_matches(name, COMMANDS, 1)
    meant = f"did you mean {near[0]}? " if near else ""
    return f"there is no command {name!r}: {meant}It must be {known}"


def _told(error: BaseException) -> str:
    """Say an error in a line, also one that says nothing itself."""
    text = str(error) or type(error).__name__
    return " ".join(text.split("\n")) if isinstance(error, OSError) else text


class _PrintableFormatter(logging.Formatter):
    """Writes messages so that nothing in them reaches the terminal but text."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def _open_streams() -> None:
    """Open standard streams that were closed (`>&-`), and let every text be written to them.

    Otherwise the next file would take the number of the closed one, with all that goes there.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: PTH123, SIM115
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)
        elif name != "stdin" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # such as ± where only ASCII is known


def _flushed(code: int) -> int:
    """Write what is left of the output; return the exit status."""
    try:
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        pass
    except OSError as error:
        if not code:
            logger.error("the output cannot be written: %s", error.strerror)
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code or 1


@contextlib.contextmanager
def _signals_stop(*, alone: bool) -> Iterator[list[int]]:
    """Let Ctrl-C, SIGTERM and SIGHUP end the program in order; a second one ends it at once.

    Signals that are ignored (as by nohup) or handled already stay so, and all of them where
    torchrun ends its processes itself. Yields where it is written which one came.
    """
    received: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        received.append(number)
        raise KeyboardInterrupt  # which passes by all `except Exception`

    before: dict[int, Any] = {}
    if alone and threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # Windows has not all of them
            number = getattr(signal, name, None)
            usual = (signal.SIG_DFL, signal.default_int_handler)
            if number is not None and (was := signal.getsignal(number)) in usual:
                before[number] = was
    for number in before:
        signal.signal(number, stop)
    try:
        yield received
    finally:
        for number, was in before.items():
            signal.signal(number, was)


def _launched() -> "Processes | None":
    """Return which process this is of those that torchrun started; None without torchrun."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    from train.supervised.distributed import launched

    return launched()


def _let_first_speak(processes: "Processes", error: BaseException) -> None:
    """Wait where the first process meets the same error, and says it."""
    from train.supervised.distributed import OtherProcessError
    from train.supervised.training import NonFiniteLossError

    met = (ValueError, FileNotFoundError, NonFiniteLossError, OtherProcessError)
    if isinstance(error, met):
        processes.let_first_speak()


if __name__ == "__main__":
    main()
