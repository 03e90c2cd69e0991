"""A run, as far as it has come: what is reported of it, wherever it is read from."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from plastic_envs.checks import shown
from train.experiments.files import (
    check_name,
    check_named,
    check_scores,
    read_object,
    read_words,
)
from train.experiments.job import failure_path, folder_of, test_path
from train.experiments.sweep import (
    Config,
    Run,
)
from train.runs.records import read_series
from train.runs.run_folder import Record


class RunResult(ABC):
    """One run, as far as it has come.

    Attributes:
        point: Its labels by the name of their axis.
        seed: Its seed.
    """

    point: Mapping[str, str]
    seed: int

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of its folder."""

    @property
    @abstractmethod
    def config(self) -> Config | None:
        """Settings; None if it was never started."""

    @property
    @abstractmethod
    def first(self) -> Mapping[str, Config]:
        """Settings of the runs that came before it, by the setting that takes something over."""

    @property
    @abstractmethod
    def curve(self) -> Mapping[int, float]:
        """Validation scores by training step."""

    @property
    @abstractmethod
    def test(self) -> Record | None:
        """Scores on test episodes, as `train.experiments.job.score` returns; None until then."""

    @property
    @abstractmethod
    def parts(self) -> Mapping[str, float]:
        """Seconds of training by name: its own, and those of the runs that came before it."""

    @property
    @abstractmethod
    def versions(self) -> Mapping[str, Any]:
        """What it ran on."""

    @property
    @abstractmethod
    def status(self) -> str:
        """How far it has come, in words."""

    @property
    def seconds(self) -> float:
        """Seconds of training, with those of the runs that came before it."""
        return sum(self.parts.values())


class FolderResult(RunResult):
    """A run in its folder.

    Properties raise a `ValueError` that names the file, if it cannot be what a run of this point
    and seed has left.

    Args:
        path: The folder.
        declared: What is expected there.
        measures: Names of the scores that are needed.
    """

    def __init__(self, path: Path, declared: Run, measures: Sequence[str] = ()) -> None:
        self.point, self.seed = declared.point, declared.config.seed
        self.folder = folder_of(path, declared.config)
        self._declared, self._measures = declared, measures

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.folder.path.name

    @cached_property
    def config(self) -> Config | None:
        """Settings; None if it was never started."""
        path = self.folder.config_path
        if not path.exists():
            return None
        check_named(path, read_object(path), self._declared.config)
        try:
            return self.folder.config()
        except (ValueError, RecursionError) as error:
            told = str(error).removeprefix(f"{path} cannot be read: ")
            raise ValueError(f"{path} cannot be read: {told}") from error

    @cached_property
    def _before(self) -> "dict[str, FolderResult]":
        found = {}
        for into, run in self._declared.first.items():
            if (place := getattr(self.config, into, None)) is not None:
                beside = check_name(self.folder.config_path, into, Path(place).name)
                found[into] = FolderResult(self.folder.path.parent / beside, run)
        return found

    @property
    def first(self) -> Mapping[str, Config]:
        """Settings of the runs that came before it, by the setting that takes something over."""
        return {name: run.config for name, run in self._before.items() if run.config is not None}

    @cached_property
    def curve(self) -> Mapping[int, float]:
        """Validation scores by training step."""
        records = read_series(self.folder.metrics_path, "val_score", finite=True)
        return {record["step"]: float(record["val_score"]) for record in records}

    @cached_property
    def test(self) -> Record | None:
        """Scores on test episodes; None until it is finished."""
        path = test_path(self.folder)
        if self.config is None or max(self.curve, default=-1) < self.config.total_steps:
            return None
        if not path.is_file():
            return None
        return check_scores(path, read_object(path), self._measures)

    @property
    def parts(self) -> Mapping[str, float]:
        """Seconds of training by name: its own, and those of the runs that came before it."""
        path = self.folder.timing_path
        records = read_series(path, "seconds", finite=True)
        seconds = float(records[-1]["seconds"]) if records else 0.0
        if seconds < 0:
            raise ValueError(f"{path}: seconds must be at least 0, got {shown(seconds)}")
        own = {self.name: seconds}
        return {name: s for run in self._before.values() for name, s in run.parts.items()} | own

    @property
    def versions(self) -> Mapping[str, Any]:
        """What it ran on."""
        path = self.folder.path / "versions.json"
        return read_object(path) if path.is_file() else {}

    @property
    def status(self) -> str:
        """How far it has come, in words."""
        if self.test is not None:
            return "finished"
        if self.config is None:
            return "not started"
        where = "before its first validation"
        if self.curve:
            where = f"at step {max(self.curve)} of {self.config.total_steps}"
        if failure := read_words(failure_path(self.folder)):
            return f"failed {where}: {failure}"
        return where if self.curve else "not started"
