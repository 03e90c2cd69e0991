"""Running experiments: what is missing is run, what was cut off goes on."""

import json
import logging
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from plastic_envs.checks import shown
from train.experiments.cost import done_share, estimate_seconds, speed
from train.experiments.executors import Executor
from train.experiments.job import is_finished, prepare
from train.experiments.sweep import BudgetName, Experiment, Run, Settings
from train.runs.files import write_text
from train.runs.run_folder import Record, RunFolder
from train.supervised.config import TrainConfig
from train.wording import counted, duration

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Planned:
    """An experiment to run, as far as it was asked for.

    Attributes:
        experiment: The experiment.
        budget: Its budget.
        out: Folder of all experiments.
        settings: Settings on top of the budget's.
    """

    experiment: Experiment
    budget: BudgetName
    out: Path
    settings: Settings

    def all_runs(self) -> list[Run]:
        """Return all runs of the budget."""
        return self.experiment.runs(self.budget, self.settings)

    def folder(self, run: Run) -> RunFolder:
        """Return where a run is kept."""
        return RunFolder(self.out / self.budget / run.name)

    def encoder(self, run: Run) -> tuple[RunFolder, TrainConfig] | None:
        """Return the run whose encoder a run takes over, if there is one."""
        if run.encoder is None:
            return None
        return self.folder(Run({}, run.encoder)), run.encoder

    def config(self, run: Run) -> TrainConfig:
        """Return the settings of a run, with the place of its encoder."""
        if (encoder := self.encoder(run)) is None:
            return run.config
        return replace(run.config, encoder_run=str(encoder[0].path))

    @property
    def manifest_path(self) -> Path:
        """Where it is written what the experiment consists of, for the report."""
        source = self.settings.get("task_settings.source", "glyphs")
        name = self.experiment.name + ("" if source == "glyphs" else f"-{source}")
        return self.out / self.budget / f"{name}.json"

    def write_manifest(self, command: str) -> None:
        """Write what the experiment consists of."""
        content: Record = {
            "experiment": self.experiment.name,
            "budget": self.budget,
            "command": command,
            "settings": dict(self.settings),
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


Job = tuple[RunFolder, TrainConfig]


def stages(plans: Sequence[tuple[Planned, Sequence[Run]]]) -> list[list[Job]]:
    """Return the jobs of runs, each once, in stages: encoders first, then those that need them."""
    first: dict[Path, Job] = {}
    second: dict[Path, Job] = {}
    for plan, runs in plans:
        for run in runs:
            if (encoder := plan.encoder(run)) is not None:
                first[encoder[0].path] = encoder
            folder = plan.folder(run)
            second[folder.path] = folder, plan.config(run)
    return [list(first.values()), list(second.values())]


def run_missing(
    jobs: Sequence[Sequence[Job]], executor: Executor, *, progress: bool = True
) -> dict[Path, str]:
    """Run what is not finished, stage by stage.

    Args:
        jobs: Of `stages`.
        executor: Where they run; it is stopped at the end, also by an exception (Ctrl-C).
        progress: Show a progress bar.

    Returns:
        What went wrong, by the folder of each run that failed. One that needs the encoder of a
        failed run fails with it.

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
    running: dict[Future[None], RunFolder] = {}
    for folder, config in stage:
        needed = None if config.encoder_run is None else Path(config.encoder_run)
        if needed in failures:
            failures[folder.path] = f"the run of its encoder failed: {needed}"
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
