"""From an id to a task: what is registered with Gymnasium, and how to get at the task alone."""

import dataclasses
from typing import Any, Literal

import gymnasium as gym
from gymnasium.envs.registration import load_env_creator

from plastic_envs.tasks import InteractiveTask, SequenceTask

Kind = Literal["sequence", "interactive"]

_IDS: list[str] = []
_ENTRY_POINTS: dict[Kind, tuple[str, str]] = {
    "sequence": ("plastic_envs.env:SequenceEnv", "plastic_envs.env:SequenceVectorEnv"),
    "interactive": (
        "plastic_envs.interactive_env:InteractiveEnv",
        "plastic_envs.interactive_env:InteractiveVectorEnv",
    ),
}


def register_task(env_id: str, task: str, kind: Kind = "sequence") -> None:
    """Register a task as an environment, single and vector.

    Args:
        env_id: Gymnasium id, such as `"PlasticCopy-v0"`.
        task: Where the task class is, as `"module:Class"`.
        kind: `"sequence"` for a `SequenceTask`, `"interactive"` for an `InteractiveTask`.

    Raises:
        ValueError: If there is no such kind.
    """
    single, vector = _ENTRY_POINTS[_checked(kind)]
    gym.register(id=env_id, entry_point=single, vector_entry_point=vector, kwargs={"task": task})
    if env_id not in _IDS:
        _IDS.append(env_id)


def ids(kind: Kind | None = None) -> list[str]:
    """Return the ids of all tasks that were registered here, or of those of one kind.

    Raises:
        ValueError: If there is no such kind.
    """
    if kind is None:
        return list(_IDS)
    single = _ENTRY_POINTS[_checked(kind)][0]
    return [env_id for env_id in _IDS if gym.spec(env_id).entry_point == single]


def make_task(env_id: str, **kwargs: Any) -> SequenceTask | InteractiveTask:
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


def load_task(task: str, **kwargs: Any) -> SequenceTask | InteractiveTask:
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
    made: SequenceTask | InteractiveTask = task_class(**kwargs)
    return made


def _checked(kind: Kind) -> Kind:
    if kind not in _ENTRY_POINTS:
        raise ValueError(f"kind must be one of {list(_ENTRY_POINTS)}, got {kind!r}")
    return kind
