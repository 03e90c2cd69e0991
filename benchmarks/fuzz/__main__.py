"""Throws odd values at the packages, and counts what becomes of them."""

import json
import sys
import time
from collections import Counter
from dataclasses import dataclass

import tyro

from benchmarks.fuzz.worker import KINDS, KindName, Tried, Worker


@dataclass(frozen=True)
class Args:
    """Throw odd values at the packages, and count what becomes of them."""

    seconds: float = 120.0
    """Time for all kinds together."""
    seed: int = 0
    """Seed of the cases."""
    only: tuple[KindName, ...] = KINDS
    """Kinds of cases."""
    case: int | None = None
    """Run this case of each kind alone, as a line of an earlier run names it."""
    json: bool = False
    """Print JSON lines instead of a table."""


def main() -> None:
    """Run cases, and exit with 1 if any is neither refused clearly nor works."""
    args = tyro.cli(Args)
    others = 0
    with Worker() as worker:
        for kind in args.only:
            counts: Counter[str] = Counter()
            end, case = time.monotonic() + args.seconds / len(args.only), args.case or 0
            while not counts or (args.case is None and time.monotonic() < end):
                tried = worker.run(kind, args.seed, case)
                counts[tried.outcome] += 1
                if tried.outcome == "other" or args.case is not None:
                    _print(tried, args.json)
                case += 1
            others += counts["other"]
            numbers = {name: counts[name] for name in ("refused", "worked", "other")}
            row = {"kind": kind, "tried": counts.total(), **numbers}
            print(json.dumps(row) if args.json else " ".join(f"{k} {v:<9}" for k, v in row.items()))
    sys.exit(others > 0)


def _print(tried: Tried, as_json: bool) -> None:
    if as_json:
        print(json.dumps(tried._asdict()), flush=True)
    else:
        how = f"--only {tried.kind} --seed {tried.seed} --case {tried.case}"
        print(f"{tried.outcome} ({how})\n    {tried.call}\n    {tried.detail}", flush=True)


if __name__ == "__main__":
    main()
