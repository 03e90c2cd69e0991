"""Building the agent of a reinforcement learning run from its settings."""

from typing import Any

from gymnasium import spaces
from gymnasium.vector import VectorEnv

from agents.sb3 import RecurrentPPO
from train.reinforcement.config import RLConfig
from train.reinforcement.environments import make_vec


def new_agent(config: RLConfig, env: VectorEnv[Any, Any, Any], seed: int | None) -> RecurrentPPO:
    """Make an agent that has learned nothing.

    Args:
        config: Settings of the run.
        env: Where it acts and learns.
        seed: Of its parameters; None takes the state of the global generators as it is.

    Raises:
        ValueError: If the environment does not suit.
    """
    policy_kwargs = config.policy_kwargs()
    if isinstance(env.single_action_space, spaces.Box):
        policy_kwargs["log_std_init"] = config.ppo.log_std_init
    return RecurrentPPO(
        "PlasticPolicy", env, policy_kwargs=policy_kwargs, seed=seed, **config.ppo_kwargs()
    )


def closed_env(config: RLConfig) -> VectorEnv[Any, Any, Any]:
    """Return an environment of the run that says what agents see and do, and is closed already."""
    env = make_vec(config, 1, "test")
    env.close()
    return env
