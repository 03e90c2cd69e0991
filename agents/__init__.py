"""Recurrent networks with plastic weights: Hebbian and gradient rules that act during an episode.

>>> from agents import PlasticNetwork
>>> net = PlasticNetwork(input_size=16, output_size=1, hidden_size=128, cell="rnn")
"""

from agents.cells import Cell, LSTMCell, RNNCell
from agents.encoders import Conv4, ResNet12, make_encoder
from agents.label_encoder import ImageEmbedder, ImageLabelEncoder
from agents.network import PlasticNetwork
from agents.ops.interface import Probes
from agents.prototypes import Prototypes, PrototypicalNetwork
from agents.rules import Gradient, Hebbian, NonPlastic, Rule
from agents.state import FastWeights, LSTMHidden, PlasticState, RNNHidden

__all__ = [
    "Cell",
    "Conv4",
    "FastWeights",
    "Gradient",
    "Hebbian",
    "ImageEmbedder",
    "ImageLabelEncoder",
    "LSTMCell",
    "LSTMHidden",
    "NonPlastic",
    "PlasticNetwork",
    "PlasticState",
    "Probes",
    "Prototypes",
    "PrototypicalNetwork",
    "RNNCell",
    "RNNHidden",
    "ResNet12",
    "Rule",
    "make_encoder",
]
