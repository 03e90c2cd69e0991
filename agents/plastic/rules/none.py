"""No plasticity."""

from dataclasses import dataclass
from typing import ClassVar

from agents.plastic.rules.base import Rule, StepRecord, Write


@dataclass(frozen=True, kw_only=True)
class NonPlastic(Rule):
    """Write nothing: the ordinary recurrent network. Its rates can still be looked at."""

    plastic: ClassVar[bool] = False
    writes_bias: ClassVar[bool] = False

    def writes(self, step: StepRecord) -> dict[str, Write]:
        return {}

    def literal(self, step: StepRecord) -> dict[str, Write]:
        """Write nothing."""
        return {}
