"""What the subcommands of `plastic` do, a function each; `train.cli` reads the command line."""

import json
import logging
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, TypeVar, get_args

import torch
import tyro
from PIL import Image

from agents.plastic.ops.cpu import library
from plastic_envs.checks import check_int
from train.experiments.command import DEFAULT_OUT, ReproduceConfig, listing, reproduce_experiments
from train.experiments.demo import DemoConfig, run_demo
from train.experiments.sweep import BudgetName
from train.places import expanded, picture_path
from train.reinforcement.config import RLConfig
from train.runs.run_folder import CheckpointName, Record, RLRunFolder, RunFolder, open_run
from train.supervised.config import TrainConfig
from train.wording import columns, counted, duration, say

logger = logging.getLogger(__name__)

Config = TypeVar("Config", TrainConfig, RLConfig)
Folder = TypeVar("Folder", RunFolder, RLRunFolder)


@dataclass(frozen=True)
class TrainCommand:
    """Meta-train a network on a memory or few-shot task, by supervised learning.

    Example: plastic train --task cue-reward --rule gradient --cell rnn --steps 5000
    """

    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)
    out: Path | None = None
    """Folder of the run; runs/TASK-RULE-CELL-HIDDEN-seedN if not given."""
    resume: Path | None = None
    """Go on with the run in this folder, with its settings; --steps gives it more steps."""
    json: bool = False
    """Print the last metrics as a JSON line."""


def train(command: Annotated[TrainCommand, tyro.conf.arg(name="")]) -> None:
    """Meta-train a network on a memory or few-shot task, by supervised learning.

    torchrun --no-python plastic train … does so over several processes.
    """
    from train.supervised.distributed import joined
    from train.supervised.training import default_folder
    from train.supervised.training import train as train_network

    _warn_without_kernel()
    config = _with_home(command.config, "encoder_run")
    if command.resume is not None:
        folder = _folder_to_resume(command.resume, RunFolder, "train-rl")
        config = _with_more_steps(folder.config(), config)
    else:
        folder = RunFolder(command.out or default_folder(config))
    with _to_go_on("train", folder), joined() as processes:
        record = train_network(
            config,
            folder,
            resume=command.resume is not None,
            progress=sys.stderr.isatty(),
            processes=processes,
        )
    if not processes.is_first:
        return
    if command.json:
        _print_json({"run": str(folder.path), **record})
    else:
        chance = config.task_for("validation").chance_score
        say(
            f"{folder.path}: validation score {record['val_score']:.4f}, loss "
            f"{record['val_loss']:.4f} after {counted(record['step'], 'step')} "
            f"(chance {chance:.4f})"
        )


@dataclass(frozen=True)
class TrainRLCommand:
    """Train an agent by reinforcement learning, on any Gymnasium environment.

    Example: plastic train-rl --env PlasticBandit-v0 --rule hebbian --cell rnn --steps 1000000
    """

    config: Annotated[RLConfig, tyro.conf.arg(name="")] = field(default_factory=RLConfig)
    out: Path | None = None
    """Folder of the run; runs/ENV-AGENT-seedN if not given."""
    resume: Path | None = None
    """Go on with the run in this folder, with its settings; --steps gives it more steps."""
    json: bool = False
    """Print the last metrics as a JSON line."""


def train_rl(command: Annotated[TrainRLCommand, tyro.conf.arg(name="")]) -> None:
    """Train an agent by reinforcement learning, on any Gymnasium environment."""
    import agents.sb3  # noqa: F401 (it says how to get Stable-Baselines3, which is an extra)
    from train.reinforcement.training import train as train_agent

    _warn_without_kernel()
    config = _with_home(command.config, "start_from")
    if command.resume is not None:
        folder = _folder_to_resume(command.resume, RLRunFolder, "train")
        config = _with_more_steps(folder.config(), config)
    else:
        folder = RLRunFolder(command.out or Path("runs") / config.name)
    with _to_go_on("train-rl", folder):
        record = train_agent(
            config, folder, resume=command.resume is not None, progress=sys.stderr.isatty()
        )
    if command.json:
        _print_json({"run": str(folder.path), **record})
    else:
        say(
            f"{folder.path}: validation score {record['val_score']:.4f} ± "
            f"{record['val_interval']:.4f} after {counted(record['step'], 'step')}"
        )


def watch(
    run: tyro.conf.Positional[Path],
    output: Path | None = None,
    checkpoint: CheckpointName = "best",
    seed: int | None = None,
) -> None:
    """Record an episode of an agent trained by reinforcement learning.

    Args:
        run: Folder of the run.
        output: The picture; its ending says the format: moving (gif, webp, png), or another of the
            last step alone. If not given, RUN/episode.gif, with checkpoint and seed in the name if
            they are given.
        checkpoint: Which checkpoint.
        seed: Seed of the episode; the first test episode of the run if not given.
    """
    from train.figures.recording import record
    from train.scoring.agents import seed_of

    folder = open_run(run)
    if not isinstance(folder, RLRunFolder):
        raise ValueError(f"{run} was trained by supervised learning; `plastic plot` shows it")
    if seed is not None:
        seed = seed_of(folder.config(), seed)  # before it names a file
    if output is None:
        which = "" if checkpoint == "best" else f"-{checkpoint}"
        which += "" if seed is None else f"-seed{seed}"
        output = run / f"episode{which}.gif"
    known = Image.registered_extensions().items()
    output = picture_path(output, {ending for ending, kind in known if kind in Image.SAVE})
    say(str(record(folder, output, checkpoint=checkpoint, seed=seed)))


def evaluate(
    run: tyro.conf.Positional[Path],
    checkpoint: CheckpointName = "best",
    episodes: int = 1_000,
    seed: int | None = None,
    threads: int | None = None,
    json: bool = False,
) -> None:
    """Score a trained network or agent on test episodes.

    A network is scored by acting and on whole sequences, which must agree.

    Args:
        run: Folder of the run.
        checkpoint: Which checkpoint.
        episodes: Number of test episodes.
        seed: Seed of the episodes; the run's own test seed if not given.
        threads: Threads of torch; its default if not given.
        json: Print a JSON line.
    """
    from train.scoring.networks import evaluate as evaluate_run

    _warn_without_kernel()
    if threads is not None:
        torch.set_num_threads(check_int("threads", threads, minimum=1))
    folder = open_run(run)
    if isinstance(folder, RLRunFolder):
        import agents.sb3  # noqa: F401 (as in train_rl)
        from train.scoring.agents import evaluate_agent

        result = evaluate_agent(folder, checkpoint=checkpoint, num_episodes=episodes, seed=seed)
    else:
        result = evaluate_run(folder, checkpoint=checkpoint, num_episodes=episodes, seed=seed)
    if json:
        _print_json(result)
    else:
        references = result.pop("references", {})
        told = {**result, **references}.items()
        rows = [(k, f"{v:.6g}" if isinstance(v, float) else str(v)) for k, v in told]
        say(columns(rows))
    if not result.get("agree", True):
        logger.error("acting and whole sequences disagree: this is a fault of the program")
        sys.exit(1)


def plot(
    runs: tyro.conf.Positional[tuple[Path, ...]],
    output: Path | None = None,
    json: bool = False,
) -> None:
    """Draw learning curves and plasticity rates of runs of one task.

    Args:
        runs: Folders of the runs; those that differ in their seed only are joined.
        output: The figure; its ending says the format (png, svg, pdf, …), png if there is none. If
            not given, RUN/curves.png, and for several runs a file beside the first of them, which
            is named after all of them.
        json: Print a JSON line.
    """
    from train.figures.runs import plot_runs

    path = plot_runs([open_run(run) for run in runs], output)
    if json:
        _print_json({"figure": str(path), "runs": [str(run) for run in runs]})
    else:
        say(str(path))


def demo(config: Annotated[DemoConfig, tyro.conf.arg(name="")], json: bool = False) -> None:
    """Train gradient, Hebbian and non-plastic RNNs on cue-reward and compare them.

    Args:
        config: Settings.
        json: Print a JSON line per network.
    """
    _warn_without_kernel()
    with _to_go_on_again():
        results = run_demo(config, progress=sys.stderr.isatty())
    first = results[0]
    if json:
        for result in results:
            _print_json(result)
        return
    episodes = counted(first["episodes"], "test episode")
    rows = [("rule", "hidden", "score", "95 %", "seconds")]
    rows += [
        (
            *(row["rule"], str(row["hidden_size"]), f"{row['score']:.3f}"),
            *(f"± {row['interval']:.3f}", f"{row['seconds']:.0f}"),
        )
        for row in results
    ]
    rows += [(name, "", f"{first[name]:.3f}", "", "") for name in ("chance", "optimum")]
    say(f"Cue-reward: mean squared error over the query half of {episodes}.")
    say(columns(rows, numbers=True))
    say(f"Learning curves: {first['figure']}")


def reproduce(
    config: Annotated[ReproduceConfig, tyro.conf.arg(name="")],
    list: bool = False,
    json: bool = False,
) -> None:
    """Run experiments of the paper: what is missing is run, what was cut off goes on.

    Args:
        config: Settings.
        list: Tell every experiment with its runs and the time that they take, and run nothing.
        json: Print JSON lines.
    """
    if list:
        rows = listing(config)
        if json:
            for row in rows:
                _print_json(row)
            return
        table = [("experiment", *get_args(BudgetName))]
        for row in rows:
            each = [row[budget] for budget in get_args(BudgetName)]
            cells = [
                "–" if b is None else f"{counted(b['runs'], 'run')}, {duration(b['seconds'])}"
                for b in each
            ]
            table.append((row["experiment"], *cells))
        say(columns(table, numbers=True))
        cores = counted(config.cores, "core")
        say(f"Time left on {cores}, roughly; plastic reproduce NAME --budget BUDGET")
        return
    _warn_without_kernel()
    with _to_go_on_again():
        rows, failures = reproduce_experiments(config, progress=sys.stderr.isatty())
    if json:
        for row in rows:
            _print_json(row)
    else:
        say(columns([_result_cells(row) for row in rows]))
    if failures:
        failed = counted(len(failures), "run")
        logger.error("%s failed; the same command tries again", failed)
        sys.exit(1)


def _result_cells(row: Record) -> tuple[str, ...]:
    score = "not finished" if row["score"] is None else f"{row['score']:.4f}"
    spread = "" if row.get("interval") is None else f"± {row['interval']:.4f}"
    return row["experiment"], row["place"], row["network"], score, spread, row.get("runs", "")


def report(out: Path = DEFAULT_OUT, budget: BudgetName | None = None, json: bool = False) -> None:
    """Write a page of figures and tables of what was reproduced.

    It is written as report.html, and as report.md with figures/.

    Args:
        out: Folder of the experiments; the report goes there.
        budget: Leave out other budgets than this.
        json: Print a JSON line.
    """
    from train.experiments.reports.report import write_report

    page, text = write_report(out, budget)
    if json:
        _print_json({"html": str(page), "markdown": str(text)})
    else:
        say(f"{page}\n{text}")


def _folder_to_resume(path: Path, kind: type[Folder], other_command: str) -> Folder:
    """Open the run that `--resume` names, which stands alone and must be of this command's kind."""
    others = [name for name in _options() if name not in ("resume", "steps", "json", "no-json")]
    if others:
        raise ValueError(
            "--resume goes on with the settings of its run: it cannot be combined with "
            + ", ".join(f"--{name}" for name in others)
        )
    folder = open_run(path)
    if not isinstance(folder, kind):
        raise ValueError(f"{path} goes on with plastic {other_command} --resume")
    return folder


def _with_more_steps(config: Config, asked: Config) -> Config:
    """Return the settings of a run to go on with, with the steps of the command line, if any."""
    return replace(config, steps=asked.steps) if "steps" in _options() else config


def _options() -> list[str]:
    """Return the names of the options on the command line."""
    words = [word for word in sys.argv[1:] if word.startswith("--")]
    return [word.split("=")[0].removeprefix("--").replace("_", "-") for word in words]


@contextmanager
def _to_go_on(command: str, folder: RunFolder | RLRunFolder) -> Iterator[None]:
    """Say, where training is stopped, how it goes on."""
    try:
        yield
    except BaseException as stop:
        if folder.config_path.exists():
            path = shlex.quote(str(folder.path))
            stop.add_note(f"plastic {command} --resume {path} goes on")
        raise


@contextmanager
def _to_go_on_again() -> Iterator[None]:
    """Say, where many runs are stopped, how they go on."""
    try:
        yield
    except BaseException as stop:
        stop.add_note("the same command goes on where it was")
        raise


def _with_home(config: Config, name: str) -> Config:
    """Return settings in which `~` of a path is a home directory."""
    path: str | None = getattr(config, name)
    if path is None:
        return config
    return replace(config, **{name: str(expanded(path))})  # type: ignore[arg-type]


def _warn_without_kernel() -> None:
    if library.load() is None:
        logger.warning(
            "the compiled kernel was not built (is there a C compiler?): computing in PyTorch, "
            "several times slower. Reinstalling the package with a compiler builds it."
        )


def _print_json(record: Record) -> None:
    say(json.dumps(record))
