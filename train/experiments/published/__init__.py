"""The experiments that there are."""

from train.experiments.published.agents import AGENTS
from train.experiments.published.associative import ASSOCIATIVE
from train.experiments.published.demonstration import DEMO
from train.experiments.published.images import IMAGES
from train.experiments.published.local_rules import LOCAL_RULES
from train.experiments.published.memories import MEMORIES
from train.experiments.published.paper import PAPER
from train.experiments.sweep import Experiment

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (*PAPER, LOCAL_RULES, *MEMORIES, *ASSOCIATIVE, *IMAGES, *AGENTS, DEMO)
}
"""All experiments by their name, in the order in which they are reported."""
