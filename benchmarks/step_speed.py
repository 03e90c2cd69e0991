"""What one training step and one acting step cost, in time and memory.

    python -m benchmarks.step_speed --json
    python -m benchmarks.step_speed --quick

A training step is forward pass, loss, backward pass, gradient clip and AdamW on a batch of 64
episodes. Every form of a row takes turns with the baseline (`naive`, the literal equations), so
that whatever else the machine does meets all alike; the best and the median of the repeats are
reported in CPU seconds and wall seconds, for one thread and for all. Memory is the peak of a
process of its own over what it held before the step. Networks without plasticity, 1.5 times as
wide (equal size in the paper), are the lower line. A baseline that would not fit in memory is left
out, with its row saying so.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
import tyro
from torch import Tensor

from agents import PlasticNetwork
from agents.plastic.network import CellName, FormName, RuleName
from plastic_envs.tasks import Copy, CueReward, Regression, SquaredErrorTask

BATCH = 64


@dataclass(frozen=True)
class Row:
    """One network on one task."""

    task_name: str
    task: SquaredErrorTask
    cell: CellName
    hidden_size: int
    rule: RuleName

    @property
    def name(self) -> str:
        """Name that tells the row apart."""
        return f"{self.task_name} {self.rule} {self.cell} {self.hidden_size}"

    def network(self, form: FormName) -> PlasticNetwork:
        """Make the network, always with the same parameters."""
        sizes = self.task.observation_space.shape[0], self.task.action_space.shape[0]
        generator = torch.Generator().manual_seed(0)
        return PlasticNetwork(
            *sizes, self.hidden_size, self.cell, self.rule, form=form, generator=generator
        )


@dataclass
class Args:
    """Measure training and acting steps."""

    quick: bool = False
    """One row, one thread, few repeats: a smoke check within a minute."""
    repeats: int = 5
    """Repeats of the first form; slower ones are repeated twice."""
    forms: tuple[FormName, ...] = ("compiled", "closed")
    """Forms to measure besides the baseline."""
    baseline: bool = True
    """Measure `naive` too."""
    only: str = ""
    """Only rows whose name contains this."""
    scaling: bool = False
    """Measure time and memory against length and hidden size instead."""
    memory_of: tuple[str, FormName] | None = None
    """Internal: measure the memory of one row (name) and form in this process."""
    json: bool = False
    """Print JSON lines instead of a table."""


def rows() -> Iterator[Row]:
    """Yield the rows of the benchmark."""
    sizes: list[tuple[str, SquaredErrorTask, CellName, int]] = [
        ("cue-reward T=20", CueReward(), "rnn", 128),
        ("cue-reward T=20", CueReward(), "rnn", 256),
        ("cue-reward T=20", CueReward(), "lstm", 128),
    ]
    for delay in (0, 20, 60):
        copy = Copy(delay=delay)
        sizes += [(f"copy T={copy.num_steps}", copy, "rnn", 128)]
        sizes += [(f"copy T={copy.num_steps}", copy, "lstm", 128)]
    sizes += [("regression T=40", Regression(kind="mlp"), "rnn", 128)]
    plastic: tuple[RuleName, ...] = ("gradient", "hebbian")
    for task_name, task, cell, hidden in sizes:
        for rule in plastic:
            yield Row(task_name, task, cell, hidden, rule)
        yield Row(task_name, task, cell, hidden * 3 // 2, "none")


def scaling_rows() -> Iterator[Row]:
    """Yield rows that differ in length or in hidden size only."""
    rules: tuple[RuleName, ...] = ("gradient", "hebbian")
    for rule in rules:
        for length in (5, 10, 20, 40, 80):
            yield Row(f"copy T={2 * length}", Copy(length=length), "rnn", 128, rule)
        for hidden in (32, 64, 96, 192, 256):
            yield Row("copy T=40", Copy(length=20), "rnn", hidden, rule)


def main() -> None:
    """Measure and print every row."""
    args = tyro.cli(Args)
    every = [*rows(), *scaling_rows()]
    if args.memory_of is not None:
        name, form = args.memory_of
        row = next(row for row in every if row.name == name)
        print(_own_peak(row, form))
        return
    chosen = list(scaling_rows()) if args.scaling else list(rows())
    threads = sorted({1, torch.get_num_threads()})
    if args.quick:
        chosen, threads, args.repeats = chosen[:1], [1], 2
    for row in (r for r in chosen if args.only in r.name):
        for record in measure(row, args, threads):
            _print(record, args.json)
    if not args.scaling:
        for record in measure_acting(args):
            _print(record, args.json)


def measure(row: Row, args: Args, threads: list[int]) -> Iterator[dict[str, Any]]:
    """Yield a record for every form of a row and every number of threads."""
    able = row.network("auto").supported_forms()
    forms: list[FormName] = [form for form in args.forms if form in able]
    if row.rule == "none":
        forms = ["closed"]
    elif args.baseline and _fits(row):
        forms.append("naive")
    memory = {form: _peak_memory(row, form) for form in forms}
    for count in threads:
        torch.set_num_threads(count)
        times = _interleaved({form: _TrainingStep(row, form) for form in forms}, args.repeats)
        best = {form: min(cpu for cpu, _ in times[form]) for form in forms}
        for form in forms:
            cpu, wall = zip(*times[form], strict=True)
            yield {
                "row": row.name,
                "rule": row.rule,
                "steps": row.task.num_steps,
                "hidden_size": row.hidden_size,
                "form": form,
                "threads": count,
                "cpu_seconds": round(min(cpu), 4),
                "cpu_seconds_median": round(median(cpu), 4),
                "wall_seconds": round(min(wall), 4),
                "repeats": len(cpu),
                "peak_mb": round(memory[form], 1),
                "times_naive": round(best["naive"] / best[form], 1) if "naive" in best else None,
                "memory_of_naive": round(memory["naive"] / max(memory[form], 0.1), 1)
                if "naive" in memory
                else None,
            }


def measure_acting(args: Args) -> Iterator[dict[str, Any]]:
    """Yield steps per second of `net.step` without gradients, on one thread."""
    torch.set_num_threads(1)
    kinds: list[tuple[CellName, RuleName, int]] = [
        (cell, rule, 192 if rule == "none" else 128)
        for cell in ("rnn", "lstm")
        for rule in ("gradient", "hebbian", "none")
    ]
    batches = (1, 16) if args.quick else (1, 16, 256)
    for cell, rule, hidden in kinds[:1] if args.quick else kinds:
        row = Row("acting", CueReward(), cell, hidden, rule)
        for batch in batches:
            network = row.network("auto")
            form = network.supported_forms()[0] if rule != "none" else "closed"
            rate = _acting_rate(network, batch)
            yield {"row": row.name, "form": form, "batch": batch, "steps_per_second": round(rate)}


class _TrainingStep:
    """One training step, ready to be taken again and again."""

    def __init__(self, row: Row, form: FormName) -> None:
        self._network = row.network(form)
        self._optimizer = torch.optim.AdamW(
            self._network.parameters(), lr=1e-3, weight_decay=0.0, amsgrad=True
        )
        episodes = row.task.sample_episodes(BATCH, 0)
        self._x = torch.from_numpy(episodes.observations)
        self._targets: Tensor = torch.from_numpy(episodes.targets)

    def __call__(self) -> None:
        answers, _ = self._network(self._x)
        loss = (answers - self._targets).square().mean()
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._network.parameters(), 5.0)
        self._optimizer.step()


def _interleaved(
    steps: dict[FormName, _TrainingStep], repeats: int
) -> dict[FormName, list[tuple[float, float]]]:
    """Return CPU and wall seconds of every repeat, the forms taking turns."""
    times: dict[FormName, list[tuple[float, float]]] = {form: [] for form in steps}
    for form, step in steps.items():
        if form != "naive":  # warm up; the baseline is too slow to be hurt by a first time
            step()
    fastest = next(iter(steps))
    for index in range(repeats):
        for form, step in steps.items():
            if form != fastest and index >= 2:
                continue
            cpu, wall = time.process_time(), time.perf_counter()
            step()
            times[form].append((time.process_time() - cpu, time.perf_counter() - wall))
    return times


def _acting_rate(network: PlasticNetwork, batch: int, seconds: float = 0.7) -> float:
    x, state = torch.randn(batch, network.input_size), network.initial_state(batch)
    done = 0
    with torch.inference_mode():
        _, state = network.step(x, state)
        started = time.process_time()
        while time.process_time() - started < seconds:
            _, state = network.step(x, state)
            done += batch
    return done / (time.process_time() - started)


def _fits(row: Row) -> bool:
    """Say whether the baseline's graph fits in the memory that is free."""
    weights = sum(parameter.numel() for parameter in row.network("auto").parameters()) // 2
    needed = 8 * 4 * weights * BATCH * row.task.num_steps  # tensors of that size kept per step
    return needed < 0.8 * os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _peak_memory(row: Row, form: FormName) -> float:
    """Return the megabytes that a step adds at its peak, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.step_speed", "--memory-of", row.name, form]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(result.stdout)


def _own_peak(row: Row, form: FormName) -> float:
    torch.set_num_threads(1)
    step = _TrainingStep(row, form)
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    step()
    return (_resident("VmHWM") - before) / 1024


def _resident(field: str) -> int:
    """Return a size of this process in kB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def _print(record: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(record), flush=True)
    elif "batch" in record:
        print(
            f"{record['row']:34s} {record['form']:9s} batch {record['batch']:<4d} "
            f"{record['steps_per_second']:>9,} steps/s",
            flush=True,
        )
    else:
        against = f"{record['times_naive']:6.1f}x" if record["times_naive"] else " " * 7
        print(
            f"{record['row']:34s} {record['form']:9s} {record['threads']} thread(s) "
            f"{record['cpu_seconds']:8.4f} CPU s {record['wall_seconds']:8.4f} s {against} "
            f"{record['peak_mb']:9.1f} MB",
            flush=True,
        )


if __name__ == "__main__":
    main()
