"""Every rule that there is, and the recurrent networks of PyTorch, on one task."""

from agents.plastic.rules import RULES
from train.experiments.networks import with_networks
from train.experiments.published.paper import sequence

_CORES = ("lstm", "gru")

MEMORIES = (
    with_networks(
        sequence(
            "cue-reward-memories",
            "Whatever writes into fast weights by a rule learns within an episode which cue brings "
            "which reward, sooner than gated networks of equal size.",
            task="cue-reward",
            steps=20_000,
            laptop_steps=5_000,
            rules=tuple(RULES),
            note="Rules beside the gradient and the Hebbian one are not of the paper; all have the "
            "settings that suit those two.",
        ),
        _CORES,
    ),
)
"""All experiments that compare rules with each other and with ordinary networks."""
