"""Experiments that nobody declared: tasks and networks of anybody's, by their names alone.

A task becomes an experiment with the usual budgets; any rule, cell or core joins the networks of
one. What lies in a folder of experiments can name only what is registered here or was asked for on
the command line: reading it imports nothing.
"""

import re
from collections.abc import Iterable
from dataclasses import replace

from agents.core import CORES
from agents.plastic.cells import CELLS
from agents.plastic.rules import RULES
from plastic_envs.checks import check_choice
from train.experiments import published
from train.experiments.published.agents import by_reward
from train.experiments.published.paper import sequence
from train.experiments.sweep import Experiment
from train.parts import find_task, short_names

_CLAIM = "Which kind of memory learns this best is to be seen."
_asked: set[str] = set()  # networks that were named on the command line


def find_experiment(name: str) -> Experiment:
    """Return a declared experiment, or that of a task, which is then among the declared ones.

    Args:
        name: Of an experiment, or of a task as `plastic train --task` and `plastic train-rl --env`
            take it.

    Raises:
        ValueError: If there is neither.
    """
    declared = {each.word: each for each in published.EXPERIMENTS.values()}
    if name in declared:
        return declared[name]
    if ":" not in name and name not in short_names():
        check_choice("experiment", name, tuple(declared))  # which says what there is
    task = find_task(name)
    called = re.sub(r"[^A-Za-z0-9._-]+", ".", name)
    if hasattr(task.factory, "sample_episodes"):
        experiment = sequence(called, _CLAIM, task=name, steps=10_000, laptop_steps=3_000)
    else:
        env = name if task.env_id is None or ":" in name else task.env_id
        experiment = by_reward(called, _CLAIM, env, steps=1_000_000, settings={})
    published.EXPERIMENTS[called] = experiment = replace(experiment, asked_as=name)
    return experiment


def ask_for(labels: Iterable[str]) -> None:
    """Let networks be read from folders that name what may have to be imported."""
    _asked.update(labels)


def is_known(label: str) -> bool:
    """Say whether a label is of nothing but what is registered or was asked for."""
    rule, dash, cell = label.rpartition("-")
    registered = label in CORES or (dash and rule in RULES and cell in CELLS)
    return registered or label in _asked
