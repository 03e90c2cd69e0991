"""From run folders to a figure of their learning curves."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from train.config import TrainConfig
from train.evaluation import network_names, probe_eta
from train.plotting import Curve, comparison_figure, group, save
from train.run_folder import RunFolder
from train.supervised import evaluation_seed


def plot_runs(folders: Sequence[RunFolder], output: Path) -> Path:
    """Draw learning curves and η_t of runs of one task; runs that differ in seed only are joined.

    Args:
        folders: The runs.
        output: Where the figure goes; the format follows from its ending.

    Returns:
        `output`.

    Raises:
        FileNotFoundError: If a run does not exist.
        ValueError: If there is no run, a run has no metrics yet, or the tasks differ.
    """
    folders = list({folder.path.resolve(): folder for folder in folders}.values())
    if not folders:
        raise ValueError("name at least one run folder")
    configs = [folder.config() for folder in folders]
    tasks = [config.task_for("validation") for config in configs]
    task = tasks[0]
    for folder, other in zip(folders, tasks, strict=True):
        if other != task:
            raise ValueError(
                f"one figure shows one task: {folders[0].path} is of {task}, "
                f"{folder.path} of {other}"
            )
    labels = _labels(configs)
    curves = [_curve(*each) for each in zip(folders, labels, strict=True)]
    optimum, label = task.optimal_score, "optimum"
    if optimum is None:
        episodes = task.sample_episodes(1_000, evaluation_seed(configs[0]))
        optimum = task.score(task.oracle(episodes.observations), episodes)
        label = task.oracle_name
    save(comparison_figure(task, group(curves), optimum, label), output)
    return output


def _labels(configs: Sequence[TrainConfig]) -> list[str]:
    """Name runs by rule, cell, size and whatever else differs between them, but for the seed."""
    named = ("rule", "cell", "hidden_size")
    ignored = ("seed", "threads", "form", "encoder_run", "fine_tune", "model")
    flat = []
    for config in configs:
        network = asdict(config.network) | network_names(config)
        settings = asdict(config) | network | network["plasticity"] | asdict(config.few_shot)
        started = "trained" if config.encoder_run is None else "fine-tuned"
        flat.append(settings | {"encoder_training": "frozen" if config.frozen else started})
    others = [
        name
        for name, value in flat[0].items()
        if name not in (*named, *ignored)
        and not isinstance(value, dict)
        and any(each[name] != value for each in flat)
    ]
    return [
        " ".join(str(each[name]) for name in named)
        + "".join(f", {name}={each[name]}" for name in others)
        for each in flat
    ]


def _curve(folder: RunFolder, label: str) -> Curve:
    records = folder.metrics()
    if not records:
        raise ValueError(f"{folder.path} has no metrics yet")
    eta = probe_eta(folder)
    return Curve(
        label=label,
        steps=np.array([record["step"] for record in records]),
        scores=np.array([[record["val_score"] for record in records]]),
        eta=None if eta is None else eta[None],
    )
