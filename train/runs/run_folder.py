"""The folder of a training run: what lies in it, and how it is written and read.

config.json      settings (TrainConfig; RLConfig in reinforcement learning)
versions.json    what it ran on
metrics.jsonl    a line per validation; the same for the same settings on the same machine
timing.jsonl     seconds and CPU seconds at each validation; not reproducible, hence apart
last.pt          checkpoint of the last validation; in reinforcement learning last.zip
best.pt          checkpoint of the validation with the best score, or best.zip
events.out.…     the same numbers and figures for TensorBoard
lock             while a process is at work on the run

A run that ends between two validations, whose beat is `eval_every`, keeps the checkpoints of the
validation before as `last-regular` and `best-regular`: more steps go on from there.

The last checkpoint says what belongs to the run: lines of metrics are on the disk before the
checkpoint that counts them; those behind are of work that was lost.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from gymnasium.vector import VectorEnv

from plastic_envs.checks import check_choice, check_int, shown
from train.devices import resolve_for
from train.names import CheckpointName, DeviceName
from train.network import Network
from train.reinforcement.config import RLConfig, is_rl_config
from train.runs.checkpoints import (
    Standing,
    checked_archive,
    fitting,
    load_optimizer,
    load_parameters,
    read_json,
    read_tensors,
    reading_checkpoint,
    with_keys,
)
from train.runs.files import read_text, write_bytes
from train.runs.folder import AnyName, Folder, reading_settings
from train.runs.records import Record, read_records
from train.settings import read_settings
from train.supervised.config import TrainConfig

if TYPE_CHECKING:
    from agents.sb3 import RecurrentPPO

__all__ = [
    "RLRunFolder",
    "Record",
    "RunFolder",
    "open_run",
    "read_records",
]

_FORMAT = "plastic-checkpoint-2"
_STANDING = [field.name for field in fields(Standing)]


class RunFolder(Folder[TrainConfig]):
    """A folder that holds one supervised training run.

    Args:
        path: Where it is, or shall be.
    """

    _ending = ".pt"

    @staticmethod
    def _read_config(text: str) -> TrainConfig:
        return TrainConfig.from_json(text)

    def save_checkpoint(self, name: CheckpointName, content: Mapping[str, Any]) -> None:
        """Write a checkpoint: it is there as a whole, or the one before is."""
        buffer = io.BytesIO()
        torch.save({"format": _FORMAT, **content}, buffer)
        write_bytes(self.checkpoint_path(name), buffer.getvalue())

    def load_checkpoint(self, name: AnyName) -> dict[str, Any]:
        """Read a checkpoint.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If the file is damaged, or not a checkpoint of this program.
        """
        path = self.checkpoint_path(name)
        with reading_checkpoint(path), path.open("rb") as file:
            content = read_tensors(file)
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            found = content.get("format") if isinstance(content, dict) else None
            raise ValueError(
                f"{path} is not a checkpoint of this version ({_FORMAT}): its format is "
                f"{shown(found)}"
            )
        return content

    def restore(
        self,
        name: CheckpointName,
        network: Network,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> Standing:
        """Copy a checkpoint into a network, and an optimiser, of the run's settings.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If it cannot be read, or does not fit the settings.
        """
        content = self.load_checkpoint(name)
        with fitting(self.checkpoint_path(name)):
            standing = self._standing_of(content)
            load_parameters(network, content["network"])
            if optimizer is not None:
                load_optimizer(optimizer, content["optimizer"], begun=standing.step > 0)
        return standing

    def load_network(self, name: CheckpointName = "best") -> tuple[Network, int]:
        """Build the trained network.

        Returns:
            The network on the CPU, in evaluation mode, and the training step of the checkpoint.

        Raises:
            FileNotFoundError: If the run or the checkpoint does not exist.
            ValueError: If one of them cannot be read, or they do not belong together.
        """
        config = self.config()
        network = config.network.build(config.task_for("test"), config.seed)
        step = self.restore(name, network).step
        return network.eval(), step

    def _standing(self, name: AnyName) -> Standing:
        content = self.load_checkpoint(name)
        with fitting(self.checkpoint_path(name)):
            return self._standing_of(content)

    def _standing_of(self, content: Record) -> Standing:
        with_keys(content, ("format", *_STANDING, "network", "optimizer"), "the checkpoint")
        standing = Standing.read(content)
        self._check_settings(standing.config)
        return standing


class RLRunFolder(Folder[RLConfig]):
    """A folder that holds one run of reinforcement learning.

    Its checkpoints can be read by Stable-Baselines3, too: they are its archives, with how far the
    run had come besides. Here nothing is read of them but tensors and JSON.

    Args:
        path: Where it is, or shall be.
    """

    _ending = ".zip"

    @staticmethod
    def _read_config(text: str) -> RLConfig:
        return RLConfig.from_json(text)

    def save_model(self, name: CheckpointName, model: "RecurrentPPO", standing: Standing) -> None:
        """Write a checkpoint: it is there as a whole, or the one before is."""
        buffer = io.BytesIO()
        model.save(buffer)
        with zipfile.ZipFile(buffer, "a") as archive:
            more = {"format": _FORMAT, "updates": model.n_updates, **standing.content()}
            archive.writestr("run.json", json.dumps(more))
        write_bytes(self.checkpoint_path(name), buffer.getvalue())

    def load_model(
        self,
        name: CheckpointName = "best",
        env: VectorEnv[Any, Any, Any] | None = None,
        device: DeviceName | None = None,
    ) -> "RecurrentPPO":
        """Build the agent from the settings, with the tensors of a checkpoint.

        Args:
            name: Which one.
            env: Where the agent is to act or learn; by default an environment that is closed.
            device: Where it computes; by default the run's own device, if it is here.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If the file is damaged, not a checkpoint of this program, or does not fit
                the settings.
        """
        from train.reinforcement.agent import closed_env, new_agent  # Stable-Baselines3 is an extra
        from train.reinforcement.environments import naming_settings

        config, path = self.config(), self.checkpoint_path(name)
        with reading_checkpoint(path), path.open("rb") as file, checked_archive(file) as archive:
            policy, optimizer = (
                read_tensors(io.BytesIO(archive.read(f"policy{part}.pth")))
                for part in ("", ".optimizer")
            )
            content = read_json(archive, "run.json")
        with torch.random.fork_rng(devices=[]):
            if env is None:
                with naming_settings(self.config_path):
                    env = closed_env(config)
            model = new_agent(config, env, seed=None, device=resolve_for(config.device, device))
        with fitting(path):
            standing = self._standing_of(content)
            load_parameters(model.policy, policy)
            load_optimizer(model.policy.optimizer, optimizer, begun=content["updates"] > 0)
        model.go_on_from(standing.step, content["updates"])
        return model

    def _standing(self, name: AnyName) -> Standing:
        path = self.checkpoint_path(name)
        with reading_checkpoint(path), path.open("rb") as file, checked_archive(file) as archive:
            content = read_json(archive, "run.json")
        with fitting(path):
            return self._standing_of(content)

    def _standing_of(self, content: Any) -> Standing:
        with_keys(content, ("format", "updates", *_STANDING), "run.json")
        check_choice("format", content["format"], (_FORMAT,))
        check_int("updates", content["updates"])
        standing = Standing.read(content)
        self._check_settings(standing.config)
        return standing


def open_run(path: Path) -> RunFolder | RLRunFolder:
    """Open the folder of a run, of whatever kind.

    Raises:
        FileNotFoundError: If this is no run folder.
        ValueError: If its settings cannot be read.
    """
    folder = RunFolder(path)
    with reading_settings(folder.config_path):
        data = read_settings(read_text(folder.config_path))
    return RLRunFolder(path) if is_rl_config(data) else folder
