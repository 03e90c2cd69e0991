"""How long runs take: a rough model, corrected by what was measured."""

from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from torch import Tensor, nn

from agents.tree import leaves
from train.experiments.job import AnyFolder
from train.experiments.sweep import Config
from train.reinforcement.config import RLConfig
from train.runs.records import read_series
from train.supervised.config import TrainConfig

# Seconds of a training step, for one episode and step; one thread of an AMD EPYC (Zen 3).
_PER_PARAMETER = 1.3e-10
_PER_STATE = 1.4e-9  # and number of the state: fast weights, if there are any
_PER_PIXEL = 6e-12  # and parameter of a convolution
_CLOSED = 12.0  # times slower where the compiled kernel cannot be used
_PER_ACTION = 1.5e-4  # seconds of an agent's step, with what is learned from it
_VALIDATION = 0.35  # of a training step's time on as many episodes
_START = 7.0  # seconds of starting a process and scoring
_TELLING = 60.0  # seconds of training that tell how fast the machine is


def estimate_seconds(config: Config) -> float:
    """Return about how many seconds a run takes on one core."""
    if isinstance(config, RLConfig):
        return _START + config.steps * _PER_ACTION
    validated = (1 + config.steps // config.eval_every) * config.eval_episodes
    episodes = config.steps * config.batch_size + _VALIDATION * validated
    plain = replace(config, seed=0, steps=1, eval_every=1, encoder_run=None, fine_tune=False)
    return _START + episodes * _seconds_per_episode(plain.to_json(), config.frozen)


def done_share(folder: AnyFolder, config: Config) -> float:
    """Return how much of a run's training is in its checkpoints, from 0 to 1."""
    records = read_series(folder.timing_path, "seconds", finite=True)
    return records[-1]["step"] / max(1, config.total_steps) if records else 0.0


def speed(folders: Iterable[tuple[AnyFolder, Config]]) -> float:
    """Return the median of measured over estimated seconds of what was trained.

    Runs of less than a minute say little; without any longer ones it is 1.
    """
    ratios = []
    for folder, config in folders:
        estimate = done_share(folder, config) * (estimate_seconds(config) - _START)
        if estimate > _TELLING:
            ratios.append(folder.timing()[-1]["seconds"] / estimate)
    return float(np.median(ratios)) if ratios else 1.0


@cache
def _seconds_per_episode(settings: str, frozen: bool) -> float:
    """Return about how long an episode of training takes, by the sizes of network and state."""
    config = TrainConfig.from_json(settings)
    task = config.task_for("train")
    network: Any = config.network.build(task, 0)
    convolutions = [part for part in network.modules() if isinstance(part, nn.Conv2d)]
    filters = sum(_size(part.parameters()) for part in convolutions)
    forms = getattr(network, "supported_forms", lambda: ["compiled"])()
    state = _size(leaves(network.initial_state(1)))
    per_step = _PER_PARAMETER * (_size(network.parameters()) - filters) + _PER_STATE * state
    if "compiled" not in forms:
        per_step *= _CLOSED
    if filters and not frozen:
        space: Any = task.observation_space
        per_step += _PER_PIXEL * filters * max(int(np.prod(part.shape)) for part in space.values())
    return per_step * task.num_steps


def _size(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)
