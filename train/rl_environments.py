"""The environments of a reinforcement learning run, and their seeds."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers import FlattenObservation

from plastic_envs.wrappers import VectorPreviousActionReward
from train.rl_config import RLConfig

BUILD, TRAIN, VALIDATE, TEST = range(4)
"""Branches of a run's seed."""

_NUM_ENVS = 64  # side by side in an evaluation


def make_vec(
    config: RLConfig,
    num_envs: int,
    render_mode: str | None = None,
    autoreset_mode: AutoresetMode = AutoresetMode.SAME_STEP,
) -> VectorEnv[Any, Any, Any]:
    """Make the environments of a run, with what the agent sees of its past.

    Args:
        config: Settings of the run.
        num_envs: Number of environments.
        render_mode: Passed on.
        autoreset_mode: When the episode after the last one begins.

    Raises:
        ValueError: If Gymnasium cannot make them.
    """
    kwargs: dict[str, Any] = {"autoreset_mode": autoreset_mode}
    if config.task_id is None:
        kwargs = {"vectorization_mode": "sync", "vector_kwargs": kwargs, "wrappers": (_flattened,)}
    if render_mode is not None:  # not every environment takes it
        kwargs["render_mode"] = render_mode
    kwargs |= {"num_envs": num_envs, **config.env_kwargs}
    try:
        env = gym.make_vec(config.env, **kwargs)
    except (gym.error.Error, ImportError, TypeError) as error:
        raise ValueError(f"the environment {config.env!r} cannot be made: {error}") from error
    return VectorPreviousActionReward(env) if config.previous_action_reward else env


def make_evaluation_vec(config: RLConfig, num_episodes: int) -> VectorEnv[Any, Any, Any]:
    """Make environments to play so many episodes in."""
    return make_vec(config, min(num_episodes, _NUM_ENVS))


def evaluation_seed(config: RLConfig) -> int:
    """Return the environment seed of a run's test episodes, which training never sees."""
    return derived_seed(config, TEST)


def derived_seed(config: RLConfig, *branch: int) -> int:
    """Return the seed of a branch, 31 bits, which Stable-Baselines3 and NumPy take."""
    sequence = np.random.SeedSequence(config.seed, spawn_key=branch)
    return int(sequence.generate_state(1)[0] >> 1)


def _flattened(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    """Turn observations that are neither arrays nor dictionaries, such as numbers, into arrays."""
    known = isinstance(env.observation_space, spaces.Box | spaces.Dict)
    return env if known else FlattenObservation(env)
