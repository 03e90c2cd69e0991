"""Which classes a program sees: the one place that says so.

Training takes the split `"train"`, validation `"validation"`, and whatever shows or scores a
trained network or agent `"test"`. Supervised and reinforcement learning, `plastic evaluate`,
`watch`, `plot`, `reproduce` and the benchmarks get their tasks from here, through `task_for` of
their settings.
"""

import dataclasses
from typing import Any, TypeVar

from plastic_envs.images import Split
from plastic_envs.tasks import Task

_T = TypeVar("_T", bound=Task)


def task_for(task: _T, split: Split) -> _T:
    """Return a task as it is in training, validation or testing.

    That is what its `for_split` says; a field `split` gets another value in any case.
    """
    changed: Any = task.for_split(split)
    if task_kwargs(changed).get("split", split) != split:
        changed = dataclasses.replace(changed, split=split)
    return changed  # type: ignore[no-any-return]


def task_kwargs(task: Task) -> dict[str, Any]:
    """Return the keyword arguments that make a task, for `gym.make`."""
    if not dataclasses.is_dataclass(task):
        return {}
    fields = dataclasses.fields(task)
    return {field.name: getattr(task, field.name) for field in fields if field.init}


def split_kwargs(task: Task, split: Split) -> dict[str, Any]:
    """Return the keyword arguments of a task that are others in a split than it has."""
    before = task_kwargs(task)
    after = task_kwargs(task_for(task, split))
    return {name: value for name, value in after.items() if value != before[name]}
