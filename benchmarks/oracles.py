"""What known players score on every task: oracle, best without memory, random.

python -m benchmarks.oracles --json
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import tyro
from numpy.typing import NDArray

from plastic_envs.tasks import Copy, CueReward, Episodes, Regression, SquaredErrorTask
from plastic_envs.tasks.sequences.posterior import posterior_mean

TASKS: tuple[SquaredErrorTask, ...] = (
    Copy(),
    Copy(delay=40),
    CueReward(),
    CueReward(noise=0.5),
    Regression(num_support=20),
    Regression(num_support=10),
    Regression(kind="mlp", num_support=20),
    Regression(kind="mlp", num_support=10),
)


@dataclass
class Args:
    """Score known players on every task."""

    episodes: int = 4_000
    """Episodes of each task."""
    seed: int = 0
    """Seed of episodes and random answers."""
    posterior: bool = False
    """Also sample the posterior mean of regression with networks, 30 ms an episode."""
    json: bool = False
    """Print JSON lines instead of a table."""


def main() -> None:
    """Play and print every row."""
    args = tyro.cli(Args)
    for task in TASKS:
        episodes = task.sample_episodes(args.episodes, args.seed)
        bound = task.action_space.high
        random = np.random.default_rng(args.seed).uniform(-bound, bound, episodes.targets.shape)
        oracle = _measured(task, task.oracle(episodes.observations), episodes)
        record = {
            "task": str(task),
            "episodes": args.episodes,
            **{f"oracle{name}": value for name, value in oracle.items()},
            "optimum": task.optimal_score,
            "memoryless": round(task.score(np.zeros_like(episodes.targets), episodes), 4),
            "chance": task.chance_score,
            "random": round(task.score(random.astype(np.float32), episodes), 3),
            "random_expected": task.random_score,
        }
        if args.posterior and isinstance(task, Regression) and task.kind == "mlp":
            found = _measured(task, posterior_mean(task, episodes.observations), episodes)
            record |= {f"posterior{name}": value for name, value in found.items()}
        print(json.dumps(record) if args.json else _told(record), flush=True)


def _measured(
    task: SquaredErrorTask, answers: NDArray[np.float32], episodes: Episodes
) -> dict[str, float]:
    """Return mean score, its half-width at 95 % over episodes, and the share within 0.05."""
    errors = task.errors(answers, episodes.targets)
    near = np.abs(answers - episodes.targets)[episodes.scored] < 0.05
    scores = (errors * episodes.scored).sum(1) / episodes.scored.sum(1)
    return {
        "": round(float(scores.mean()), 5),
        "_interval": round(1.96 * float(scores.std(ddof=1)) / len(scores) ** 0.5, 5),
        "_within_0.05": round(float(near.mean()), 4),
    }


def _told(record: dict[str, Any]) -> str:
    lines = [record["task"]]
    lines += [
        f"  {name} {record[name]:.4f} ± {record[f'{name}_interval']:.4f} "
        f"({record[f'{name}_within_0.05']:.1%} within 0.05)"
        for name in ("oracle", "posterior")
        if name in record
    ]
    return "\n".join(
        [*lines, f"  without memory {record['memoryless']:.4f}, random {record['random']:.3f}"]
    )


if __name__ == "__main__":
    main()
