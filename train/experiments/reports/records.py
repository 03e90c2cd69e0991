"""Results as data: a record of every finished run, kept in the repository.

Records are JSON lines, sorted, in a file `BUDGET/EXPERIMENT.jsonl` for each experiment and budget.
A record says all that it takes to run it again, what came out, and what it ran on; figures and
tables are made of records alone. A run that is recorded again replaces its record.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from plastic_envs.checks import check_choice, check_int, shown
from train.experiments.files import check_finite, check_name, check_scores, plain, read_objects
from train.experiments.networks import with_networks
from train.experiments.reports.reading import check_known, check_point, experiment_at
from train.experiments.reports.results import Section, in_order, panels_of
from train.experiments.reports.runs import RunResult
from train.experiments.sweep import NAMES, NETWORK_NAMES, Config, Run, differences, made
from train.reinforcement.config import RLConfig
from train.runs.files import write_text
from train.runs.run_folder import Record
from train.supervised.config import TrainConfig

DEFAULT_RECORDS = Path("results")

_KINDS: dict[str, type[TrainConfig] | type[RLConfig]] = {
    "supervised": TrainConfig,
    "reinforcement": RLConfig,
}
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True)
class RunRecord:
    """What is kept of a finished run.

    Attributes:
        name: Name of its folder, with a digest of the settings.
        kind: `"supervised"` or `"reinforcement"`.
        point: Labels by the name of their axis.
        seed: The seed.
        settings: Settings that differ from the defaults, by their dotted names.
        first: Those of the runs that came before it, by the setting that takes something over.
        command: What runs it again.
        steps: Training steps.
        curve: Validation scores, as [step, score].
        scores: On test episodes, as `train.experiments.job.score` returns them.
        seconds: Of training, by name of the run: its own and of those before it.
        versions: Of Python and packages.
        processor: What it ran on, one thread.
        date: On which it began.
    """

    name: str
    kind: str
    point: dict[str, str]
    seed: int
    settings: dict[str, Any]
    first: dict[str, dict[str, Any]]
    command: str
    steps: int
    curve: list[list[float]]
    scores: Record
    seconds: dict[str, float]
    versions: dict[str, str]
    processor: str
    date: str

    @property
    def config(self) -> Config:
        """Settings of the run, but for places.

        Raises:
            ValueError: If there is a setting that does not exist or does not fit any more.
        """
        return made(_KINDS[self.kind], {**self.settings, **dict.fromkeys(self.first, "PATH")})

    def first_configs(self) -> dict[str, Config]:
        """Return the settings of the runs that came before it."""
        return {into: made(_KINDS[self.kind], each) for into, each in self.first.items()}

    def line(self) -> str:
        """Write the record as a line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def read(cls, path: Path, content: Mapping[str, Any]) -> "RunRecord":
        """Read what `line` wrote.

        Raises:
            ValueError: If something is missing or cannot be what a record says. It names the file.
        """
        names = {field.name for field in fields(cls)}
        if odd := sorted(names ^ content.keys()):
            what = "has no" if odd[0] in names else "has an unknown"
            raise ValueError(f"{path}: the record {what} {shown(odd[0])}")
        record = cls(**content)
        try:
            record._check(path)
        except (AttributeError, KeyError, TypeError, IndexError) as error:
            raise ValueError(f"{path}: the record cannot be read: {error!r}") from error
        return record

    def _check(self, path: Path) -> None:
        try:
            check_choice("kind", self.kind, _KINDS)
            check_int("seed", self.seed, maximum=2**63 - 1)
            check_int("steps", self.steps)
            check_int("episodes", self.scores["episodes"], minimum=2)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        check_name(path, "name", self.name)
        texts = {**self.point, **self.versions}
        texts |= {"command": self.command, "processor": self.processor}
        for key, text in texts.items():
            if not isinstance(text, str) or text != plain(text, 4_000):
                raise ValueError(f"{path}: {shown(key)} must be a line of text, got {shown(text)}")
        for settings in (self.settings, *self.first.values()):
            if not isinstance(settings, dict):
                raise ValueError(f"{path}: settings must be an object, got {shown(settings)}")
        for seconds in self.seconds.values():
            if check_finite(path, "seconds", seconds) < 0:
                raise ValueError(f"{path}: seconds must be at least 0, got {shown(seconds)}")
        for point in self.curve:
            check_finite(path, "a step of the curve", point[0])
            check_finite(path, "a score of the curve", point[1])
        check_finite(path, "score", self.scores["score"])
        check_finite(path, "interval", self.scores["interval"])
        check_scores(path, self.scores, ())
        if not _DATE.fullmatch(self.date):
            raise ValueError(f"{path}: date must be like 2026-01-31, got {shown(self.date)}")


class RecordedResult(RunResult):
    """A run of which there is a record, or none yet.

    Args:
        point: Its labels by the name of their axis.
        seed: Its seed.
        record: The record.
    """

    def __init__(self, point: Mapping[str, str], seed: int, record: RunRecord | None) -> None:
        self.point, self.seed, self.record = point, seed, record

    @property
    def name(self) -> str:
        """Name of its folder."""
        return "" if self.record is None else self.record.name

    @cached_property
    def config(self) -> Config | None:
        """Settings; None if there is no record."""
        return None if self.record is None else self.record.config

    @cached_property
    def first(self) -> Mapping[str, Config]:
        """Settings of the runs that came before it, by the setting that takes something over."""
        return {} if self.record is None else self.record.first_configs()

    @property
    def curve(self) -> Mapping[int, float]:
        """Validation scores by training step."""
        return {} if self.record is None else {int(s): value for s, value in self.record.curve}

    @property
    def test(self) -> Record | None:
        """Scores on test episodes; None if there is no record."""
        return None if self.record is None else self.record.scores

    @property
    def parts(self) -> Mapping[str, float]:
        """Seconds of training by name: its own, and those of the runs that came before it."""
        return {} if self.record is None else self.record.seconds

    @property
    def versions(self) -> Mapping[str, Any]:
        """What it ran on."""
        if self.record is None:
            return {}
        return {**self.record.versions, "processor": self.record.processor}

    @property
    def status(self) -> str:
        """How far it has come, in words."""
        return "not recorded" if self.record is None else "finished"


def record_of(run: RunResult, command: str) -> RunRecord:
    """Return the record of a finished run.

    Args:
        run: The run.
        command: What runs it again.

    Raises:
        ValueError: If it is not finished.
    """
    config, test = run.config, run.test
    if config is None or test is None:
        raise ValueError(f"{run.name} is not finished: {run.status}")
    versions = {name: str(value) for name, value in run.versions.items() if value is not None}
    if "platform" in versions:  # of which the kernel's build is nobody's concern
        versions["platform"] = versions["platform"].partition("-")[0]
    return RunRecord(
        name=run.name,
        kind=next(name for name, kind in _KINDS.items() if isinstance(config, kind)),
        point=dict(run.point),
        seed=run.seed,
        settings=_portable(config),
        first={into: _portable(each) for into, each in run.first.items()},
        command=command,
        steps=config.total_steps,
        curve=[[step, _short(value)] for step, value in run.curve.items()],
        scores=_shortened(test),
        seconds={name: round(value, 1) for name, value in run.parts.items()},
        processor=versions.pop("processor", "unknown"),
        date=versions.pop("date", "unknown"),
        versions=versions,
    )


def write_records(path: Path, records: Sequence[RunRecord]) -> None:
    """Add records to a file, in place of those of the same points and seeds.

    The file is there as a whole, or as it was before.

    Raises:
        ValueError: If what is there is no file of records.
    """
    kept = {_identity(record): record for record in read_run_records(path)} if path.exists() else {}
    kept |= {_identity(record): record for record in records}
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [kept[key].line() for key in sorted(kept)]
    write_text(path, "".join(f"{line}\n" for line in lines))


def read_run_records(path: Path) -> list[RunRecord]:
    """Read a file of records.

    Raises:
        ValueError: If it holds anything else. It names the file.
    """
    records = [RunRecord.read(path, content) for content in read_objects(path)]
    if len({_identity(record) for record in records}) < len(records):
        raise ValueError(f"{path} has two records of one point and seed")
    return records


def read_recorded(folder: Path) -> list[Section]:
    """Read all records below a folder, in the order in which experiments are declared.

    Of networks and places of which there is no run at all, nothing is said.

    Raises:
        FileNotFoundError: If there are none.
        ValueError: If there is something else.
    """
    paths = sorted(folder.glob("*/*.jsonl"))
    if not paths:
        raise FileNotFoundError(
            f"{folder} holds no records: plastic reproduce NAME --record {folder} makes some"
        )
    return in_order([_section(path) for path in paths])


def _section(path: Path) -> Section:
    names = [path.stem, path.stem.rpartition("-")[0]]  # the second with other images
    known = next((name for name in names if _declared(path, name)), path.stem)
    experiment, budget = experiment_at(path, known, path.parent.name)
    found: dict[tuple[str, ...], dict[int, RunRecord]] = {}
    records = read_run_records(path)
    declared = experiment.budget(budget).networks.points
    added = [label for r in records if (label := r.point.get("network")) not in declared]
    experiment = with_networks(experiment, [check_known(path, label) for label in added])
    for record in records:
        try:
            point = check_point(experiment, budget, record.point)
        except (KeyError, ValueError) as error:
            raise ValueError(f"{path}: a record is of no run of {known}: {error}") from error
        found.setdefault(tuple(point.values()), {})[record.seed] = record
    runs: list[RunResult] = []
    for run in experiment.runs(budget):
        if (group := found.get(tuple(run.point.values()))) is not None:
            seed = run.config.seed
            if (kept := group.pop(seed, None)) is not None:
                _check_names(path, kept, run)
            runs.append(RecordedResult(run.point, seed, kept))
    for group in found.values():
        for seed in group:
            raise ValueError(f"{path}: a record is of seed {seed}, which {known} does not have")
    commands = {run.record.command for run in runs if run.record is not None}  # type: ignore[attr-defined]
    return Section(
        experiment, budget, path.stem, _joint(commands), panels_of(experiment, budget, runs)
    )


def _check_names(path: Path, record: RunRecord, declared: Run) -> None:
    """Check that a record is of what it is declared to be of, which may have to be imported.

    Raises:
        ValueError: If it is of something else.
    """
    if record.first.keys() != declared.first.keys():
        raise ValueError(f"{path}: first must be of {sorted(declared.first)}, got {record.name}")
    pairs = [(record.settings, declared.config)]
    pairs += [(record.first[into], run.config) for into, run in declared.first.items()]
    for settings, config in pairs:
        expected = differences(config)
        for name in (*NAMES, *NETWORK_NAMES):
            if settings.get(name) != expected.get(name):
                raise ValueError(
                    f"{path}: {name} of {record.name} must be {shown(expected.get(name))}, got "
                    f"{shown(settings.get(name))}"
                )


def _declared(path: Path, name: str) -> bool:
    try:
        experiment_at(path, name, path.parent.name)
    except ValueError:
        return False
    return True


def _joint(commands: set[str]) -> str:
    """Return the command of all runs: that of each, without the point and seed at its end."""
    whole = sorted({command.partition(" --only ")[0] for command in commands})
    return "\n".join(whole)


def _identity(record: RunRecord) -> tuple[Any, ...]:
    return (*record.point.values(), record.seed)


def _portable(config: Config) -> dict[str, Any]:
    """Return settings without places of this machine."""
    found = differences(config)
    return {name: value for name, value in found.items() if name.rpartition(".")[2] != "root"}


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def _shortened(content: Any) -> Any:
    """Return numbers with the digits that mean something."""
    if isinstance(content, dict):
        return {name: _shortened(value) for name, value in content.items()}
    if isinstance(content, list):
        return [_shortened(value) for value in content]
    return _short(content) if isinstance(content, float) else content
