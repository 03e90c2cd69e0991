"""What the folders of all kinds of runs share: files, lock, and what belongs together."""

import json
import platform
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch

from plastic_envs.checks import shown
from train.names import CheckpointName
from train.reinforcement.config import RLConfig
from train.runs.checkpoints import Standing, digest
from train.runs.files import append_text, locked, read_text, write_bytes, write_text
from train.runs.records import Record, read_lines, read_records, read_series
from train.settings import OtherFormatError, flat, read_settings
from train.supervised.config import TrainConfig

AnyName = Literal["best", "last", "best-regular", "last-regular"]
Config = TypeVar("Config", TrainConfig, RLConfig)

_NAMES: tuple[CheckpointName, ...] = ("best", "last")
_REGULAR: dict[CheckpointName, AnyName] = {"best": "best-regular", "last": "last-regular"}
_MAY_CHANGE = (  # settings that change no result, and how many steps there are
    *("encoder_run", "start_from", "task_settings.root", "env_kwargs.root"),
    *("threads", "device", "steps"),
)
_PACKAGES = ("plastic-envs", "numpy", "gymnasium", "stable-baselines3", "tensorboard")


class Folder(ABC, Generic[Config]):
    """What the folders of all kinds of runs share.

    Args:
        path: Where it is, or shall be.
    """

    _ending: ClassVar[str]

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_path = path / "config.json"
        self.metrics_path = path / "metrics.jsonl"
        self.timing_path = path / "timing.jsonl"
        self._holder: int | None = None  # thread

    def checkpoint_path(self, name: AnyName) -> Path:
        """Where a checkpoint is."""
        return self.path / f"{name}{self._ending}"

    def create(self, config: Config, patience: float = 0.0) -> None:
        """Make the folder for a new run.

        Args:
            config: Its settings.
            patience: Seconds to wait for another process to end.

        Raises:
            FileExistsError: If there is a run already.
            BlockingIOError: If another process is still making one.
        """
        with self.at_work(config, resume=False, patience=patience):
            pass

    @contextmanager
    def locked(self, patience: float = 0.0) -> Iterator[None]:
        """Keep others from writing this run; may be entered again by the same thread.

        Args:
            patience: Seconds to wait for another process to end.

        Raises:
            BlockingIOError: If another process is still at work on it.
        """
        if self._holder == threading.get_ident():
            yield
            return
        with locked(self.path, patience):
            self._holder = threading.get_ident()
            try:
                yield
            finally:
                self._holder = None

    @contextmanager
    def at_work(self, config: Config, *, resume: bool, patience: float = 0.0) -> Iterator[None]:
        """Hold the folder for a run that begins or goes on.

        A new run that fails before its first checkpoint leaves nothing behind.

        Args:
            config: Settings. Those of a run that goes on may have more steps than its folder's.
            resume: Go on with the run in the folder instead of making one.
            patience: Seconds to wait for another process to end.

        Raises:
            BlockingIOError: If another process is at work on it.
            FileExistsError: If a new run is to begin where there is one.
            FileNotFoundError: If a file of the run is missing.
            ValueError: If the settings or files of the run do not belong together.
        """
        if resume:
            with self.locked(patience):
                self._extend(config)
                self._settle()
                yield
            return
        self.check_unused()
        missing = [path for path in (self.path, *self.path.parents) if not path.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with self.locked(patience):
                self.check_unused()
                before = set(self.path.iterdir())
                try:
                    self.write_versions()
                    write_text(self.config_path, config.to_json())
                    yield
                except Exception:
                    if not self.checkpoint_path("last").exists():
                        for path in set(self.path.iterdir()) - before:
                            self._remove_own(path)
                    raise
        finally:
            for path in missing:
                with suppress(OSError):  # it is not empty
                    path.rmdir()

    def check_unused(self) -> None:
        """Check that there is no run yet.

        Raises:
            FileExistsError: If there is one, or a file in place of the folder.
        """
        if self.path.exists() and not self.path.is_dir():
            raise FileExistsError(f"{self.path} is a file: choose another folder with --out")
        checkpoints: list[Path] = [self.checkpoint_path(name) for name in _NAMES]
        for path in (self.config_path, self.metrics_path, *checkpoints):
            if path.exists():
                raise FileExistsError(
                    f"{self.path} holds a run already (it has {path.name}): continue it with "
                    f"--resume {self.path}, or choose another folder with --out"
                )

    def write_versions(self) -> None:
        """Write what this process runs on."""
        write_text(self.path / "versions.json", json.dumps(_versions(), indent=2) + "\n")

    def config(self) -> Config:
        """Read the settings.

        Raises:
            FileNotFoundError: If this is no run folder.
            ValueError: If the settings cannot be read.
        """
        with reading_settings(self.config_path):
            return self._read_config(read_text(self.config_path))

    def standing(self) -> Standing | None:
        """Read how far the run has come; None if it has no checkpoint yet.

        Raises:
            ValueError: If the checkpoint cannot be read, or does not fit the settings.
        """
        return self._standing("last") if self.checkpoint_path("last").exists() else None

    def check_whole(self) -> Standing | None:
        """Check that the files of the run belong together; return how far it has come.

        Raises:
            FileNotFoundError: If one is missing.
            ValueError: If one is damaged, or of another run.
        """
        standing = self.standing()
        if standing is None:
            self._check_unstarted()
            return None
        return self._checked("last", "best")

    def metrics(self) -> list[Record]:
        """Read the metrics, a record per validation.

        Raises:
            ValueError: If they cannot be read.
        """
        return read_series(self.metrics_path, "val_score")

    def timing(self) -> list[Record]:
        """Read the seconds of training at each validation.

        Raises:
            ValueError: If they cannot be read.
        """
        return read_series(self.timing_path, "seconds")

    def cpu_seconds(self) -> float | None:
        """Return the seconds that training has kept a processor busy, if they are known.

        Raises:
            ValueError: If the timing cannot be read.
        """
        records = self.timing()
        if not records or "cpu_seconds" not in records[-1]:
            return None
        read_series(self.timing_path, "seconds", "cpu_seconds", finite=True)
        return float(records[-1]["cpu_seconds"])

    def append(self, path: Path, record: Record) -> None:
        """Add a line to a JSON-lines file; it is on the disk when this returns."""
        append_text(path, json.dumps(record) + "\n")

    def standing_at(self, step: int, seconds: float, best: Record, config: Config) -> Standing:
        """Return how far a run has come that has just written its metrics."""
        metrics = digest(read_lines(self.metrics_path))
        return Standing(step, seconds, best, metrics, config.to_json())

    def keep_regular(self, best: Record) -> None:
        """Keep the checkpoints, before those of a validation off the beat replace them."""
        for name in _NAMES:
            path = self.checkpoint_path(name)
            if name == "last" or self._standing(name).step == best["step"]:  # else kept before
                write_bytes(self.checkpoint_path(_REGULAR[name]), path.read_bytes())

    def _checked(self, last_name: AnyName, best_name: AnyName) -> Standing:
        """Check that two checkpoints, the metrics and the timing belong together."""
        last, best = self.checkpoint_path(last_name), self.checkpoint_path(best_name)
        standing, step = self._standing(last_name), self._standing(best_name).step
        if step != standing.best["step"] and step <= standing.step:  # else it was cut off in saving
            raise _lost(
                best,
                f"it is of step {step}, but {last.name} says that step "
                f"{standing.best['step']} was best",
            )
        count = standing.metrics["records"]
        if digest(read_lines(self.metrics_path)[:count]) != standing.metrics:
            raise _lost(
                self.metrics_path,
                f"its first {count} lines are not those that {last.name} belongs to",
            )
        steps = [
            record["step"] for record in read_series(self.metrics_path, "val_score", count=count)
        ]
        timing = read_series(self.timing_path, "seconds", count=count)
        if [record["step"] for record in timing] != steps:
            raise _lost(
                self.timing_path,
                f"it does not begin with {count} lines of the steps of {self.metrics_path.name}",
            )
        if timing[-1]["seconds"] != round(standing.seconds, 3):
            raise _lost(self.timing_path, f"line {count} is of other seconds than {last.name}")
        return standing

    def _remove_own(self, path: Path) -> None:
        """Remove a file if it is one of a run's."""
        own: list[Path] = [self.config_path, self.metrics_path, self.timing_path]
        own += [self.path / "versions.json", *map(self.checkpoint_path, _NAMES)]
        known = {each.name for each in own}
        if path.name.removesuffix(".tmp") in known or path.name.startswith("events.out.tfevents"):
            path.unlink()

    def _extend(self, config: Config) -> None:
        """Give the run more steps, if it is to have more than before."""
        before = self.config()
        if config == before:
            return
        self._check_same(before, config, "this folder's")
        if config.steps < before.steps:
            raise ValueError(
                f"steps must be at least those that {self.path} has already, {before.steps}, "
                f"got {config.steps}"
            )
        if config.steps > before.steps:
            self._check_steps(before.steps, config)
        standing = self.check_whole()
        if standing is not None and not config.validates_at(standing.step):
            self._checked(_REGULAR["last"], _REGULAR["best"])
        write_text(self.config_path, config.to_json())

    def _settle(self) -> None:
        """Put the files into the state of the last checkpoint that the run can go on from."""
        config, standing = self.config(), self.standing()
        if (
            standing is not None
            and not config.validates_at(standing.step)
            and self._read_config(standing.config).steps < config.steps
        ):
            self._checked(_REGULAR["last"], _REGULAR["best"])
            for name in _NAMES:  # if this is cut off, it is done again
                path = self.checkpoint_path(_REGULAR[name])
                write_bytes(self.checkpoint_path(name), path.read_bytes())
        standing = self.check_whole()
        count = 0 if standing is None else standing.metrics["records"]
        for path in (self.metrics_path, self.timing_path):
            whole = read_lines(path)
            if path.exists() and path.read_bytes() != b"".join(whole[:count]):
                write_bytes(path, b"".join(whole[:count]))

    def _check_unstarted(self) -> None:
        """Check that a run without a last checkpoint has lost none."""
        last = self.checkpoint_path("last")
        steps = [
            record["step"]
            for path in (self.metrics_path, self.timing_path)
            for record in read_records(path)
            if isinstance(record, dict) and "step" in record
        ]
        if self.checkpoint_path("best").exists():
            steps.append(self._standing("best").step)
        if any(step != 0 for step in steps):
            raise FileNotFoundError(
                f"{last} is missing, though the run has come to step {max(steps)}: restore it "
                "from a copy, or start again in another folder (--out)"
            )

    def _check_settings(self, text: str) -> None:
        """Check that settings of a checkpoint are those of the folder."""
        now, then = self.config(), self._read_config(text)
        self._check_same(then, now, self.config_path.name)
        if then.steps > now.steps:
            raise ValueError(
                f"steps was {then.steps}, but is {now.steps} in {self.config_path.name}"
            )
        if then.steps < now.steps:
            self._check_steps(then.steps, now)

    def _check_same(self, then: Config, now: Config, where: str) -> None:
        left, right = flat(then), flat(now)
        for name in sorted((left.keys() | right.keys()) - set(_MAY_CHANGE)):
            was, is_now = left.get(name), right.get(name)
            if was != is_now:
                raise ValueError(f"{name} was {shown(was)}, but is {shown(is_now)} in {where}")

    def _check_steps(self, before: int, config: Config) -> None:
        if not config.is_constant:
            raise ValueError(
                f"the step size of this run falls over its {before} steps (schedule), so it cannot "
                f"go on to {config.steps}: that takes a run of that many from the start, or "
                "--schedule constant"
            )

    @staticmethod
    @abstractmethod
    def _read_config(text: str) -> Config:
        """Read settings from JSON."""

    @abstractmethod
    def _standing(self, name: AnyName) -> Standing:
        """Read how far the run had come at a checkpoint, and check that it fits."""


def _lost(path: Path, reason: str) -> ValueError:
    """Return the error about a file that is not what the run's checkpoint says."""
    state = reason if path.exists() else "it is missing"
    return ValueError(
        f"{path} does not belong to its run: {state}. Restore it from a copy, or start again in "
        "another folder (--out)"
    )


@contextmanager
def reading_settings(path: Path) -> Iterator[None]:
    """Let whatever goes wrong in reading settings name their file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} is no run folder: it has no file {path.name}")
    try:
        yield
    except OtherFormatError as error:
        wrote = _version_in(path.with_name("versions.json"))
        raise ValueError(f"{path} cannot be read: {error}{wrote}") from error
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _version_in(path: Path) -> str:
    """Say which version of this package wrote a run, if that can be known."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        wrote = read_settings(read_text(path))["plastic-envs"]
        return f"; plastic-envs {shown(wrote)} wrote it"
    return ""


def _versions() -> dict[str, Any]:
    found: dict[str, Any] = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    found |= {"torch": torch.__version__}  # says the build too, as in 2.13.0+cpu
    return found | {"processor": _processor(), "date": date.today().isoformat()}


def _processor() -> str:
    """Return what the processor is called, as far as the system says."""
    path = Path("/proc/cpuinfo")  # of Linux; the others tell `platform`
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
