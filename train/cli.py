"""The `plastic` command."""

import json
import logging
import os
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, TypeVar, get_args

import torch
import tyro

from agents.ops import library
from train.config import TrainConfig
from train.demo import DemoConfig, run_demo
from train.distributed import OtherProcessError, joined, launched
from train.evaluation import evaluate as evaluate_run
from train.experiments.command import DEFAULT_OUT, ReproduceConfig, listing, reproduce_experiments
from train.experiments.report import write_report
from train.experiments.reproduce import duration
from train.experiments.sweep import BudgetName
from train.plot import plot_runs
from train.rl_config import RLConfig
from train.run_folder import CheckpointName, Record, RLRunFolder, RunFolder, open_run
from train.supervised import NonFiniteLossError, default_folder
from train.supervised import train as train_network

logger = logging.getLogger(__name__)

Folder = TypeVar("Folder", RunFolder, RLRunFolder)
Config = TypeVar("Config", TrainConfig, RLConfig)

# What the first of several processes meets as well, and says.
_MET_BY_FIRST_TOO = (ValueError, FileNotFoundError, NonFiniteLossError, OtherProcessError)

app = tyro.extras.SubcommandApp()


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


@app.command(name="train")
def train(command: Annotated[TrainCommand, tyro.conf.arg(name="")]) -> None:
    """Meta-train a network on a memory or few-shot task, by supervised learning.

    torchrun --no-python plastic train … does so over several processes.
    """
    config = command.config
    if command.resume is not None:
        folder = _folder_to_resume(command.resume, RunFolder, "train-rl")
        config = _with_more_steps(folder.config(), config)
    else:
        folder = RunFolder(command.out or default_folder(config))
    with joined() as processes:
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
        print(json.dumps({"run": str(folder.path), **record}))
    else:
        chance = config.task_for("validation").chance_score
        print(
            f"{folder.path}: validation score {record['val_score']:.4f}, loss "
            f"{record['val_loss']:.4f} after {record['step']} steps (chance {chance:.4f})"
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


@app.command(name="train-rl")
def train_rl(command: Annotated[TrainRLCommand, tyro.conf.arg(name="")]) -> None:
    """Train an agent by reinforcement learning, on any Gymnasium environment."""
    import agents.sb3  # noqa: F401 (it says how to get Stable-Baselines3, which is an extra)
    from train.reinforcement import train as train_agent

    config = command.config
    if command.resume is not None:
        folder = _folder_to_resume(command.resume, RLRunFolder, "train")
        config = _with_more_steps(folder.config(), config)
    else:
        folder = RLRunFolder(command.out or Path("runs") / config.name)
    record = train_agent(
        config, folder, resume=command.resume is not None, progress=sys.stderr.isatty()
    )
    if command.json:
        _print_json({"run": str(folder.path), **record})
    else:
        print(
            f"{folder.path}: validation score {record['val_score']:.4f} ± "
            f"{record['val_interval']:.4f} after {record['step']} steps"
        )


@app.command(name="watch")
def watch(
    run: tyro.conf.Positional[Path],
    output: Path = Path("episode.gif"),
    checkpoint: CheckpointName = "best",
    seed: int | None = None,
) -> None:
    """Record an episode of an agent trained by reinforcement learning, as moving or still picture.

    Args:
        run: Folder of the run.
        output: The picture; its ending says the format: moving (gif, webp, png), or another of the
            last step alone.
        checkpoint: Which checkpoint.
        seed: Seed of the episode; the first test episode of the run if not given.
    """
    from train.recording import record

    folder = open_run(run)
    if not isinstance(folder, RLRunFolder):
        raise ValueError(f"{run} was trained by supervised learning; `plastic plot` shows it")
    print(record(folder, output, checkpoint=checkpoint, seed=seed))


@app.command(name="evaluate")
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
    if threads is not None:
        torch.set_num_threads(threads)
    folder = open_run(run)
    if isinstance(folder, RLRunFolder):
        import agents.sb3  # noqa: F401 (as in train_rl)
        from train.rl_evaluation import evaluate_agent

        result = evaluate_agent(folder, checkpoint=checkpoint, num_episodes=episodes, seed=seed)
    else:
        result = evaluate_run(folder, checkpoint=checkpoint, num_episodes=episodes, seed=seed)
    if json:
        _print_json(result)
    else:
        references = result.pop("references", {})
        for name, value in {**result, **references}.items():
            print(f"{name:20s} {value:.6g}" if isinstance(value, float) else f"{name:20s} {value}")
    if not result.get("agree", True):
        logger.error("acting and whole sequences disagree: this is a fault of the program")
        sys.exit(1)


@app.command(name="plot")
def plot(
    runs: tyro.conf.Positional[tuple[Path, ...]],
    output: Path = Path("curves.png"),
    json: bool = False,
) -> None:
    """Draw learning curves and plasticity rates of runs of one task.

    Args:
        runs: Folders of the runs; those that differ in their seed only are joined.
        output: The figure; its ending says the format (png, svg, pdf).
        json: Print a JSON line.
    """
    path = plot_runs([open_run(run) for run in runs], output)
    if json:
        _print_json({"figure": str(path), "runs": [str(run) for run in runs]})
    else:
        print(path)


@app.command(name="demo")
def demo(config: Annotated[DemoConfig, tyro.conf.arg(name="")], json: bool = False) -> None:
    """Train gradient, Hebbian and non-plastic RNNs on cue-reward and compare them (minutes).

    Args:
        config: Settings.
        json: Print a JSON line per network.
    """
    results = run_demo(config)
    figure = Path(results[0]["run"]).parent / "comparison.png"
    if json:
        for result in results:
            _print_json(result | {"figure": str(figure)})
        return
    print("Cue-reward: mean squared error over the query half of 1,000 test episodes.")
    print(f"{'rule':10s} {'hidden':>6s} {'score':>7s} {'95 %':>7s} {'seconds':>8s}")
    for row in results:
        print(
            f"{row['rule']:10s} {row['hidden_size']:6d} {row['score']:7.3f} "
            f"±{row['interval']:6.3f} {row['seconds']:8.0f}"
        )
    first = results[0]
    print(f"{'chance':17s} {first['chance']:7.3f}\n{'optimum':17s} {first['optimum']:7.3f}")
    print(f"Learning curves: {figure}")


@app.command(name="reproduce")
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
        print(f"{'experiment':26s}{''.join(f'{b:>20s}' for b in get_args(BudgetName))}")
        for row in rows:
            cells = [
                f"{row[b]['runs']} runs, {duration(row[b]['seconds'])}"
                for b in get_args(BudgetName)
            ]
            print(f"{row['experiment']:26s}{''.join(f'{cell:>20s}' for cell in cells)}")
        print(f"Time left on {config.cores} cores, roughly; plastic reproduce NAME --budget BUDGET")
        return
    try:
        rows, failures = reproduce_experiments(config, progress=sys.stderr.isatty())
    except KeyboardInterrupt:
        logger.error("stopped; the same command goes on where it was")
        sys.exit(130)
    for row in rows:
        if json:
            _print_json(row)
        else:
            print(_result_line(row))
    if failures:
        logger.error("%d runs failed; the same command tries them again", len(failures))
        sys.exit(1)


def _result_line(row: Record) -> str:
    score = "not finished" if row["score"] is None else f"{row['score']:.4f}"
    spread = "" if row.get("interval") is None else f"± {row['interval']:.4f}"
    names = f"{row['experiment']:20s} {row['place']:24s} {row['network']:26s}"
    return f"{names} {score:>12s} {spread:8s}  {row.get('runs', '')}".rstrip()


@app.command(name="report")
def report(out: Path = DEFAULT_OUT, budget: BudgetName | None = None, json: bool = False) -> None:
    """Write a page of figures and tables of what was reproduced: report.html and report.md.

    Args:
        out: Folder of the experiments; the report goes there.
        budget: Leave out other budgets than this.
        json: Print a JSON line.
    """
    page, text = write_report(out, budget)
    if json:
        _print_json({"html": str(page), "markdown": str(text)})
    else:
        print(f"{page}\n{text}")


def main() -> None:
    """Run the command line."""
    processes = launched()
    who, level = "", logging.INFO
    if not processes.is_first:
        who, level = f"process {processes.rank}: ", logging.ERROR
    logging.basicConfig(level=level, format=f"%(levelname)s {who}%(message)s", stream=sys.stderr)
    if library.load() is None:
        logger.warning(
            "the compiled kernel was not built (is there a C compiler?): computing in PyTorch, "
            "several times slower. Reinstalling the package with a compiler builds it."
        )
    try:
        if processes.size > 1 and sys.argv[1:2] != ["train"]:
            raise ValueError("torchrun is for plastic train alone: start other commands without")
        app.cli(
            prog="plastic",
            description="Networks with plastic weights: train, score, look, reproduce.",
            console_outputs=processes.is_first,
        )
        sys.stdout.flush()
    except SystemExit as stop:
        if stop.code:
            processes.let_first_speak()
        raise
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (ValueError, OSError, MemoryError, ImportError, RuntimeError) as error:
        if isinstance(error, _MET_BY_FIRST_TOO):
            processes.let_first_speak()
        logger.error("%s", error)
        sys.exit(1)


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


def _print_json(record: Record) -> None:
    print(json.dumps(record))


if __name__ == "__main__":
    main()
