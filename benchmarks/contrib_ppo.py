"""sb3-contrib's RecurrentPPO with the settings of an experiment of ours, to compare with.

python -m benchmarks.contrib_ppo --json
python -m benchmarks.contrib_ppo --experiment rl-bandit --seeds 0

Needs sb3-contrib (`pip install '.[bench]'`) and, for the default, `pip install popgym`. It has the
environments, steps, rollouts, minibatches and evaluation episodes of that experiment's LSTM, and as
many hidden units, but an LSTM each for actor and critic, as it comes. A line for each seed, which
`plastic reproduce` has for ours.
"""

import importlib
import json
import time
from dataclasses import dataclass
from typing import Any

import torch
import tyro

from agents.sb3 import VectorEnvAdapter
from plastic_envs.checks import check_choice
from train.experiments.published import EXPERIMENTS
from train.names import BudgetName
from train.reinforcement.config import RLConfig
from train.reinforcement.environments import make_evaluation_vec, make_vec
from train.runs.run_folder import Record
from train.scoring.agents import measure
from train.scoring.measures import summary
from train.seeds import Reinforcement, derived_seed

_EXPERIMENTS = [e.name for e in EXPERIMENTS.values() if e.kind is RLConfig]


@dataclass(frozen=True)
class Args:
    """Train sb3-contrib's RecurrentPPO."""

    experiment: str = "rl-repeat-previous"
    """An experiment of reinforcement learning of `plastic reproduce`."""
    budget: BudgetName = "laptop"
    """Its budget."""
    seeds: tuple[int, ...] | None = None
    """These seeds alone."""
    json: bool = False
    """Print JSON lines instead of a table."""


def main() -> None:
    """Train and print."""
    args = tyro.cli(Args)
    torch.set_num_threads(1)
    check_choice("experiment", args.experiment, _EXPERIMENTS)
    for run in EXPERIMENTS[args.experiment].runs(args.budget):
        config = run.config
        assert isinstance(config, RLConfig)
        if run.point["network"] == "lstm" and config.seed in (args.seeds or (config.seed,)):
            record = train_contrib(config)
            row = {"experiment": args.experiment, "seed": config.seed, **record}
            text = (
                f"{args.experiment} seed {config.seed}  score {record['val_score']:.3f} ± "
                f"{record['val_interval']:.3f} after {record['step']} steps, "
                f"{record['seconds']:.0f} s"
            )
            print(json.dumps(row) if args.json else text, flush=True)


def train_contrib(config: RLConfig) -> Record:
    """Train an agent; return its last evaluation, and the validation scores before as `curve`."""
    env = make_vec(config, config.num_envs, "train")
    validation = make_evaluation_vec(config, config.eval_episodes, "validation")
    size = config.network.core_settings["hidden_size"]
    model: Any = importlib.import_module("sb3_contrib").RecurrentPPO(
        "MlpLstmPolicy",
        VectorEnvAdapter(env),
        policy_kwargs={"lstm_hidden_size": size, "net_arch": [size]},
        seed=config.seed,
        **config.ppo_kwargs(),
    )
    seed, seconds, step = derived_seed(config.seed, Reinforcement.VALIDATE), 0.0, 0
    curve, record = [], {}
    while step < config.total_steps:
        started = time.perf_counter()
        model.learn(config.next_evaluation(step) - step, reset_num_timesteps=step == 0)
        seconds += time.perf_counter() - started
        step = model.num_timesteps
        record = summary(measure(config, model, validation, config.eval_episodes, seed))
        curve.append([step, record["score"]])
    env.close()
    validation.close()
    found = {f"val_{name}": value for name, value in record.items()}
    return {"step": step, **found, "seconds": round(seconds, 3), "curve": curve}


if __name__ == "__main__":
    main()
