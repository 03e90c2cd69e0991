"""What agents learn by reinforcement: every kind of memory on the same tasks, beside none.

python -m benchmarks.rl_tasks --json
python -m benchmarks.rl_tasks --json --evaluate-only
python -m benchmarks.rl_tasks --tasks maze --agents hebbian-rnn mlp --seeds 0

Trains what is not there yet (a run that was cut off goes on), scores every run on its test
episodes, and draws a figure per task. `mlp` remembers nothing: it sees the observation, its last
action and its last reward, as all agents do.
"""

import json
import logging
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
import tyro

from train.figures.runs import plot_runs
from train.network import NetworkConfig
from train.reinforcement.config import PPOConfig, RLConfig
from train.reinforcement.training import train_missing
from train.runs.run_folder import Record, RLRunFolder
from train.scoring.agents import evaluate_agent

TaskName = Literal["bandit", "cue-reward", "maze", "target-search"]
AgentName = Literal[
    "hebbian-rnn", "gradient-rnn", "hebbian-lstm", "gradient-lstm", "lstm", "mlp-last", "mlp"
]

TASKS: dict[TaskName, RLConfig] = {
    "bandit": RLConfig(
        env="PlasticBandit-v0",
        ppo=PPOConfig(n_steps=100, gamma=0.9, gae_lambda=0.3, learning_rate=2e-3),
        steps=1_000_000,
    ),
    # What an answer brings does not depend on those before: gamma is 0.
    "cue-reward": RLConfig(
        env="PlasticCueReward-v0",
        ppo=PPOConfig(n_steps=20, gamma=0.0, learning_rate=2e-3, ent_coef=0.0),
        steps=1_200_000,
    ),
    # Rewards of 10 would let the values' loss drown the rest: vf_coef is small.
    "maze": RLConfig(
        env="PlasticMaze-v0",
        env_kwargs={"size": 7, "episode_length": 100},
        ppo=PPOConfig(n_steps=100, gamma=0.95, learning_rate=2e-3, ent_coef=0.02, vf_coef=0.005),
        steps=1_500_000,
    ),
    "target-search": RLConfig(
        env="PlasticTargetSearch-v0",
        ppo=PPOConfig(n_steps=120, gamma=0.0, learning_rate=3e-3, ent_coef=0.003, vf_coef=0.2),
        steps=3_000_000,
    ),
}
"""Settings of each task, the same for all agents; found with the Hebbian RNN, seed 0."""

LESSONS: dict[TaskName, RLConfig] = {
    "target-search": replace(
        TASKS["target-search"],
        env_kwargs={"num_cues": 2, "episode_length": 30},
        ppo=replace(TASKS["target-search"].ppo, schedule="constant"),
        steps=1_000_000,
    ),
}
"""What is learned before: the same with fewer cues, without which none learned the task at all."""

SIZE = {"hidden_size": 64}
AGENTS: dict[AgentName, NetworkConfig] = {
    "hebbian-rnn": NetworkConfig(rule="hebbian", cell="rnn", core_settings=SIZE),
    "gradient-rnn": NetworkConfig(rule="gradient", cell="rnn", core_settings=SIZE),
    "hebbian-lstm": NetworkConfig(rule="hebbian", cell="lstm", core_settings=SIZE),
    "gradient-lstm": NetworkConfig(rule="gradient", cell="lstm", core_settings=SIZE),
    "lstm": NetworkConfig(core="lstm", core_settings=SIZE),
    "mlp-last": NetworkConfig(core="mlp", core_settings=SIZE),
    "mlp": NetworkConfig(core="mlp", core_settings=SIZE),
}

PLASTICITY: dict[TaskName, dict[str, float]] = {
    "cue-reward": {"base_eta": 1.0, "base_decay": 0.03},
    "target-search": {"base_eta": 1.0, "base_decay": 0.03},
}
"""Where the paper's rates are not used: with these, what one reward tells can be remembered."""


@dataclass(frozen=True)
class Args:
    """Train and score every agent on every task, a line for each run and one for all seeds."""

    tasks: tuple[TaskName, ...] = get_args(TaskName)
    """Which tasks."""
    agents: tuple[AgentName, ...] = ("hebbian-rnn", "gradient-rnn", "lstm", "mlp-last", "mlp")
    """Which agents, of 64 units each."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of parameters, environments and actions."""
    steps: int | None = None
    """Environment steps of a run; by default what the task takes."""
    out: Path = Path("runs/rl")
    """Folder of runs and figures."""
    episodes: int = 1_000
    """Test episodes."""
    processes: int = field(default_factory=multiprocessing.cpu_count)
    """Runs at the same time, one thread each."""
    evaluate_only: bool = False
    """Score the runs that are there, and train none."""
    json: bool = False
    """Print JSON lines instead of a table."""


def main() -> None:
    """Train what is missing, then score, draw and print."""
    args = tyro.cli(Args)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    torch.set_num_threads(1)
    runs = {
        (task, agent): [_run(args, task, agent, seed) for seed in args.seeds]
        for task in args.tasks
        for agent in args.agents
    }
    if not args.evaluate_only:
        lessons = [
            (_lesson(path), _settings(LESSONS[task], args, task, agent, config.seed))
            for (task, agent), group in runs.items()
            for path, config in group
            if task in LESSONS
        ]
        wanted = [run for group in runs.values() for run in group]
        with ProcessPoolExecutor(args.processes, multiprocessing.get_context("spawn")) as pool:
            for some in (lessons, wanted):
                list(pool.map(_train, *zip(*some, strict=True)) if some else ())
    found = 0
    for (task, agent), group in runs.items():
        folders = [RLRunFolder(path) for path, _ in group]
        folders = [folder for folder in folders if folder.checkpoint_path("best").is_file()]
        found += len(folders)
        records = [score(folder, args.episodes) for folder in folders]
        for record in [*records, *_mean(records)]:
            _show({"task": task, "agent": agent, **record}, as_json=args.json)
    for task in args.tasks:
        paths = [path for name, group in runs.items() if name[0] == task for path, _ in group]
        folders = [RLRunFolder(path) for path in paths if (path / "metrics.jsonl").is_file()]
        if folders:
            plot_runs(folders, args.out / f"{task}.png")
    if not found:
        raise SystemExit(f"there are no trained runs in {args.out}")


def score(folder: RLRunFolder, episodes: int) -> Record:
    """Score a run on its test episodes, and say how long it took."""
    config, last = folder.config(), folder.timing()[-1]
    steps, seconds = last["step"], last["seconds"]
    if config.start_from is not None:
        lesson = RLRunFolder(Path(config.start_from)).timing()[-1]
        steps, seconds = steps + lesson["step"], seconds + lesson["seconds"]
    record = evaluate_agent(folder, num_episodes=episodes)
    return {
        **{name: record[name] for name in record if name not in ("agent", "checkpoint")},
        "seed": config.seed,
        "test_seed": record["seed"],
        "trained_steps": steps,
        "seconds": seconds,
    }


def _mean(records: Sequence[Record]) -> list[Record]:
    """Return the mean over seeds, with the standard deviation between them, if there are some."""
    if len(records) < 2:
        return []
    joined: Record = {"seed": [record["seed"] for record in records]}
    for name in ("score", "last_five", "last_tenth", "seconds"):
        values = [record[name] for record in records if name in record]
        if values:
            joined[name] = float(np.mean(values))
            joined[f"{name}_spread"] = float(np.std(values, ddof=1))
    return [joined | {"references": records[0]["references"]}]


def _run(args: Args, task: TaskName, agent: AgentName, seed: int) -> tuple[Path, RLConfig]:
    """Return folder and settings of a run."""
    path = args.out / f"{task}-{agent}-seed{seed}"
    config = _settings(TASKS[task], args, task, agent, seed)
    return path, replace(config, start_from=str(_lesson(path))) if task in LESSONS else config


def _settings(
    config: RLConfig, args: Args, task: TaskName, agent: AgentName, seed: int
) -> RLConfig:
    network = AGENTS[agent]
    if network.rule is not None and task in PLASTICITY:
        network = replace(network, rule_settings=PLASTICITY[task])
    steps = args.steps or config.steps
    return replace(
        config,
        network=network,
        previous_action_reward=agent != "mlp",
        seed=seed,
        steps=steps,
        eval_every=max(1, steps // 20),
        threads=1,
    )


def _lesson(path: Path) -> Path:
    """Return the folder of the lesson before a run."""
    return path.with_name(f"{path.name}-lesson")


def _train(path: Path, config: RLConfig) -> None:
    """Train a run that is not there, go on with one that was cut off."""
    logging.info("%s", path)
    train_missing(config, RLRunFolder(path))


def _show(record: Record, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(record), flush=True)
        return
    seeds = record["seed"]
    who = "all seeds" if isinstance(seeds, list) else f"seed {seeds}"
    spread = record.get("score_spread", record.get("interval"))
    last = record.get("last_five")
    print(
        f"{record['task']:14s} {record['agent']:13s} {who:9s}  "
        f"score {record['score']:8.3f} ± {spread:.3f}"
        + ("" if last is None else f", last five {last:.3f}")
        + f", {record['seconds']:.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
