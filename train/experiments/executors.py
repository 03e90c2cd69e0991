"""Where jobs are run: processes of this machine, or whatever else can run a job."""

import os
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from plastic_envs.checks import check_int

_LOG_LINES = 3  # of a failed run's log


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class JobError(RuntimeError):
    """A job ended without having finished its run."""


class Executor(Protocol):
    """Where jobs are run: `train.experiments.job.run_job` on a folder, each on one thread.

    Attributes:
        cores: How many run at the same time.
    """

    cores: int

    def submit(self, path: Path) -> "Future[None]":
        """Start the job of a run folder as soon as there is room for it.

        The future fails with a `JobError` if the job does; the other jobs are not touched.
        """

    def stop(self) -> None:
        """End all jobs at once, and start no others."""


class LocalProcesses:
    """Jobs as processes of this machine, which end when this program does.

    Args:
        jobs: How many at the same time.
    """

    def __init__(self, jobs: int) -> None:
        self.cores = check_int("jobs", jobs, minimum=1)
        self._threads = ThreadPoolExecutor(jobs)  # they do nothing but wait for processes
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def submit(self, path: Path) -> "Future[None]":
        """Start the job of a run folder as soon as a core is free; see `Executor`."""
        return self._threads.submit(self._run, path)

    def stop(self) -> None:
        """End all jobs at once, and start no others."""
        with self._lock:
            self._stopped = True
            for process in self._processes:
                process.kill()  # a run can be cut off anywhere
        self._threads.shutdown(cancel_futures=True)

    def _run(self, path: Path) -> None:
        log = log_path(path)
        # Packages are found where this program has them, and not in the working directory, where
        # somebody else's train.py may be.
        command = [sys.executable, "-P", "-m", "train.experiments.job", str(path)]
        places = os.pathsep.join(place or str(Path.cwd()) for place in sys.path)
        with log.open("ab") as file:
            begin = file.tell()
            with self._lock:
                if self._stopped:
                    raise JobError(f"{path} was stopped")
                # A session of its own: Ctrl-C reaches this program alone, which then ends the job.
                # Its end, however it comes, closes the pipe, which ends the job too.
                process = subprocess.Popen(  # noqa: S603
                    command,
                    stdin=subprocess.PIPE,
                    stdout=file,
                    stderr=file,
                    start_new_session=True,
                    env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": places},
                )
                self._processes.add(process)
            with process:
                code = process.wait()
            with self._lock:
                self._processes.discard(process)
        if code != 0:
            end = f"exit code {code}" if code > 0 else f"killed by signal {-code}"
            said = log.read_bytes()[begin:].decode(errors="replace").strip()  # this time
            lines = said.split("\n")[-_LOG_LINES:]
            raise JobError(f"{end}; {log} ends with:\n  " + "\n  ".join(lines))


def log_path(path: Path) -> Path:
    """Where what the job of a run folder said is."""
    return path / "log.txt"
