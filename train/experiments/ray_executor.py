"""Jobs on a cluster, or on this machine, by Ray (https://docs.ray.io), which is an extra."""

import logging
import os
import socket
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from plastic_envs.checks import check_int
from train.experiments.executors import JobError, log_path
from train.experiments.job import LOG_FORMAT, run_job
from train.runs.run_folder import open_run

try:
    import ray
except ImportError as error:
    raise ImportError(
        "running experiments by Ray needs Ray: pip install 'plastic-envs[ray]', or "
        "pip install '.[ray]' in a copy of the repository"
    ) from error

logger = logging.getLogger(__name__)

LOCAL = "local"  # the address of a Ray of our own

_RETRIES = 3  # of a job whose process or node was lost; the same command tries again
_LOCK_SECONDS = 60.0  # a lost process may hold its run a moment longer than Ray knows of it
_ANSWER_SECONDS = 30.0  # for a cluster to say that it is there
_STORE_BYTES = 100_000_000  # jobs exchange files, not objects
_START_MS = "120000"  # a busy machine starts Ray later than it would wait for itself


class RayExecutor:
    """Jobs as tasks of Ray, one core each; see `train.experiments.executors.Executor`.

    A task trains in Ray's own worker process, which is started for it and ends with it. (A process
    beneath the worker, as `LocalProcesses` has them, could outlive a worker that is killed, and
    keep the run locked against its next attempt.) What it says goes to the run's `log.txt`. If
    worker or node are lost, Ray starts the job again, wherever there is room, and it goes on from
    its last checkpoint. A job that fails by itself is not tried again.

    Run folders and the files that their settings name have the same path on all nodes, which share
    them; relative paths count from the working directory of this program. The package is
    installed on all nodes, in the same version.

    Args:
        address: Of a running cluster, as `ray.init` takes it: `auto` for the one that this machine
            belongs to, `HOST:PORT`, or `ray://HOST:PORT`; or `local` for a Ray that is started on
            this machine, for the time of this executor.
        jobs: How many at the same time; with `local` only.

    Attributes:
        cores: How many jobs run at the same time: the cores of the cluster, by now.

    Raises:
        ValueError: If `jobs` is given for a running cluster, missing for `local`, or less than 1.
        ConnectionError: If there is no cluster at this address, or Ray does not start.
    """

    def __init__(self, address: str, jobs: int | None = None) -> None:
        options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
        if address == LOCAL:
            jobs = check_int("jobs", jobs, minimum=1)
            os.environ.setdefault("RAY_agent_register_timeout_ms", _START_MS)
            options |= {
                "num_cpus": jobs,
                "include_dashboard": False,
                "object_store_memory": _STORE_BYTES,
            }
        elif jobs is not None:
            raise ValueError(
                f"jobs cannot be given for the cluster {address}: it runs as many as it has cores"
            )
        _connect(address, options)
        self.cores = max(1, int(ray.cluster_resources().get("CPU", 0)))
        self._task = ray.remote(num_cpus=1, max_calls=1, max_retries=_RETRIES)(_work)
        self._jobs: list[tuple[Any, Future[None]]] = []
        self._stopped = False

    def submit(self, path: Path) -> "Future[None]":
        """Start the job of a run folder as soon as the cluster has a core for it."""
        if self._stopped:  # Ray would start anew by itself
            raise RuntimeError("the executor was stopped")
        reference = self._task.options(name=path.name).remote(str(path.absolute()), str(Path.cwd()))
        future: Future[None] = Future()
        self._jobs.append((reference, future))
        reference.future().add_done_callback(lambda ended: _settle(future, ended))
        return future

    def stop(self) -> None:
        """End all jobs at once, and start no others; a Ray of our own ends, too."""
        if self._stopped:
            return
        self._stopped = True
        for reference, future in self._jobs:
            if future.cancel():
                ray.cancel(reference, force=True)
        ray.shutdown()


def _connect(address: str, options: dict[str, Any]) -> None:
    """Start Ray or connect to a cluster, unless nobody answers there."""
    named = _of_this_machine() if address == "auto" else address
    host, _, port = named.removeprefix("ray://").rpartition(":")
    try:
        if host and port.isdigit():  # Ray itself would go on trying for a quarter of an hour
            socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS).close()
        ray.init(address, **options)
    except Exception as error:  # Ray's own may be of no class but this
        raise ConnectionError(f"no Ray at {named}: {error}") from error


def _of_this_machine() -> str:
    """Return the address that `auto` stands for, where `ray.init` says that it looks for it."""
    if address := os.environ.get("RAY_ADDRESS"):
        return address
    latest = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")  # noqa: S108
    return latest.read_text().strip() if latest.is_file() else "auto"


def _settle(future: "Future[None]", ended: "Future[str | None]") -> None:
    """Hand over how a task ended, unless nobody waits for it any more."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        problem = ended.result()
    except Exception as error:  # noqa: BLE001 (also a ConnectionError, if the cluster is gone)
        problem = _first_line(error)
    if problem is None:
        future.set_result(None)
    else:
        future.set_exception(JobError(problem))


def _first_line(error: Exception) -> str:
    """Say in a line what Ray says on a page."""
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).split("\n") if line.strip()]
    return f"{type(cause).__name__}: {lines[0] if lines else 'no reason given'}"


def _work(path: str, directory: str) -> str | None:
    """Do the job of a run folder, in a process that does nothing else.

    Args:
        path: The folder.
        directory: Where relative paths of its settings count from.

    Returns:
        What went wrong, in words: errors of Ray would bring its own stack along, and need classes
        that the other side may not have.
    """
    node, log = socket.gethostname(), log_path(Path(path))
    with suppress(OSError):  # it may be missing here as long as all paths are absolute
        os.chdir(directory)
    try:
        file = log.open("ab", buffering=0)
    except OSError as error:
        return f"{error} (on {node}: all nodes must see the same files under the same path)"
    with file:  # takes what is written past Python, too, as the log of a process does
        for descriptor in (1, 2):  # stdout, stderr
            os.dup2(file.fileno(), descriptor)
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, force=True)
    logger.info("at work on %s", node)
    torch.set_num_threads(1)
    try:
        run_job(open_run(Path(path)), patience=_LOCK_SECONDS)
    except Exception as error:  # whatever it is, it belongs to this run alone
        logger.exception("the job failed")
        return f"{type(error).__name__}: {error}; more in {log}"
    return None
