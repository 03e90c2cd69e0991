"""The folder of a training run: what lies in it, and how it is written and read.

config.json      settings (TrainConfig; RLConfig in reinforcement learning)
versions.json    what it ran on
metrics.jsonl    a line per validation; the same for the same settings on the same machine
timing.jsonl     seconds at each validation; not reproducible, hence apart
last.pt          checkpoint of the last validation; in reinforcement learning last.zip
best.pt          checkpoint of the validation with the best score, or best.zip
events.out.…     the same numbers and figures for TensorBoard
"""

import json
import os
import pickle
import platform
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import torch

from train.config import Network, TrainConfig
from train.rl_config import RLConfig, is_rl_config

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

    from agents.sb3 import RecurrentPPO

CheckpointName = Literal["best", "last"]
Record = dict[str, Any]
Config = TypeVar("Config", TrainConfig, RLConfig)

_FORMAT = "plastic-checkpoint-1"
_PACKAGES = ("plastic-envs", "numpy", "gymnasium", "stable-baselines3", "tensorboard")


class _Folder(ABC, Generic[Config]):
    """What the folders of all kinds of runs share.

    Args:
        path: Where it is, or shall be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_path = path / "config.json"
        self.metrics_path = path / "metrics.jsonl"
        self.timing_path = path / "timing.jsonl"

    def create(self, config: Config) -> None:
        """Make the folder for a new run.

        Raises:
            FileExistsError: If there is a run already.
        """
        if self.config_path.exists():
            raise FileExistsError(
                f"{self.path} holds a run already: continue it with --resume {self.path}, "
                "or choose another folder with --out"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        self.write_versions()
        write_text(self.config_path, config.to_json())

    def write_versions(self) -> None:
        """Write what this process runs on."""
        write_text(self.path / "versions.json", json.dumps(_versions(), indent=2) + "\n")

    def config(self) -> Config:
        """Read the settings.

        Raises:
            FileNotFoundError: If this is no run folder.
            ValueError: If the settings cannot be read.
        """
        text = _config_text(self.config_path)
        try:
            return self._read_config(text)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{self.config_path} cannot be read: {error}") from error

    def metrics(self) -> list[Record]:
        """Read the metrics, a record per validation."""
        return read_records(self.metrics_path)

    def timing(self) -> list[Record]:
        """Read the seconds of training at each validation."""
        return read_records(self.timing_path)

    def append(self, path: Path, record: Record) -> None:
        """Add a line to a JSON-lines file."""
        with path.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def drop_after(self, step: int) -> None:
        """Remove the records of steps that no checkpoint has kept."""
        for path in (self.metrics_path, self.timing_path):
            kept = [record for record in read_records(path) if record["step"] <= step]
            write_text(path, "".join(json.dumps(record) + "\n" for record in kept))

    @staticmethod
    @abstractmethod
    def _read_config(text: str) -> Config:
        """Read settings from JSON."""


class RunFolder(_Folder[TrainConfig]):
    """A folder that holds one supervised training run.

    Args:
        path: Where it is, or shall be.
    """

    @staticmethod
    def _read_config(text: str) -> TrainConfig:
        return TrainConfig.from_json(text)

    def checkpoint_path(self, name: CheckpointName) -> Path:
        """Where a checkpoint is."""
        return self.path / f"{name}.pt"

    def save_checkpoint(self, name: CheckpointName, content: Mapping[str, Any]) -> None:
        """Write a checkpoint aside and move it into place: there is never half of one."""
        path = self.checkpoint_path(name)
        aside = path.with_suffix(".pt.tmp")
        with aside.open("wb") as file:
            torch.save({"format": _FORMAT, **content}, file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)

    def load_checkpoint(self, name: CheckpointName) -> dict[str, Any]:
        """Read a checkpoint.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If the file is damaged, or not a checkpoint of this program.
        """
        path = self.checkpoint_path(name)
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist: the run has not come that far")
        try:
            with zipfile.ZipFile(path) as archive:  # torch.load does not look at its checksums
                if (damaged := archive.testzip()) is not None:
                    raise zipfile.BadZipFile(f"wrong checksum of {damaged}")
            content = torch.load(path, map_location="cpu", weights_only=True)
        except (zipfile.BadZipFile, pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise ValueError(
                f"{path} cannot be read: damaged, or not a checkpoint ({_first_line(error)})"
            ) from error
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise ValueError(f"{path} is not a checkpoint of this program ({_FORMAT})")
        return content

    def load_network(self, name: CheckpointName = "best") -> tuple[Network, int]:
        """Build the trained network.

        Returns:
            The network in evaluation mode, and the training step of the checkpoint.

        Raises:
            FileNotFoundError: If the run or the checkpoint does not exist.
            ValueError: If one of them cannot be read, or they do not belong together.
        """
        config = self.config()
        content = self.load_checkpoint(name)
        network = config.network.build(config.task_for("test"), config.seed)
        load_parameters(network, content, self.checkpoint_path(name))
        return network.eval(), int(content["step"])


class RLRunFolder(_Folder[RLConfig]):
    """A folder that holds one run of reinforcement learning.

    Args:
        path: Where it is, or shall be.
    """

    @staticmethod
    def _read_config(text: str) -> RLConfig:
        return RLConfig.from_json(text)

    def model_path(self, name: CheckpointName) -> Path:
        """Where a checkpoint is, in Stable-Baselines3's format."""
        return self.path / f"{name}.zip"

    def save_model(self, name: CheckpointName, model: "RecurrentPPO") -> None:
        """Write a checkpoint aside and move it into place: there is never half of one."""
        aside = self.path / f"{name}.tmp.zip"
        model.save(aside)
        aside.replace(self.model_path(name))

    def load_model(
        self, name: CheckpointName = "best", env: "VecEnv | None" = None
    ) -> "RecurrentPPO":
        """Read a checkpoint.

        Args:
            name: Which one.
            env: Where the agent is to go on learning.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If the file is damaged, or not a checkpoint of this program.
        """
        from agents.sb3 import RecurrentPPO  # Stable-Baselines3 is not always installed

        path = self.model_path(name)
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist: the run has not come that far")
        try:
            with zipfile.ZipFile(path) as archive:  # half a file may look like a whole one
                if (damaged := archive.testzip()) is not None:
                    raise zipfile.BadZipFile(f"wrong checksum of {damaged}")
                archive.getinfo("data")
            return RecurrentPPO.load(path, env, device="cpu")
        except (
            *(zipfile.BadZipFile, pickle.UnpicklingError, RuntimeError, EOFError),
            *(KeyError, ValueError),
        ) as error:
            raise ValueError(
                f"{path} cannot be read: damaged, or not a checkpoint ({_first_line(error)})"
            ) from error


def open_run(path: Path) -> RunFolder | RLRunFolder:
    """Open the folder of a run, of whatever kind.

    Raises:
        FileNotFoundError: If this is no run folder.
        ValueError: If its settings cannot be read.
    """
    folder = RunFolder(path)
    try:
        data = json.loads(_config_text(folder.config_path))
    except ValueError as error:
        raise ValueError(f"{folder.config_path} cannot be read: {error}") from error
    return RLRunFolder(path) if is_rl_config(data) else folder


def load_parameters(network: Network, content: Mapping[str, Any], path: Path) -> None:
    """Copy the parameters of a checkpoint into a network.

    Raises:
        ValueError: If they are of another network.
    """
    try:
        network.load_state_dict(content["network"])
    except (KeyError, RuntimeError) as error:
        raise ValueError(
            f"{path} does not fit the settings of its run: {' '.join(str(error).split())}"
        ) from error


def read_records(path: Path) -> list[Record]:
    """Read JSON lines; a last line that was cut off is left out."""
    if not path.is_file():
        return []
    records = []
    lines = path.read_text().split("\n")
    for number, line in enumerate(lines[:-1], start=1):  # behind the last newline nothing is whole
        try:
            records.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}, is no JSON: {error}") from error
    return records


def write_text(path: Path, text: str) -> None:
    """Write a file aside and move it into place."""
    aside = path.with_name(path.name + ".tmp")
    aside.write_text(text)
    aside.replace(path)


def _config_text(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} is no run folder: it has no {path.name}")
    return path.read_text()


def _versions() -> dict[str, Any]:
    found: dict[str, Any] = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found | {"torch": torch.__version__}  # says the build too, as in 2.13.0+cpu


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
