"""`plastic reproduce`."""

import logging
import sys
from typing import Annotated, get_args

import tyro

from train.commands.shared import print_json, to_go_on_again, warn_without_kernel
from train.experiments.command import ReproduceConfig, listing, reproduce_experiments
from train.names import BudgetName
from train.runs.records import Record
from train.wording import columns, counted, duration, say

logger = logging.getLogger(__name__)


def run(
    config: Annotated[ReproduceConfig, tyro.conf.arg(name="")],
    list: bool = False,
    json: bool = False,
) -> None:
    """Run experiments: what is missing is run, what was cut off goes on.

    Args:
        config: Settings.
        list: Tell experiments with their runs and the time that they take, and run nothing.
        json: Print JSON lines.
    """
    if list:
        rows = listing(config)
        if json:
            for row in rows:
                print_json(row)
            return
        table = [("experiment", *get_args(BudgetName))]
        for row in rows:
            each = [row[budget] for budget in get_args(BudgetName)]
            cells = [
                "–" if b is None else f"{counted(b['runs'], 'run')}, {duration(b['seconds'])}"
                for b in each
            ]
            table.append((row["experiment"], *cells))
        say(columns(table, numbers=True))
        cores = counted(config.cores, "core")
        say(f"Time left on {cores}, roughly; plastic reproduce NAME --budget BUDGET")
        return
    warn_without_kernel()
    with to_go_on_again():
        rows, failures = reproduce_experiments(config, progress=sys.stderr.isatty())
    if json:
        for row in rows:
            print_json(row)
    else:
        say(columns([_result_cells(row) for row in rows]))
    if failures:
        failed = counted(len(failures), "run")
        logger.error("%s failed; the same command tries again", failed)
        sys.exit(1)


def _result_cells(row: Record) -> tuple[str, ...]:
    score = "not finished" if row["score"] is None else f"{row['score']:.4f}"
    spread = "" if row.get("interval") is None else f"± {row['interval']:.4f}"
    return row["experiment"], row["place"], row["network"], score, spread, row.get("runs", "")
