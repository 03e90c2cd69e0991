"""How many steps per second the environments take, on one core.

    python -m benchmarks.env_speed --json

Rows: every task as a single environment without wrappers (`env.unwrapped`), as `gym.make` returns
it, and as the native vector environment of `gym.make_vec`; one step of a vector environment counts
as `num_envs` steps. Actions are made beforehand, episodes are reset as they end. Each row is
repeated and the best and the median are reported, since other programs can only slow it down.
`sample_episodes` is what supervised training takes: whole episodes, in batches of 64.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import gymnasium as gym
import numpy as np
import tyro

import plastic_envs


@dataclass
class Args:
    """Measure the speed of the environments."""

    seconds: float = 0.5
    """Least time of one measurement."""
    repeats: int = 5
    """Measurements of each row."""
    num_envs: tuple[int, ...] = (16, 1024)
    """Sizes of the vector environments."""
    json: bool = False
    """Print JSON lines instead of a table."""


def main() -> None:
    """Measure and print every row."""
    args = tyro.cli(Args)
    for env_id in plastic_envs.ids():
        for name, unit, work in _rows(env_id, args.num_envs):
            rates = [_rate(work, args.seconds) for _ in range(args.repeats)]
            row = {
                "env": env_id,
                "how": name,
                "unit": unit,
                "best": round(max(rates)),
                "median": round(median(rates)),
                "worst": round(min(rates)),
            }
            if args.json:
                print(json.dumps(row), flush=True)
            else:
                print(
                    f"{env_id:22s} {name:22s} {row['median']:>12,} {unit} "
                    f"({row['worst']:,} to {row['best']:,})",
                    flush=True,
                )


def _rows(env_id: str, num_envs: tuple[int, ...]) -> Iterator[tuple[str, str, Callable[[], int]]]:
    """Yield name, unit and a function that works for a while and returns the units done."""
    wrapped = gym.make(env_id)
    yield "single, unwrapped", "steps/s", _play_single(wrapped.unwrapped)
    yield "gym.make", "steps/s", _play_single(wrapped)
    for count in num_envs:
        yield f"make_vec, {count}", "steps/s", _play_vector(gym.make_vec(env_id, num_envs=count))
    if isinstance(wrapped.unwrapped.task, plastic_envs.SequenceTask):  # type: ignore[attr-defined]
        yield "sample_episodes, 64", "episodes/s", _sample(env_id)


def _play_single(env: "gym.Env[Any, Any]") -> Callable[[], int]:
    steps = env.unwrapped.task.num_steps  # type: ignore[attr-defined]
    actions = [env.action_space.sample() for _ in range(steps)]
    env.reset(seed=0)

    def work() -> int:
        for action in actions:
            env.step(action)
        env.reset()
        return len(actions)

    return work


def _play_vector(envs: "gym.vector.VectorEnv[Any, Any, Any]") -> Callable[[], int]:
    actions = np.asarray(envs.action_space.sample())
    envs.reset(seed=0)

    def work() -> int:
        envs.step(actions)
        return len(actions)

    return work


def _sample(env_id: str) -> Callable[[], int]:
    task: Any = plastic_envs.make_task(env_id)
    rng = np.random.default_rng(0)

    def work() -> int:
        task.sample_episodes(64, rng)
        return 64

    return work


def _rate(work: Callable[[], int], seconds: float) -> float:
    """Return units per second of CPU time."""
    work()
    done, started = 0, time.process_time()
    while time.process_time() - started < seconds:
        done += work()
    return done / (time.process_time() - started)


if __name__ == "__main__":
    main()
