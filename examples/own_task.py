"""A task of one's own: remember the first symbol over distractors, and say it at the end.

This program shows an episode. In the folder of this file, networks and agents learn the task:
`plastic train --task own_task:Recall --length 7` and `plastic train-rl --env own_task:Recall`.
"""

from dataclasses import dataclass

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from plastic_envs import Episodes, SequenceTask, register_task


@dataclass(frozen=True)
class Recall(SequenceTask):
    """Say which of `symbols` was shown first, after `length` others."""

    symbols: int = 4
    length: int = 5

    def __post_init__(self):
        self.check_integers(symbols=2, length=0)
        self.check_size()

    num_steps = property(lambda self: self.length + 2)
    draws_per_episode = property(lambda self: self.length + 1)
    observation_space = property(lambda self: spaces.Box(0, 1, (self.symbols + 1,), np.float32))
    action_space = property(lambda self: spaces.Discrete(self.symbols))
    chance_score = random_score = property(lambda self: 1 / self.symbols)

    def begin(self, draws):
        shown = (draws.astype(np.float64) * self.symbols).astype(np.int64)
        observations = np.zeros((len(draws), self.num_steps, self.symbols + 1), np.float32)
        observations[:, :-1, :-1] = np.eye(self.symbols)[shown]
        observations[:, -1, -1] = 1  # now it is asked for
        targets = np.repeat(shown[:, :1], self.num_steps, axis=1)
        return Episodes(observations, targets, observations[..., -1] == 1)

    def oracle(self, observations):
        first = observations[:, :1, :-1].argmax(axis=-1)
        return np.repeat(first, self.num_steps, axis=1)


register_task("Recall-v0", Recall)

if __name__ == "__main__":
    env = gym.make("Recall-v0", render_mode="ansi")
    env.reset(seed=0)
    for _ in range(env.unwrapped.task.num_steps):
        env.step(env.action_space.sample())
    print(env.render())
