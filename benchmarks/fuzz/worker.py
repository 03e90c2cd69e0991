"""Runs cases in a process of its own, which may crash, hang and eat memory."""

import contextlib
import faulthandler
import multiprocessing
import os
import re
import resource
import shutil
import signal
import tempfile
import warnings
import zlib
from collections.abc import Callable
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np

from benchmarks.fuzz.case import Case, Result, judged

KindName = Literal["arguments", "actions", "files", "runs", "commands"]
KINDS: tuple[KindName, ...] = get_args(KindName)
SECONDS = 60.0  # that a case may take, also on a busy machine
SET_UP_SECONDS = 300.0
_MEMORY = 1 << 30  # bytes that a case may take on top of what was there before
_ADDRESSES = 4 << 30  # bytes of address space on top of it, where allocations fail

MakeCase = Callable[[np.random.Generator, Path], Case]


class Tried(NamedTuple):
    """A case that was run."""

    kind: str
    seed: int
    case: int
    call: str
    outcome: str
    detail: str


class Worker:
    """A process that runs cases one by one, and is started anew when one has brought it down.

    Args:
        seconds: Time that a case may take; it can be changed between cases.
        package: Where the modules of the kinds are.
    """

    def __init__(self, seconds: float = SECONDS, package: str = "benchmarks.fuzz") -> None:
        self.seconds, self._package = seconds, package
        self._process: multiprocessing.process.BaseProcess | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="plastic-fuzz-")

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._folder.cleanup()

    def run(self, kind: str, seed: int, case: int) -> Tried:
        """Run a case and say how it ended."""
        if self._process is None:
            self._start()
        call, self._at_work = "(nothing yet: the case was being made)", True
        try:
            self._connection.send((kind, seed, case, self.seconds))
            for limit in (SET_UP_SECONDS, self.seconds):
                if not self._connection.poll(limit):
                    self._stop()
                    return Tried(kind, seed, case, call, "other", f"hangs {self._last_place()}")
                received = self._connection.recv()
                if isinstance(received, Result):
                    self._at_work = False
                    return Tried(kind, seed, case, call, *received)
                call = received
            raise AssertionError("a case has two parts")
        except (EOFError, ConnectionError):
            self._stop()
            return Tried(kind, seed, case, call, "other", f"crashes {self._last_place()}")

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._log = Path(self._folder.name) / "stderr"
        self._log.touch()
        arguments = (theirs, Path(self._folder.name), self._package)
        self._process = context.Process(target=_work, args=arguments)
        self._process.start()
        theirs.close()

    def _stop(self) -> None:
        if self._process is None:
            return
        self._connection.close()  # which ends the process, if it is not at work
        self._process.join(0 if self._at_work else 10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid or 0, signal.SIGKILL)
        self._process.kill()
        self._process.join()
        self._process = None

    def _last_place(self) -> str:
        """Return where the process was last, as the fault handler tells it, innermost first."""
        frames = re.findall(r'File "(.*)", line (\d+),? in', self._log.read_text(errors="replace"))
        places = ["/".join([*Path(file).parts[-2:]]) + f":{line}" for file, line in frames]
        return f"in {' < '.join(place for place in places[:12] if 'fuzz/' not in place)}"


def _work(connection: Connection, folder: Path, package: str) -> None:
    """Run the cases that are asked for; the call is told before it is made."""
    os.setsid()  # what a case starts ends with this process
    log = (folder / "stderr").open("a")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(log.fileno(), 2)
    faulthandler.enable(log)
    warnings.simplefilter("ignore")
    images = os.environ.get("PLASTIC_ENVS_CACHE", str(folder / "images"))
    makers: dict[str, MakeCase] = {}
    with contextlib.suppress(EOFError):
        while True:
            kind, seed, number, seconds = connection.recv()
            log.truncate(0)
            os.environ["PLASTIC_ENVS_CACHE"] = images  # a case may have changed it
            rng = np.random.default_rng([seed, number, zlib.crc32(kind.encode())])
            with tempfile.TemporaryDirectory(dir=folder) as place:
                try:
                    if kind not in makers:
                        makers[kind] = _prepared(f"{package}.{kind}", folder / kind)
                    case = makers[kind](rng, Path(place))
                except Exception as error:  # noqa: BLE001 (a fault of the packages or of this one)
                    connection.send(Result("other", f"the case cannot be made: {error!r}"))
                    continue
                connection.send(case.text)
                faulthandler.dump_traceback_later(0.9 * seconds, file=log)
                connection.send(_bounded(case))
                faulthandler.cancel_dump_traceback_later()
                os.chdir(folder)


def _prepared(module: str, folder: Path) -> MakeCase:
    shutil.rmtree(folder, ignore_errors=True)  # of a process that has ended
    folder.mkdir()
    make: MakeCase = import_module(module).prepare(folder)
    return make


def _bounded(case: Case) -> Result:
    """Judge a case with a limit on its memory."""
    before = _memory()
    Path("/proc/self/clear_refs").write_text("5")  # forget the largest size so far
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (before["VmSize"] + _ADDRESSES, hard))
    try:
        result = judged(case)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    taken = _memory()["VmHWM"] - before["VmRSS"]
    if result.outcome != "other" and taken > _MEMORY:
        return Result(
            "other", f"takes {taken >> 20} MiB, and then: {result.outcome} {result.detail}"
        )
    return result


def _memory() -> dict[str, int]:
    """Return the sizes of this process in bytes, by the system's names."""
    lines = Path("/proc/self/status").read_text().splitlines()
    pairs = [line.split(":") for line in lines if line.startswith("Vm")]
    return {name: 1024 * int(value.split()[0]) for name, value in pairs}
