"""How many frames per second PPO learns from, with and without a memory, and what a rollout takes.

    python -m benchmarks.ppo_speed --json

Rows: Stable-Baselines3's PPO (no memory), sb3-contrib's RecurrentPPO (if it is installed:
`pip install '.[bench]'`) as it comes, with an LSTM each for actor and critic, and with one shared
LSTM as ours, and our RecurrentPPO with an LSTM, plastic cores and associative memories. All have
the same environments, hidden size, rollout, number of minibatches and epochs. A frame is a step of
one environment; its time has acting, learning and the environment in it. The rows of a repeat are
measured one after the other, and best, median and worst over the repeats are reported, since other
programs can only slow it down.
"""

import importlib
import importlib.util
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from stable_baselines3 import PPO

import plastic_envs
from agents.core import core_takes
from agents.sb3 import RecurrentPPO, VectorEnvAdapter
from benchmarks.against import compare


@dataclass
class Args:
    """Measure the speed and the memory of PPO."""

    env: tuple[str, ...] = ("PlasticCueReward-v0", "CartPole-v1")
    """Environments: here all episodes end together, and one by one."""
    num_envs: int = 16
    """Environments side by side."""
    n_steps: int = 128
    """Steps of each in a rollout."""
    n_epochs: int = 10
    """Times that an update goes through the rollout."""
    minibatches: int = 4
    """Minibatches of an epoch; they divide the environments."""
    hidden_size: int = 64
    """Units of all recurrent cores."""
    rollouts: int = 2
    """Rollouts of one measurement."""
    repeats: int = 5
    """Measurements of each row."""
    threads: int = 1
    """Threads of torch."""
    against: Path | None = None
    """Folder of another copy of this project: measure in both by turns, and print here / there."""
    turns: int = 3
    """Runs of each copy."""
    json: bool = False
    """Print JSON lines instead of a table."""


Make = Callable[[Any, Args, dict[str, Any]], Any]


def main() -> None:
    """Measure and print every row."""
    args = tyro.cli(Args)
    if args.against is not None:
        compare("ppo_speed", args.against, args.turns, as_json=args.json)
        return
    torch.set_num_threads(args.threads)
    for env_id in args.env:
        models = {name: _make(make, env_id, args) for name, make in _rows().items()}
        seconds: dict[str, list[float]] = {name: [] for name in models}
        for _ in range(args.repeats):
            for name, model in models.items():
                seconds[name].append(_learn(model, args))
        for name, model in models.items():
            _print(_result(env_id, name, model, seconds[name], args), as_json=args.json)


def _rows() -> dict[str, Make]:
    rows: dict[str, Make] = {"SB3 PPO, no memory": _sb3}
    if importlib.util.find_spec("sb3_contrib") is not None:
        rows["sb3-contrib, 2 LSTMs"] = _contrib(enable_critic_lstm=True)
        rows["sb3-contrib, LSTM"] = _contrib(shared_lstm=True, enable_critic_lstm=False)
    rows["ours, LSTM"] = _ours(core="lstm")
    for rule in ("gradient", "hebbian", "none"):
        rows[f"ours, {rule} RNN"] = _ours(rule=rule)
    rows["ours, gradient LSTM"] = _ours(rule="gradient", cell="lstm")
    for memory in ("delta", "mesa", "attention"):
        rows[f"ours, {memory}"] = _ours(core=memory)
    return rows


def _sb3(env: Any, _: Args, settings: dict[str, Any]) -> Any:
    return PPO("MlpPolicy", env, **settings)


def _contrib(**policy_kwargs: Any) -> Make:
    def make(env: Any, args: Args, settings: dict[str, Any]) -> Any:
        kwargs = {"lstm_hidden_size": args.hidden_size, "net_arch": [64], **policy_kwargs}
        algorithm = importlib.import_module("sb3_contrib").RecurrentPPO
        return algorithm("MlpLstmPolicy", env, policy_kwargs=kwargs, **settings)

    return make


def _ours(**policy_kwargs: Any) -> Make:
    def make(env: Any, args: Args, settings: dict[str, Any]) -> Any:
        has_units = core_takes(policy_kwargs.get("core", "plastic"), "hidden_size")
        size = {"hidden_size" if has_units else "embedding": args.hidden_size}
        kwargs = {"core_kwargs": size, "net_arch": [64], **policy_kwargs}
        return RecurrentPPO("PlasticPolicy", env, policy_kwargs=kwargs, **settings)

    return make


def _make(make: Make, env_id: str, args: Args) -> Any:
    kwargs: dict[str, Any] = {"autoreset_mode": "SameStep"}
    if env_id not in plastic_envs.ids():
        kwargs = {"vectorization_mode": "sync", "vector_kwargs": kwargs}
    env = VectorEnvAdapter(gym.make_vec(env_id, num_envs=args.num_envs, **kwargs))
    settings = {
        "n_steps": args.n_steps,
        "n_epochs": args.n_epochs,
        "batch_size": args.n_steps * (args.num_envs // args.minibatches),
        "seed": 0,
        "device": "cpu",
    }
    model = make(env, args, settings)
    _learn(model, args)  # warm up
    return model


def _learn(model: Any, args: Args) -> float:
    start = time.perf_counter()
    model.learn(args.rollouts * args.n_steps * args.num_envs, reset_num_timesteps=False)
    return time.perf_counter() - start


def _result(env_id: str, name: str, model: Any, seconds: list[float], args: Args) -> dict[str, Any]:
    frames = args.rollouts * args.n_steps * args.num_envs
    rates = [frames / found for found in seconds]
    return {
        "env": env_id,
        "agent": name,
        "hidden_size": args.hidden_size,
        "unit": "frames/s",
        "best": round(max(rates)),
        "median": round(median(rates)),
        "worst": round(min(rates)),
        "rollout_mb": round(_nbytes(vars(model.rollout_buffer)) / 1e6, 3),
    }


def _nbytes(found: Any) -> int:
    """Return the bytes of all arrays and tensors in a tree."""
    if isinstance(found, np.ndarray | torch.Tensor):
        return int(found.nbytes)
    if isinstance(found, dict):
        return sum(_nbytes(part) for part in found.values())
    if isinstance(found, tuple | list):
        return sum(_nbytes(part) for part in found)
    return 0


def _print(row: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(row), flush=True)
        return
    print(
        f"{row['env']:22s} {row['agent']:24s} {row['median']:>8,} frames/s "
        f"({row['worst']:,} to {row['best']:,}), rollout {row['rollout_mb']:,.2f} MB",
        flush=True,
    )


if __name__ == "__main__":
    main()
