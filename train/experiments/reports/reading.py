"""Reading folders of experiments back, which anybody may have made."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, get_args

from plastic_envs.checks import check_choice, check_int, shown
from plastic_envs.images.sources import SourceName
from train.experiments import published
from train.experiments.files import (
    check_name,
    plain,
    read_object,
)
from train.experiments.networks import with_networks
from train.experiments.own import is_known
from train.experiments.reports.results import Section, in_order, panels_of
from train.experiments.reports.runs import FolderResult, RunResult
from train.experiments.sweep import (
    Experiment,
    Settings,
    with_seed,
)
from train.names import BudgetName


def read_sections(
    out: Path, budget: str | None = None, names: Collection[str] | None = None
) -> list[Section]:
    """Read all experiments below a folder, in the order in which they are declared.

    Args:
        out: Folder of all experiments.
        budget: Leave out other budgets than this.
        names: Leave out other manifests than those of these names.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If there is something else.
    """
    paths = sorted(path for path in out.glob(f"{budget or '*'}/*.json") if path.is_file())
    sections = [_section(path) for path in paths if names is None or path.stem in names]
    if not sections:
        of_budget = "" if budget is None else f" of the budget {budget}"
        raise FileNotFoundError(
            f"{out} holds no experiments{of_budget}: start with plastic reproduce"
        )
    return in_order(sections)


def experiment_at(path: Path, name: object, budget: str) -> tuple[Experiment, BudgetName]:
    """Return the experiment that a file is of, which is called after it, and its budget.

    Raises:
        ValueError: If there is none of that name and budget.
    """
    experiment = published.EXPERIMENTS.get(name) if isinstance(name, str) else None
    if experiment is None:
        raise ValueError(
            f"{path} is of no experiment that there is: --out must be a folder of plastic "
            "reproduce, and all in it of this version; a task of your own is named by --tasks"
        )
    if budget not in experiment.budgets:
        known = ", ".join(experiment.budgets)
        raise ValueError(f"{path}: budget must be one of {known}, got {shown(budget)}")
    if path.stem not in (name, *(f"{name}-{source}" for source in get_args(SourceName))):
        raise ValueError(f"{path} must be called {name}, or after its images")
    return experiment, check_choice("budget", budget, get_args(BudgetName))


def check_point(experiment: Experiment, budget: BudgetName, point: Any) -> dict[str, str]:
    """Return the labels of a run, which must be declared.

    Raises:
        KeyError: If one is missing.
        TypeError: If it has no labels.
        ValueError: If there is no such label.
    """
    return {
        axis.name: check_choice(axis.name, point[axis.name], axis.points)
        for axis in experiment.kept_axes(budget)
    }


def added_networks(path: Path) -> list[str]:
    """Return the networks of a manifest that its experiment does not have by itself.

    Raises:
        ValueError: If one is not known, and might have to be imported.
    """
    labels = read_object(path).get("networks", [])
    if not isinstance(labels, list):
        raise ValueError(f"{path}: networks must be a list, got {shown(labels)}")
    return [check_known(path, label) for label in labels]


def check_known(path: Path, label: object) -> str:
    """Return the label of a network that is registered, or was asked for.

    Raises:
        ValueError: If it is neither.
    """
    if not isinstance(label, str) or not is_known(label):
        raise ValueError(
            f"{path} has a network {shown(label)}, which is not known here: if it is yours, name "
            "it with --networks"
        )
    return label


def _section(path: Path) -> Section:
    manifest = read_object(path)
    experiment, budget = experiment_at(path, manifest.get("experiment"), path.parent.name)
    if manifest.get("budget") != budget:
        raise ValueError(
            f"{path}: budget must be that of its folder, got {shown(manifest.get('budget'))}"
        )
    experiment = with_networks(experiment, added_networks(path))
    settings = manifest.get("settings", {}) if experiment.asked_as else {}  # as its task needs
    runs = list(_runs(path, experiment, budget, manifest.get("runs"), settings))
    command = plain(manifest.get("command"), 4_000)
    return Section(experiment, budget, path.stem, command, panels_of(experiment, budget, runs))


def _runs(
    path: Path, experiment: Experiment, budget: BudgetName, listed: Any, settings: Settings
) -> Iterator[RunResult]:
    """Read the runs of a manifest: each at a point that is declared, and each once."""
    if not isinstance(listed, list) or not listed:
        raise ValueError(f"{path}: runs must be a list, got {shown(listed)}")
    have = set()
    declared = {tuple(run.point.items()): run for run in experiment.runs(budget, settings)}
    measures = [measure.key for measure in experiment.measures]
    for run in listed:
        try:
            folder = check_name(path, "folder", run["folder"])
            seed = check_int("seed", run["seed"], maximum=2**63 - 1)
            point = check_point(experiment, budget, run["point"])
        except (KeyError, TypeError, ValueError) as error:
            missing = isinstance(error, KeyError)
            told = f"{error} is missing" if missing else str(error).removeprefix(f"{path}: ")
            raise ValueError(f"{path}: a run cannot be read: {told} in {shown(run)}") from error
        if (key := (*point.values(), seed)) in have:
            raise ValueError(f"{path}: there are two runs at {', '.join(map(str, key))}")
        have.add(key)
        yield FolderResult(
            path.parent / folder, with_seed(declared[tuple(point.items())], seed), measures
        )
