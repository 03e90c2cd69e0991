"""What known players score on every task: oracle, best without memory, random.

python -m benchmarks.oracles --json
"""

import json
from dataclasses import dataclass

import numpy as np
import tyro

from plastic_envs.tasks import Copy, CueReward, Regression, SquaredErrorTask

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
    json: bool = False
    """Print JSON lines instead of a table."""


def main() -> None:
    """Play and print every row."""
    args = tyro.cli(Args)
    for task in TASKS:
        episodes = task.sample_episodes(args.episodes, args.seed)
        bound = task.action_space.high
        random = np.random.default_rng(args.seed).uniform(-bound, bound, episodes.targets.shape)
        answers = task.oracle(episodes.observations)
        errors = task.errors(answers, episodes.targets)
        near = np.abs(answers - episodes.targets)[episodes.scored] < 0.05
        per_episode = (errors * episodes.scored).sum(1) / episodes.scored.sum(1)
        record = {
            "task": str(task),
            "episodes": args.episodes,
            "oracle": round(float(per_episode.mean()), 5),
            "interval": round(1.96 * float(per_episode.std(ddof=1)) / args.episodes**0.5, 5),
            "oracle_within_0.05": round(float(near.mean()), 4),
            "optimum": task.optimal_score,
            "memoryless": round(task.score(np.zeros_like(answers), episodes), 4),
            "chance": task.chance_score,
            "random": round(task.score(random.astype(np.float32), episodes), 3),
            "random_expected": task.random_score,
        }
        if args.json:
            print(json.dumps(record), flush=True)
        else:
            print(
                f"{record['task']}\n  oracle {record['oracle']:.4f} ± {record['interval']:.4f} "
                f"({record['oracle_within_0.05']:.1%} within 0.05), without memory "
                f"{record['memoryless']:.4f}, random {record['random']:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
