"""The same measurement in this copy of the project and in another, taking turns.

    python -m benchmarks.step_speed --quick --against ../other --turns 5

A turn is the program run in the folder of either copy, so that the other one may be laid out
differently: it needs only `python -m benchmarks.<program> --json`, and its kernel built. Clocks are
those of the processor, whatever the program reads. Of each row the best of all turns is compared,
since whatever else the machine does can only slow a row down. A ratio is the time of this copy over
that of the other.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_IDENTITY = ("row", "env", "agent", "how", "form", "batch", "threads")
_SECONDS, _RATES = ("cpu_seconds",), ("steps_per_second", "best")
_RUN = """
import runpy, sys, time
time.perf_counter = time.process_time
sys.argv[0] = sys.argv[1].rpartition(".")[2]
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


def compare(program: str, other: Path, turns: int, *, as_json: bool) -> None:
    """Measure in both copies by turns, with the other arguments of this process, and print.

    Args:
        program: Name of a module in `benchmarks`.
        other: Folder of the other copy.
        turns: Runs of each.
        as_json: Print JSON lines instead of a table.

    Raises:
        FileNotFoundError: If the other copy has no such program.
        subprocess.CalledProcessError: If a run fails; what it wrote was shown.
    """
    if not (other / "benchmarks" / f"{program}.py").is_file():
        raise FileNotFoundError(f"no benchmarks/{program}.py in {other}")
    here, arguments = Path(__file__).resolve().parents[1], _others(sys.argv[1:])
    ours: dict[tuple[Any, ...], float] = {}
    theirs: dict[tuple[Any, ...], float] = {}
    for _ in range(turns):
        for folder, found in ((here, ours), (other, theirs)):
            for row in _run(folder, program, arguments):
                key = tuple(row.get(name) for name in _IDENTITY)
                found[key] = min(_cost(row), found.get(key, float("inf")))
    for key in ours | theirs:
        name = " ".join(str(part) for part in key if part is not None)
        both = key in ours and key in theirs
        ratio = round(ours[key] / theirs[key], 3) if both else None
        if as_json:
            row = {"row": name, "ratio": ratio, "here": ours.get(key), "other": theirs.get(key)}
            print(json.dumps(row))
        else:
            print(f"{name:60s} {'only in one' if ratio is None else f'{ratio:.3f}'}")


def _others(arguments: Sequence[str]) -> list[str]:
    """Return arguments without those of the comparison."""
    left, kept = iter(arguments), []
    for word in left:
        name, has_value, _ = word.partition("=")
        if name in ("--against", "--turns"):
            if not has_value:
                next(left, None)
        elif word != "--json":
            kept.append(word)
    return kept


def _run(folder: Path, program: str, arguments: Sequence[str]) -> list[dict[str, Any]]:
    command = [sys.executable, "-c", _RUN, f"benchmarks.{program}", *arguments, "--json"]
    environment = os.environ | {"PYTHONPATH": str(folder.resolve())}
    result = subprocess.run(
        command, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return [json.loads(line) for line in result.stdout.splitlines()]


def _cost(row: dict[str, Any]) -> float:
    """Return what a row measures, in CPU seconds for some work."""
    for name in _SECONDS:
        if name in row:
            return float(row[name])
    return 1 / float(next(row[name] for name in _RATES if name in row))
