"""From an id to a task: what is registered with Gymnasium, and how to get at the task alone."""

import dataclasses
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import load_env_creator

from plastic_envs.tasks import SequenceTask

_IDS: list[str] = []


def register_task(env_id: str, task: str) -> None:
    """Register a sequence task as an environment, single and vector.

    Args:
        env_id: Gymnasium id, such as `"PlasticCopy-v0"`.
        task: Where the task class is, as `"module:Class"`.
    """
    gym.register(
        id=env_id,
        entry_point="plastic_envs.env:SequenceEnv",
        vector_entry_point="plastic_envs.env:SequenceVectorEnv",
        kwargs={"task": task},
    )
    if env_id not in _IDS:
        _IDS.append(env_id)


def ids() -> list[str]:
    """Return the ids of all tasks that were registered here."""
    return list(_IDS)


def make_task(env_id: str, **kwargs: Any) -> SequenceTask:
    """Make the task behind an id, without an environment around it.

    Args:
        env_id: One of `ids()`.
        **kwargs: The task's keyword arguments, the same as for `gym.make`.

    Raises:
        ValueError: If there is no such id, or an argument does not fit.
    """
    if env_id not in _IDS:
        raise ValueError(f"no task has the id {env_id!r}; there are {', '.join(_IDS)}")
    return load_task(gym.spec(env_id).kwargs["task"], **kwargs)


def load_task(task: str, **kwargs: Any) -> SequenceTask:
    """Make the task of the class at `"module:Class"`.

    Raises:
        ValueError: If an argument is unknown or does not fit.
    """
    task_class: Any = load_env_creator(task)
    known = [field.name for field in dataclasses.fields(task_class)]
    unknown = sorted(set(kwargs) - set(known))
    if unknown:
        raise ValueError(
            f"{task_class.__name__} has no argument {unknown[0]!r}; it takes {', '.join(known)}"
        )
    made: SequenceTask = task_class(**kwargs)
    return made
