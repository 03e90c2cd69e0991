"""Agents with a memory on somebody else's environment, beside sb3-contrib's RecurrentPPO.

python -m benchmarks.foreign_env --json

Needs the environment (`pip install popgym`) and sb3-contrib (`pip install '.[bench]'`). All agents
have the same environments, environment steps, rollouts, minibatches and evaluation episodes, and 64
hidden units; sb3-contrib's has an LSTM each for actor and critic, as it comes. A line for each run,
and a figure of the learning curves.
"""

import importlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from agents.sb3 import VectorEnvAdapter
from train.figures.drawing import Curve, ScoreAxis, comparison_figure, group, save
from train.network import NetworkConfig
from train.reinforcement.config import PPOConfig, RLConfig
from train.reinforcement.environments import derived_seed, make_evaluation_vec, make_vec
from train.reinforcement.training import train_missing
from train.runs.files import write_text
from train.runs.run_folder import Record, RLRunFolder, read_records
from train.scoring.agents import measure
from train.scoring.measures import summary
from train.seeds import Reinforcement

SIZE = {"hidden_size": 64}
AGENTS = {
    "ours, hebbian RNN": NetworkConfig(rule="hebbian", cell="rnn", core_settings=SIZE),
    "ours, gradient RNN": NetworkConfig(rule="gradient", cell="rnn", core_settings=SIZE),
    "ours, LSTM": NetworkConfig(core="lstm", core_settings=SIZE),
    "ours, no memory": NetworkConfig(core="mlp", core_settings=SIZE),
}
CONTRIB = "sb3-contrib, LSTM"


@dataclass(frozen=True)
class Args:
    """Train ours and sb3-contrib's RecurrentPPO on one environment."""

    env: str = "popgym:popgym-RepeatPreviousEasy-v0"
    """Gymnasium id; "module:Id-v0" imports the module that registers it."""
    steps: int = 400_000
    """Environment steps of each run."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of parameters, environments and actions."""
    learning_rate: float = 1e-3
    """Step size of Adam."""
    out: Path = Path("runs/foreign-env")
    """Folder of runs and figure."""
    json: bool = False
    """Print JSON lines instead of a table."""


def main() -> None:
    """Train what is missing, print and draw."""
    args = tyro.cli(Args)
    torch.set_num_threads(1)
    curves = []
    for seed in args.seeds:
        for name in (*AGENTS, CONTRIB):
            config = _config(args, name, seed)
            path = args.out / f"{name.replace(', ', '-').replace(' ', '-')}-seed{seed}"
            records = _contrib(config, path) if name == CONTRIB else _ours(config, path)
            steps = np.array([record["step"] for record in records])
            curves.append(
                Curve(name, steps, np.array([[r["val_score"] for r in records]]), eta=None)
            )
            _show(args, name, seed, records[-1])
    axis = ScoreAxis(f"{args.env}: validation", "return of an episode", "environment step", {})
    save(comparison_figure(axis, group(curves)), args.out / "curves.png")


def _config(args: Args, name: str, seed: int) -> RLConfig:
    return RLConfig(
        env=args.env,
        network=AGENTS.get(name, NetworkConfig(core="lstm", core_settings=SIZE)),
        ppo=PPOConfig(learning_rate=args.learning_rate, schedule="constant"),
        steps=args.steps,
        num_envs=16,
        eval_every=max(1, args.steps // 20),
        eval_episodes=128,
        seed=seed,
        threads=1,
    )


def _ours(config: RLConfig, path: Path) -> list[Record]:
    folder = RLRunFolder(path)
    train_missing(config, folder)
    seconds = {record["step"]: record["seconds"] for record in folder.timing()}
    return [record | {"seconds": seconds[record["step"]]} for record in folder.metrics()]


def _contrib(config: RLConfig, path: Path) -> list[Record]:
    """Train sb3-contrib's agent, evaluated as ours is, and keep its scores."""
    scores = path / "metrics.jsonl"
    if scores.is_file():
        return read_records(scores)
    env = make_vec(config, config.num_envs, "train")
    model: Any = importlib.import_module("sb3_contrib").RecurrentPPO(
        "MlpLstmPolicy",
        VectorEnvAdapter(env),
        policy_kwargs={"lstm_hidden_size": SIZE["hidden_size"], "net_arch": [64]},
        seed=config.seed,
        **config.ppo_kwargs(),
    )
    test = make_evaluation_vec(config, config.eval_episodes, "validation")
    seed = derived_seed(config, Reinforcement.VALIDATE)
    records: list[Record] = []
    seconds = 0.0
    while not records or records[-1]["step"] < config.total_steps:
        if records:
            started = time.perf_counter()
            step = records[-1]["step"]
            model.learn(config.next_evaluation(step) - step, reset_num_timesteps=False)
            seconds += time.perf_counter() - started
        measures = measure(config, model, test, config.eval_episodes, seed)
        found = {f"val_{name}": value for name, value in summary(measures).items()}
        records.append({"step": model.num_timesteps, **found, "seconds": round(seconds, 3)})
    path.mkdir(parents=True, exist_ok=True)
    write_text(scores, "".join(json.dumps(record) + "\n" for record in records))
    env.close()
    test.close()
    return records


def _show(args: Args, name: str, seed: int, record: Record) -> None:
    row = {"env": args.env, "agent": name, "seed": seed}
    row |= {key: record[key] for key in ("step", "val_score", "val_interval", "seconds")}
    if args.json:
        print(json.dumps(row), flush=True)
    else:
        print(
            f"{name:20s} seed {seed}  return {row['val_score']:.3f} ± {row['val_interval']:.3f} "
            f"after {row['step']} steps, {row['seconds']:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
