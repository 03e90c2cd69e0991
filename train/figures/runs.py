"""From run folders to a figure of their learning curves."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure

from train.figures.drawing import Curve, ScoreAxis, comparison_figure, group, save
from train.places import picture_path
from train.reinforcement.config import RLConfig
from train.runs.run_folder import RLRunFolder, RunFolder
from train.scoring.networks import probe_eta
from train.scoring.references import reference_scores
from train.settings import flat
from train.supervised.config import TrainConfig


def plot_runs(
    folders: Sequence[RunFolder | RLRunFolder],
    output: Path | None = None,
    *,
    labels: Sequence[str] | None = None,
) -> Path:
    """Draw learning curves and η_t of runs of one task; runs that differ in seed only are joined.

    Args:
        folders: The runs.
        output: Where the figure goes; the format follows from its ending, PNG if there is none. By
            default it goes into the folder of the run, as `curves.png`, and for several runs
            beside the first of them, under a name that is made of theirs.
        labels: What each of the runs, all different, is called, runs of one name being joined; by
            default, what tells them apart.

    Returns:
        Where it is.

    Raises:
        FileNotFoundError: If a run does not exist.
        IsADirectoryError: If `output` is a folder.
        ValueError: If there is no run, a run has no metrics yet or not all of them any more, the
            tasks differ, or there is no such format.
    """
    folders = list({folder.path.resolve(): folder for folder in folders}.values())
    if not folders:
        raise ValueError("name at least one run folder")
    if output is None:
        output = _default_place([folder.path for folder in folders])
    endings = {f".{name}" for name in FigureCanvasBase.get_supported_filetypes()}
    output = picture_path(output, endings, ".png")
    supervised = [folder for folder in folders if isinstance(folder, RunFolder)]
    reinforced = [folder for folder in folders if isinstance(folder, RLRunFolder)]
    if supervised and reinforced:
        raise ValueError(
            f"one figure shows one way of learning: {supervised[0].path} is supervised, "
            f"{reinforced[0].path} is not"
        )
    if supervised:
        figure = _supervised_figure(supervised, labels)
    else:
        figure = _rl_figure(reinforced, labels)
    save(figure, output)
    return output


def _default_place(paths: Sequence[Path]) -> Path:
    """Return where a figure goes if nobody says: no other runs' figure is there."""
    if len(paths) == 1:
        return paths[0] / "curves.png"
    names = "\n".join(sorted(str(path.resolve()) for path in paths))
    digest = hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest()[:8]
    return paths[0].parent / f"curves-of-{len(paths)}-runs-{digest}.png"


def _supervised_figure(folders: Sequence[RunFolder], labels: Sequence[str] | None) -> Figure:
    configs = [folder.config() for folder in folders]
    tasks = [config.task_for("validation") for config in configs]
    _check_one_task(folders, tasks)
    task = tasks[0]
    curves = [_curve(*each) for each in zip(folders, labels or _labels(configs), strict=True)]
    levels = reference_scores(task, configs[0].test_seed)
    if task.optimal_score is not None:
        levels.pop(task.oracle_name, None)  # it lies on the optimum, but for chance
    limits = (0.0, 1.0)
    if not task.higher_is_better:
        chance = math.inf if task.chance_score is None else task.chance_score
        highest = max(*levels.values(), *(c.scores[:, 1:].max(initial=0) for c in curves))
        limits = (0.0, 1.15 * min(highest, 2 * chance))
    title = f"{type(task).__name__}: validation score"
    axis = ScoreAxis(title, task.score_name, "training step", levels, limits)
    return comparison_figure(axis, group(curves))


def _rl_figure(folders: Sequence[RLRunFolder], labels: Sequence[str] | None) -> Figure:
    configs = [folder.config() for folder in folders]
    _check_one_task(folders, [(config.env, config.env_kwargs) for config in configs])
    curves = [_curve(*each) for each in zip(folders, labels or _rl_labels(configs), strict=True)]
    task, name = configs[0].task_for("validation"), "return of an episode"
    levels: dict[str, float] = {}
    if task is not None:
        name, levels = task.score_name, _apart(reference_scores(task))
    axis = ScoreAxis(f"{configs[0].env}: validation score", name, "environment step", levels)
    return comparison_figure(axis, group(curves))


def _apart(levels: Mapping[str, float]) -> dict[str, float]:
    """Leave out levels that would be drawn on the one before."""
    apart: dict[str, float] = {}
    for name, level in levels.items():
        if not any(math.isclose(level, other, rel_tol=0.01) for other in apart.values()):
            apart[name] = level
    return apart


def _check_one_task(folders: Sequence[RunFolder | RLRunFolder], tasks: Sequence[Any]) -> None:
    for folder, other in zip(folders, tasks, strict=True):
        if other != tasks[0]:
            raise ValueError(
                f"one figure shows one task: {folders[0].path} is of {tasks[0]}, "
                f"{folder.path} of {other}"
            )


def _rl_labels(configs: Sequence[RLConfig]) -> list[str]:
    """Name runs by their agent and whatever else differs between them, but for the seed."""
    named = ("core", "rule", "cell", "hidden_size", "previous_action_reward")
    ignored = (*named, "seed", "threads", "device", "start_from")
    names = [config.agent.replace("-", " ") for config in configs]
    return _with_differences(names, [_by_name(config) for config in configs], ignored)


def _labels(configs: Sequence[TrainConfig]) -> list[str]:
    """Name runs by rule, cell, size and whatever else differs between them, but for the seed."""
    named = ("core", "rule", "cell", "hidden_size")
    ignored = ("seed", "threads", "device", "form", "encoder_run", "fine_tune")
    found = []
    for config in configs:
        started = "trained" if config.encoder_run is None else "fine-tuned"
        found.append(
            _by_name(config) | {"encoder_training": "frozen" if config.frozen else started}
        )
    names = [config.network.name.replace("-", " ") for config in configs]
    return _with_differences(names, found, (*named, *ignored))


def _by_name(config: TrainConfig | RLConfig) -> dict[str, Any]:
    """Return all settings by the last word of their dotted names."""
    return {name.rpartition(".")[2]: value for name, value in flat(config).items()}


def _with_differences(
    names: Sequence[str], settings: Sequence[Mapping[str, Any]], ignored: Sequence[str]
) -> list[str]:
    """Add to each name the settings in which some of those differ that have them."""
    others = []
    for name in dict.fromkeys(name for each in settings for name in each):
        values = [each[name] for each in settings if name in each]
        if name in ignored or isinstance(values[0], dict):
            continue
        if any(value != values[0] for value in values):
            others.append(name)
    return [
        name + "".join(f", {k}={each[k]}" for k in others if each.get(k) is not None)
        for name, each in zip(names, settings, strict=True)
    ]


def _curve(folder: RunFolder | RLRunFolder, label: str) -> Curve:
    folder.check_whole()
    records = folder.metrics()
    if not records:
        raise ValueError(f"{folder.path} has no metrics yet")
    eta = probe_eta(folder) if isinstance(folder, RunFolder) else None
    return Curve(
        label=label,
        steps=np.array([record["step"] for record in records]),
        scores=np.array([[record["val_score"] for record in records]]),
        eta=None if eta is None else eta[None],
    )
