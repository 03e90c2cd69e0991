"""Running experiments: what is missing is run, what was cut off goes on."""

import json
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from plastic_envs.checks import shown
from train.experiments import published
from train.experiments.cost import done_share, estimate_seconds, speed
from train.experiments.executors import Executor
from train.experiments.job import AnyFolder, folder_of, is_finished, prepare
from train.experiments.sweep import (
    PLACES,
    SOURCE,
    Config,
    Experiment,
    Run,
    Settings,
)
from train.names import BudgetName, DeviceName
from train.runs.files import write_text
from train.runs.run_folder import Record
from train.wording import counted, duration

logger = logging.getLogger(__name__)

Job = tuple[AnyFolder, Config]


@dataclass(frozen=True)
class Planned:
    """An experiment to run, as far as it was asked for.

    Attributes:
        experiment: The experiment.
        budget: Its budget.
        out: Folder of all experiments.
        settings: Settings on top of the budget's.
        device: Where its runs compute.
    """

    experiment: Experiment
    budget: BudgetName
    out: Path
    settings: Settings
    device: DeviceName = "auto"

    @property
    def networks(self) -> tuple[str, ...]:
        """Labels of the networks, also of those that were added."""
        return tuple(self.experiment.budget(self.budget).networks.points)

    @property
    def declared(self) -> tuple[str, ...]:
        """Labels of the networks that the experiment has by itself."""
        declared = published.EXPERIMENTS.get(self.experiment.name, self.experiment)
        return tuple(declared.budget(self.budget).networks.points)

    def all_runs(self) -> list[Run]:
        """Return all runs of the budget."""
        return self.experiment.runs(self.budget, self.settings)

    def folder(self, run: Run) -> AnyFolder:
        """Return where a run is kept."""
        return folder_of(self.out / self.budget / run.name, run.config)

    def config(self, run: Run) -> Config:
        """Return the settings of a run, with its device and the places of what comes before it."""
        places = {into: str(self.folder(first).path) for into, first in run.first.items()}
        return replace(run.config, device=self.device, **places)  # type: ignore[arg-type]

    def jobs(self, run: Run, depth: int = 0) -> Iterator[tuple[int, Job]]:
        """Yield the job of a run, and those that must come before it, each with how far before."""
        for first in run.first.values():
            yield from self.jobs(first, depth + 1)
        yield depth, (self.folder(run), self.config(run))

    @property
    def manifest_path(self) -> Path:
        """Where it is written what the experiment consists of, for the report."""
        source = self.settings.get(SOURCE, "glyphs") if self.experiment.has_images else "glyphs"
        name = self.experiment.name + ("" if source == "glyphs" else f"-{source}")
        return self.out / self.budget / f"{name}.json"

    def write_manifest(self, command: str) -> None:
        """Write what the experiment consists of."""
        content: Record = {
            "experiment": self.experiment.name,
            "budget": self.budget,
            "command": command,
            "settings": dict(self.settings),
            "networks": [label for label in self.networks if label not in self.declared],
            "runs": [
                {"folder": run.name, "point": dict(run.point), "seed": run.config.seed}
                for run in self.all_runs()
            ],
        }
        self.manifest_path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.manifest_path, json.dumps(content, indent=2) + "\n")


def selected(
    runs: Sequence[Run], seeds: Sequence[int] | None, only: dict[str, tuple[str, ...]]
) -> list[Run]:
    """Return the runs with one of these seeds, and one of these labels on each axis named.

    Raises:
        ValueError: If there is no such seed, axis or label.
    """
    have: dict[str, set[str]] = {"seed": {str(run.config.seed) for run in runs}}
    for run in runs:
        for name, label in run.point.items():
            have.setdefault(name, set()).add(label)
    asked = dict(only)
    if seeds is not None:
        asked["seed"] = tuple(str(seed) for seed in seeds)
    for name, labels in asked.items():
        if name not in have:
            raise ValueError(
                f"nothing is varied as {shown(name)}: there is {', '.join(sorted(have))}"
            )
        for label in labels:
            if label not in have[name]:
                raise ValueError(
                    f"{name} must be one of {', '.join(sorted(have[name]))}, got {shown(label)}"
                )
    return [
        run
        for run in runs
        if all(
            ({"seed": str(run.config.seed)} | dict(run.point))[name] in labels
            for name, labels in asked.items()
        )
    ]


def stages(plans: Sequence[tuple[Planned, Sequence[Run]]]) -> list[list[Job]]:
    """Return the jobs of runs, each once, in stages: first those that others need."""
    depths: dict[Path, tuple[int, Job]] = {}
    for plan, runs in plans:
        for depth, job in (found for run in runs for found in plan.jobs(run)):
            path = job[0].path
            depths[path] = max(depth, depths.get(path, (0, job))[0]), job
    deepest = max((depth for depth, _ in depths.values()), default=-1)
    return [
        [job for depth, job in depths.values() if depth == number]
        for number in range(deepest, -1, -1)
    ]


def run_missing(
    jobs: Sequence[Sequence[Job]], executor: Executor, *, progress: bool = True
) -> dict[Path, str]:
    """Run what is not finished, stage by stage.

    Args:
        jobs: Of `stages`.
        executor: Where they run; it is stopped at the end, also by an exception (Ctrl-C).
        progress: Show a progress bar.

    Returns:
        What went wrong, by the folder of each run that failed. One that needs a failed run fails
        with it.

    Raises:
        ValueError: If a folder holds a run with other settings.
    """
    everything = [job for stage in jobs for job in stage]
    missing = [[job for job in stage if not is_finished(*job)] for stage in jobs]
    todo = [job for stage in missing for job in stage]
    failures: dict[Path, str] = {}
    try:
        for job in todo:
            prepare(*job)
        logger.info(
            "%d of %s to do, about %s on %s",
            len(todo),
            counted(len(everything), "run"),
            duration(seconds_left(everything, executor.cores)),
            counted(executor.cores, "core"),
        )
        with _Progress(todo, progress) as bar:
            for stage in missing:
                _run_stage(stage, executor, bar, failures)
    finally:
        executor.stop()
    return failures


def seconds_left(jobs: Sequence[Job], cores: int) -> float:
    """Return about how many seconds it takes to finish runs, each of which uses one core."""
    factor = speed(jobs)
    seconds = [
        (1 - done_share(*job)) * estimate_seconds(job[1]) * factor
        for job in jobs
        if not is_finished(*job)
    ]
    return max(sum(seconds) / cores, *seconds) if seconds else 0.0


class _Progress:
    """A bar over the estimated seconds of all runs, which knows runs by their records."""

    def __init__(self, jobs: Sequence[Job], show: bool) -> None:
        self._jobs = jobs
        self.num_jobs = len(jobs)
        self._costs = {folder.path: estimate_seconds(config) for folder, config in jobs}
        self.ended: set[Path] = set()
        self._bar = tqdm(
            total=round(sum(self._costs.values()), 1),
            initial=self._done(),
            disable=not show,
            smoothing=0,  # it is asked every second, and moves at validations
            bar_format="{percentage:3.0f}% |{bar}| {elapsed} gone, {remaining} left{postfix}",
        )

    def __enter__(self) -> "_Progress":
        self._redirect = logging_redirect_tqdm()
        self._redirect.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._redirect.__exit__(None, None, None)
        self._bar.close()

    def update(self) -> None:
        self._bar.set_postfix_str(
            f"{len(self.ended)} of {counted(self.num_jobs, 'run')}", refresh=False
        )
        self._bar.update(max(0.0, self._done() - self._bar.n))
        self._bar.refresh()

    def _done(self) -> float:
        shares = {
            folder.path: 1.0 if folder.path in self.ended else done_share(folder, config)
            for folder, config in self._jobs
        }
        return sum(self._costs[path] * share for path, share in shares.items())


def _run_stage(
    stage: Sequence[Job], executor: Executor, bar: _Progress, failures: dict[Path, str]
) -> None:
    running: dict[Future[None], AnyFolder] = {}
    for folder, config in stage:
        places = [Path(place) for name in PLACES if (place := getattr(config, name, None))]
        if failed := [place for place in places if place in failures]:
            failures[folder.path] = f"the run that comes before it failed: {failed[0]}"
            bar.ended.add(folder.path)
        else:
            running[executor.submit(folder.path)] = folder
    while running:
        bar.update()
        done, _ = wait(running, timeout=1, return_when=FIRST_COMPLETED)
        for future in done:
            folder = running.pop(future)
            bar.ended.add(folder.path)
            error = future.exception()
            if error is None:
                done_now = len(bar.ended)
                logger.info("finished %s, %d of %d", folder.path, done_now, bar.num_jobs)
            else:
                failures[folder.path] = str(error)
                logger.error("failed: %s: %s", folder.path, error)
    bar.update()
