"""From an id to a task: what is registered with Gymnasium, and how to get at the task alone."""

import importlib
import inspect
from typing import Any

import gymnasium as gym

from plastic_envs.checks import check_text, shown
from plastic_envs.tasks import Task

_TASK = "task must be a task class or 'module:Class'"
_SINGLE, _VECTOR = "plastic_envs.env:TaskEnv", "plastic_envs.vector_env:TaskVectorEnv"


def register_task(env_id: str, task: str | type[Task]) -> None:
    """Register a task as an environment, single and vector.

    Args:
        env_id: Gymnasium id, such as `"PlasticCopy-v0"`.
        task: The task class, or where it is, as `"module:Class"`, to import it only when it is
            needed. A class at the top of a module is registered as where it is, so that specs can
            be written as JSON and sent to other processes; another one only as itself.

    Raises:
        ValueError: If the id is no text, or the task is neither.
    """
    env_id = check_text("env_id", env_id)
    if isinstance(task, str):
        _parts_of(task)
    else:
        _check_class(task)
        task = _place_of(task)
    gym.register(id=env_id, entry_point=_SINGLE, vector_entry_point=_VECTOR, kwargs={"task": task})


def ids() -> list[str]:
    """Return the ids of all tasks.

    Those of `register_task`, and those that `gym.register` registered in the same way: with the
    environment of this package by its place (and that for vectors, or none) and a `task`.
    """
    return [
        env_id
        for env_id, spec in gym.envs.registration.registry.items()
        if spec.entry_point == _SINGLE
        and spec.vector_entry_point in (_VECTOR, None)
        and "task" in spec.kwargs
    ]


def make_task(env_id: str, **kwargs: Any) -> Task:
    """Make the task behind an id, without an environment around it.

    Args:
        env_id: One of `ids()`; `"module:id"` imports the module that registers it, as
            `gym.make` does.
        **kwargs: The task's keyword arguments, the same as for `gym.make`.

    Raises:
        TypeError: If an argument is unknown.
        ValueError: If there is no such id, or an argument does not fit.
    """
    name = env_id = check_text("env_id", env_id)
    if ":" in env_id:
        module, _, name = env_id.partition(":")
        _imported(module, f"env_id must be one of {', '.join(ids())}, or 'module:id'")
    if name not in (known := ids()):
        raise ValueError(
            f"env_id must be one of {', '.join(known)}: no task has the id {shown(env_id)}"
        )
    return load_task(**gym.spec(name).kwargs | kwargs)


def load_task(task: str | type[Task], **kwargs: Any) -> Task:
    """Make a task of its class, or of the class at `"module:Class"`.

    Raises:
        TypeError: If an argument is unknown.
        ValueError: If there is no such class, or an argument does not fit.
    """
    task_class: Any = _class_at(task) if isinstance(task, str) else task
    _check_class(task_class)
    parameters = inspect.signature(task_class).parameters.values()
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        known = [parameter.name for parameter in parameters]
        if unknown := sorted(set(kwargs) - set(known)):
            raise TypeError(
                f"{task_class.__name__} got an unexpected keyword argument {shown(unknown[0])}; "
                f"it takes {', '.join(known)}"
            )
    made: Task = task_class(**kwargs)
    return made


def _check_class(task_class: Any) -> None:
    if not (isinstance(task_class, type) and issubclass(task_class, Task)):
        raise ValueError(
            f"task must be a class derived from Task, or where it is, as 'module:Class', "
            f"got {shown(task_class)}"
        )
    if inspect.isabstract(task_class):
        missing = ", ".join(sorted(task_class.__abstractmethods__))
        raise ValueError(f"task must be complete, but {task_class.__name__} lacks {missing}")


def _place_of(task_class: type[Task]) -> str | type[Task]:
    """Return where a class is, if it can be found there."""
    place = f"{task_class.__module__}:{task_class.__qualname__}"
    try:
        return place if _class_at(place) is task_class else task_class
    except ValueError:  # it was made in a function, say
        return task_class


def _class_at(place: str) -> Any:
    module, name = _parts_of(place)
    found = getattr(_imported(module, _TASK), name, None)
    if found is None:
        raise ValueError(f"{_TASK}: {module} has no {shown(name)}")
    return found


def _parts_of(place: str) -> tuple[str, str]:
    module, _, name = place.partition(":")
    if not (module and name):
        raise ValueError(f"{_TASK}, got {shown(place)}")
    return module, name


def _imported(module: str, wanted: str) -> Any:
    """Import a module; `wanted` says what would be right if there is none."""
    try:
        return importlib.import_module(module)
    except (ModuleNotFoundError, ValueError, TypeError) as error:  # of an empty or relative name
        missing = getattr(error, "name", None)
        if missing and not f"{module}.".startswith(f"{missing}."):
            raise  # the module is there, and what it imports is not
        raise ValueError(f"{wanted}: there is no module {shown(module)}") from error
