"""Networks that remember: with plastic weights, written by rules, associative or ordinary memories.

>>> from agents import PlasticNetwork
>>> net = PlasticNetwork(input_size=16, output_size=1, hidden_size=128, cell="rnn")
"""

import warnings as _warnings
from pathlib import Path as _Path

from plastic_envs import project as _project

_foreign = _project.foreign_files(_Path(__file__).parent)

try:
    from agents.core import CORES, Core, Encoded, Readout, make_core
    from agents.memories.associative import AssociativeMemory, MemoryState
    from agents.memories.hebbian_network import HebbianMemoryNetwork, HebbianMemoryState
    from agents.memories.layer import MemoryProbes
    from agents.memories.torch_rnn import TorchCore
    from agents.plastic.cells import Cell, CellStep, GRUCell, LSTMCell, RNNCell
    from agents.plastic.network import PlasticNetwork
    from agents.plastic.ops.interface import Probes
    from agents.plastic.rules import (
        Backpropamine,
        Gradient,
        Hebbian,
        LayerStep,
        NonPlastic,
        Oja,
        Preconditioned,
        Rule,
        StepRecord,
        Write,
    )
    from agents.plastic.state import FastWeights, LSTMHidden, PlasticState, RNNHidden
    from agents.vision.encoders import Conv4, ResNet12, make_encoder
    from agents.vision.label_encoder import ImageEmbedder, ImageLabelEncoder
    from agents.vision.label_memory import LabelMemory, LabelMemoryState
    from agents.vision.prototypes import Prototypes, PrototypicalNetwork
except ImportError as _error:
    if not (_foreign or (_error.name or "").partition(".")[0] == "agents"):
        raise  # such as PyTorch that is missing
    raise ImportError(
        f"the package agents of plastic-envs is not whole: {_error}. {_project.REMEDY}"
    ) from _error

if _foreign:
    _warnings.warn(
        f"{_Path(__file__).parent} holds files of another project: {', '.join(_foreign[:5])}. "
        f"{_project.REMEDY}",
        RuntimeWarning,
        stacklevel=2,
    )

__all__ = [
    "CORES",
    "AssociativeMemory",
    "Backpropamine",
    "Cell",
    "CellStep",
    "Conv4",
    "Core",
    "Encoded",
    "FastWeights",
    "GRUCell",
    "Gradient",
    "Hebbian",
    "HebbianMemoryNetwork",
    "HebbianMemoryState",
    "ImageEmbedder",
    "ImageLabelEncoder",
    "LSTMCell",
    "LSTMHidden",
    "LabelMemory",
    "LabelMemoryState",
    "LayerStep",
    "MemoryProbes",
    "MemoryState",
    "NonPlastic",
    "Oja",
    "PlasticNetwork",
    "PlasticState",
    "Preconditioned",
    "Probes",
    "Prototypes",
    "PrototypicalNetwork",
    "RNNCell",
    "RNNHidden",
    "Readout",
    "ResNet12",
    "Rule",
    "StepRecord",
    "TorchCore",
    "Write",
    "make_core",
    "make_encoder",
]
