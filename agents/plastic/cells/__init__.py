"""Recurrent cells, one file each. A cell that is named here is known to every program."""

from agents.plastic.cells.base import Cell, CellStep
from agents.plastic.cells.gru import GRUCell
from agents.plastic.cells.lstm import LSTMCell
from agents.plastic.cells.rnn import RNNCell

CELLS: dict[str, type[Cell]] = {"rnn": RNNCell, "lstm": LSTMCell, "gru": GRUCell}

__all__ = ["CELLS", "Cell", "CellStep", "GRUCell", "LSTMCell", "RNNCell"]
