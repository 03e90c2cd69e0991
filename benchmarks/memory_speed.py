"""What a training step and an acting step of the associative memories cost beside torch's cores.

    python -m benchmarks.memory_speed --json
    python -m benchmarks.memory_speed --quick --chunked

A training step is forward pass, loss, backward pass, gradient clip and AdamW, on one thread; the
LSTM and the GRU have as many parameters as the mesa core. All cores take turns, so that whatever
else the machine does meets all alike. Reported are CPU seconds, the best and the median of the
repeats, and the median over that of the LSTM; for acting, steps per CPU second without gradients.
"""

import copy
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
import tyro
from torch import nn

from agents import make_core
from agents.memories.cpu import form as cpu

INPUT, OUTPUT = 14, 1  # of regression
OPTIONS: dict[str, dict[str, Any]] = {
    "hebbian-memory": {},
    "delta": {},
    "gated-delta": {},
    "mesa": {},
    "mesa keep=0.98": {"keep": 0.98},
    "attention": {},
}


@dataclass
class Args:
    """Measure the associative memories beside torch's LSTM and GRU."""

    json: bool = False
    """Print JSON lines instead of a table."""
    chunked: bool = False
    """Measure the forms in PyTorch, too, where there is a compiled one."""
    quick: bool = False
    """Measure one size, with few repeats."""
    repeats: int = 15
    """Training steps of each core and size."""
    key_size: int = 32
    """Entries of the keys."""


def main() -> None:
    """Measure and print."""
    args = tyro.cli(Args)
    torch.set_num_threads(1)
    cores = make_cores(args.key_size, chunked=args.chunked)
    sizes = [(64, 10), (64, 40), (64, 100), (16, 100), (16, 250), (16, 500), (16, 1000)]
    sizes += [(1, 40), (16, 40), (256, 40)]
    if args.quick:
        sizes, args.repeats = [(64, 40)], 3
    for batch, steps in sizes:
        for record in training(cores, batch, steps, args.repeats):
            show(record, args.json)
    for batch in (1,) if args.quick else (1, 16, 256):
        for record in acting(cores, batch, 0.1 if args.quick else 0.7):
            show(record, args.json)


def make_cores(key_size: int, *, chunked: bool = False) -> dict[str, nn.Module]:
    """Make the cores, always with the same parameters; those of `chunked` in PyTorch, too."""
    cores = {
        name: _make(name.split()[0], key_size=key_size, **options)
        for name, options in OPTIONS.items()
    }
    if chunked:
        for name, core in list(cores.items()):
            if cpu.compiles(core.layers[0].update):  # type: ignore[union-attr,index]
                core.form = "compiled"  # type: ignore[assignment]
                cores[f"{name}, chunked"] = twin = copy.deepcopy(core)
                twin.form = "chunked"  # type: ignore[assignment]
    wanted = count(cores["mesa"])
    for name in ("lstm", "gru"):
        hidden = 1
        while count(_make(name, hidden_size=hidden)) < wanted:
            hidden += 1
        cores[name] = _make(name, hidden_size=hidden)
    return cores


def _make(name: str, **options: Any) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    made: nn.Module = make_core(name, INPUT, output_size=OUTPUT, generator=generator, **options)
    return made


def count(core: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in core.parameters())


def training(
    cores: dict[str, nn.Module], batch: int, steps: int, repeats: int
) -> Iterator[dict[str, Any]]:
    """Yield a record for the training step of each core."""
    taken = {name: _training_step(core, batch, steps) for name, core in cores.items()}
    seconds: dict[str, list[float]] = {name: [] for name in cores}
    for repeat in range(repeats + 1):
        for name, step in taken.items():
            started = time.process_time()
            step()
            if repeat:  # the first is to warm up
                seconds[name].append(time.process_time() - started)
    for name, values in seconds.items():
        yield {
            "what": "training step",
            "core": name,
            "parameters": count(cores[name]),
            "batch": batch,
            "steps": steps,
            "cpu_seconds": round(min(values), 5),
            "cpu_seconds_median": round(median(values), 5),
            "times_lstm": round(median(values) / median(seconds["lstm"]), 2),
            "repeats": repeats,
        }


def _training_step(core: nn.Module, batch: int, steps: int) -> Callable[[], None]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, steps, INPUT, generator=generator)
    targets = torch.randn(batch, steps, OUTPUT, generator=generator)
    parameters = list(core.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.0, amsgrad=True)

    def step() -> None:
        answers, _ = core(x)
        optimizer.zero_grad(set_to_none=True)
        (answers - targets).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()

    return step


def acting(
    cores: dict[str, nn.Module], batch: int, seconds: float, rounds: int = 5
) -> Iterator[dict[str, Any]]:
    """Yield a record for acting by each core: of some rounds, in turns, the best and the median."""
    rates: dict[str, list[float]] = {name: [] for name in cores}
    for _ in range(rounds):
        for name, core in cores.items():
            rates[name].append(_rate(core, batch, seconds / rounds))
    for name, values in rates.items():
        yield {
            "what": "acting",
            "core": name,
            "parameters": count(cores[name]),
            "batch": batch,
            "steps_per_second": round(max(values)),
            "steps_per_second_median": round(median(values)),
        }


@torch.inference_mode()
def _rate(core: Any, batch: int, seconds: float) -> float:
    x, state, done = torch.randn(batch, INPUT), core.initial_state(batch), 0
    _, state = core.step(x, state)
    started = time.process_time()
    while time.process_time() - started < seconds:
        _, state = core.step(x, state)
        done += batch
    return done / (time.process_time() - started)


def show(record: dict[str, Any], as_json: bool) -> None:
    """Print a record."""
    if as_json:
        print(json.dumps(record), flush=True)
        return
    where = (
        f"{record['core']:23s} {record['parameters']:>7,} parameters, batch {record['batch']:<4d}"
    )
    if record["what"] == "acting":
        print(f"{where} acting {record['steps_per_second']:>10,} steps/s", flush=True)
    else:
        print(
            f"{where} T={record['steps']:<5d} {1000 * record['cpu_seconds']:8.2f} CPU ms, median "
            f"{1000 * record['cpu_seconds_median']:8.2f}, {record['times_lstm']:.2f} x LSTM",
            flush=True,
        )


if __name__ == "__main__":
    main()
