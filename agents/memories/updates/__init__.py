"""How an associative memory is written and read, a file an update."""

from agents.memories.updates.attention import Attention, AttentionState
from agents.memories.updates.delta import Delta, GatedDelta
from agents.memories.updates.hebbian import Hebbian
from agents.memories.updates.mesa import Mesa, MesaState
from agents.memories.updates.update import MatrixState, Update, Write

UPDATES: dict[str, type[Update]] = {
    "hebbian": Hebbian,
    "delta": Delta,
    "gated-delta": GatedDelta,
    "mesa": Mesa,
    "attention": Attention,
}
"""Updates by name."""

__all__ = [
    "UPDATES",
    "Attention",
    "AttentionState",
    "Delta",
    "GatedDelta",
    "Hebbian",
    "MatrixState",
    "Mesa",
    "MesaState",
    "Update",
    "Write",
]
