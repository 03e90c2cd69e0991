"""Building the agent of a reinforcement learning run from its settings."""

from typing import Any

import torch
from gymnasium import spaces
from gymnasium.vector import VectorEnv

from agents.sb3 import ImageLabelExtractor, RecurrentPPO
from train.devices import resolve
from train.network import shows_images
from train.reinforcement.config import RLConfig
from train.reinforcement.environments import make_vec


def new_agent(
    config: RLConfig,
    env: VectorEnv[Any, Any, Any],
    seed: int | None,
    device: torch.device | None = None,
) -> RecurrentPPO:
    """Make an agent that has learned nothing.

    Args:
        config: Settings of the run.
        env: Where it acts and learns.
        seed: Of its parameters; None takes the state of the global generators as it is.
        device: Where it computes; by default that of the settings.

    Raises:
        ValueError: If the environment does not suit, or the device of the settings is not here.
    """
    kwargs = config.ppo_kwargs()
    kwargs["device"] = resolve(config.device) if device is None else device
    policy_kwargs = config.policy_kwargs()
    if isinstance(env.single_action_space, spaces.Box):
        policy_kwargs["log_std_init"] = config.ppo.log_std_init
    if not shows_images(env.single_observation_space):
        config.network.check_no_images()
    elif encoder := config.network.image_settings:
        policy_kwargs["features_extractor_class"] = ImageLabelExtractor
        policy_kwargs["features_extractor_kwargs"] = encoder
    return RecurrentPPO("PlasticPolicy", env, policy_kwargs=policy_kwargs, seed=seed, **kwargs)


def closed_env(config: RLConfig) -> VectorEnv[Any, Any, Any]:
    """Return an environment of the run that says what agents see and do, and is closed already."""
    env = make_vec(config, 1, "test")
    env.close()
    return env
