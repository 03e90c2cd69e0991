"""Several processes that train one network together, as torchrun starts them.

Each takes an equal share of every batch; their gradients are averaged (`DistributedDataParallel`,
over gloo). The first process alone writes and speaks.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

_PATIENCE = timedelta(days=1)  # with a validation; torchrun ends all as soon as one process ends
_GRACE = 30.0  # seconds in which the first process says what stopped all of them

P = ParamSpec("P")
T = TypeVar("T")


class OtherProcessError(RuntimeError):
    """The first process stopped, and says why."""


@dataclass(frozen=True)
class Processes:
    """The processes of a training, as one of them sees them.

    Without a process group there is one, and all methods do nothing but the obvious.

    Attributes:
        rank: Number of this process.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def own(self, device: torch.device) -> torch.device:
        """Return the device of this process: of several GPUs, each process has one."""
        if self.size == 1 or device.type != "cuda":
            return device
        return torch.device("cuda", self.rank % torch.cuda.device_count())

    def parallel(self, network: nn.Module) -> nn.Module:
        """Return what to call in place of a network, so that gradients are means over processes.

        Parameters and buffers become those of the first process: parameters now, buffers before
        each training pass. Every parameter that is to be learned must receive a gradient.
        """
        return network if self.size == 1 else DistributedDataParallel(network)

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of a tensor over processes, without a gradient."""
        if self.size == 1:
            return value.detach()
        total = value.detach().clone()
        dist.all_reduce(total)
        return total / self.size

    def on_first(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Call a function in the first process; the others come here too, and wait until it ends.

        Returns:
            What the function returned; None in the other processes.

        Raises:
            OtherProcessError: In the other processes, if the function raised an error.
        """
        if self.size == 1:
            return function(*args, **kwargs)
        result, succeeded = None, torch.zeros(())
        try:
            if self.is_first:
                result = function(*args, **kwargs)
                succeeded += 1
        finally:
            dist.all_reduce(succeeded)  # unlike a broadcast, this waits for every process
        if not succeeded:
            raise OtherProcessError("the first process stopped")
        return result

    def let_first_speak(self) -> None:
        """Wait, unless this is the first process, to be ended after it.

        What stops all processes is told once, by the first. One that ended before it would have
        torchrun end the first unheard.
        """
        if not self.is_first:
            time.sleep(_GRACE)


ALONE = Processes()


def launched() -> Processes:
    """Return which process of how many this is, by what torchrun says in the environment."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return ALONE
    return Processes(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))


@contextmanager
def joined() -> Iterator[Processes]:
    """Join the process group of torchrun and leave it at the end; without torchrun, do nothing."""
    processes = launched()
    if processes.size == 1:
        yield processes
        return
    dist.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield processes
    finally:
        dist.destroy_process_group()
