"""Plasticity rules, one file each. A rule that is named here is known to every program."""

from agents.plastic.rules.backpropamine import Backpropamine
from agents.plastic.rules.base import (
    AlphaInit,
    LayerStep,
    Rule,
    RuleSettings,
    StepRecord,
    Write,
    clip_scale,
    inner_loss,
    is_exactly,
)
from agents.plastic.rules.gradient import Gradient
from agents.plastic.rules.hebbian import Hebbian
from agents.plastic.rules.none import NonPlastic
from agents.plastic.rules.oja import Oja
from agents.plastic.rules.preconditioned import Preconditioned

RULES: dict[str, type[Rule]] = {
    "gradient": Gradient,
    "hebbian": Hebbian,
    "preconditioned": Preconditioned,
    "oja": Oja,
    "backpropamine": Backpropamine,
    "none": NonPlastic,
}

__all__ = [
    "RULES",
    "AlphaInit",
    "Backpropamine",
    "Gradient",
    "Hebbian",
    "LayerStep",
    "NonPlastic",
    "Oja",
    "Preconditioned",
    "Rule",
    "RuleSettings",
    "StepRecord",
    "Write",
    "clip_scale",
    "inner_loss",
    "is_exactly",
]
