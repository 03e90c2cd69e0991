"""Draws the pictures of episodes in docs/images: `python docs/make_figures.py`."""

from pathlib import Path

import gymnasium as gym
from PIL import Image

import plastic_envs

IMAGES = Path(__file__).parent / "images"


def main() -> None:
    """Draw an episode of every task."""
    _draw("copy-random", "PlasticCopy-v0", steps=26, length=10, delay=10)
    _draw("cue-reward-random", "PlasticCueReward-v0", steps=16)
    _draw("regression-oracle", "PlasticRegression-v0", steps=36, oracle=True)


def _draw(name: str, env_id: str, *, steps: int, oracle: bool = False, **kwargs: int) -> None:
    env = gym.make(env_id, render_mode="rgb_array", **kwargs)
    env.reset(seed=1)
    env.action_space.seed(0)
    task = plastic_envs.make_task(env_id, **kwargs)
    answers = task.oracle(task.sample_episodes(1, seed=1).observations)[0]
    for step in range(steps):
        env.step(answers[step] if oracle else env.action_space.sample())
    Image.fromarray(env.render()).save(IMAGES / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
