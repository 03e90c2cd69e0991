"""How long runs take: a rough model, corrected by what was measured."""

from collections.abc import Iterable

import numpy as np

from agents.plastic.cells import CELLS
from agents.plastic.ops.cpu import library
from plastic_envs.tasks import FewShot
from train.experiments.files import read_series
from train.runs.run_folder import RunFolder
from train.scoring.objectives import objective_of
from train.supervised.config import TrainConfig

# Seconds per episode, step and slow weight of a training step, one thread of an AMD EPYC (Zen 3).
_RATES: dict[str, float] = {"gradient": 1.5e-9, "hebbian": 1.3e-9, "none": 1.3e-10}
_CLOSED = {"gradient": 12.0, "hebbian": 12.0, "none": 2.0}  # times slower without the kernel
_IMAGE_RATES: dict[str, float] = {
    "conv4": 2.5e-10,
    "resnet12": 7e-9,
}  # per image, pixel and squared filter
_VALIDATION = 0.35  # of a training step's time on as many episodes
_START = 7.0  # seconds of starting a process and scoring
_TELLING = 60.0  # seconds of training that tell how fast the machine is


def estimate_seconds(config: TrainConfig) -> float:
    """Return about how many seconds a run takes on one core."""
    network, task = config.network, config.task_for("train")
    per_step = 0.0
    if network.rule is not None and network.cell is not None:
        hidden, gates = network.core_settings["hidden_size"], CELLS[network.cell].gates
        readout = objective_of(task).output_size(task) + network.core_settings["extra_dim"] + 1
        weights = hidden * (2 * gates * hidden + readout)
        if task.observation_space.shape is not None:
            weights += task.observation_space.shape[0] * hidden
        slow = network.rule_settings.get("weight_clip") is not None or library.load() is None
        per_step = _RATES[network.rule] * weights * (_CLOSED[network.rule] if slow else 1.0)
    if isinstance(task, FewShot) and not config.frozen:
        height, width, _ = task.images.image_shape
        per_step += _IMAGE_RATES[network.encoder] * network.filters**2 * height * width
    validated = (1 + config.steps // config.eval_every) * config.eval_episodes
    episodes = config.steps * config.batch_size + _VALIDATION * validated
    return _START + episodes * task.num_steps * per_step


def done_share(folder: RunFolder, config: TrainConfig) -> float:
    """Return how much of a run's training is in its checkpoints, from 0 to 1."""
    records = read_series(folder.timing_path, "seconds")
    return records[-1]["step"] / max(1, config.steps) if records else 0.0


def speed(folders: Iterable[tuple[RunFolder, TrainConfig]]) -> float:
    """Return the median of measured over estimated seconds of what was trained.

    Runs of less than a minute say little; without any longer ones it is 1.
    """
    ratios = []
    for folder, config in folders:
        estimate = done_share(folder, config) * (estimate_seconds(config) - _START)
        if estimate > _TELLING:
            ratios.append(folder.timing()[-1]["seconds"] / estimate)
    return float(np.median(ratios)) if ratios else 1.0
