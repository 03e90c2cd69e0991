"""Recurrent networks with plastic weights: Hebbian and gradient rules that act during an episode.

>>> from agents import PlasticNetwork
>>> net = PlasticNetwork(input_size=16, output_size=1, hidden_size=128, cell="rnn")
"""

from agents.cells import Cell, LSTMCell, RNNCell
from agents.network import PlasticNetwork
from agents.ops.interface import Probes
from agents.rules import Gradient, Hebbian, NonPlastic, Rule
from agents.state import FastWeights, LSTMHidden, PlasticState, RNNHidden

__all__ = [
    "Cell",
    "FastWeights",
    "Gradient",
    "Hebbian",
    "LSTMCell",
    "LSTMHidden",
    "NonPlastic",
    "PlasticNetwork",
    "PlasticState",
    "Probes",
    "RNNCell",
    "RNNHidden",
    "Rule",
]
