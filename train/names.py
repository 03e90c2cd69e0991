"""Names that a command line may choose; they stand here, for it needs no PyTorch to read them."""

from typing import Literal

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
CheckpointName = Literal["best", "last"]
BudgetName = Literal["paper", "laptop", "smoke"]
