"""`plastic report`."""

from pathlib import Path

from train.commands.shared import print_json
from train.experiments.command import DEFAULT_OUT
from train.experiments.sweep import BudgetName
from train.wording import say


def run(out: Path = DEFAULT_OUT, budget: BudgetName | None = None, json: bool = False) -> None:
    """Write a page of figures and tables of what was reproduced.

    It is written as report.html, and as report.md with figures/.

    Args:
        out: Folder of the experiments; the report goes there.
        budget: Leave out other budgets than this.
        json: Print a JSON line.
    """
    from train.experiments.report import write_report

    page, text = write_report(out, budget)
    if json:
        print_json({"html": str(page), "markdown": str(text)})
    else:
        say(f"{page}\n{text}")
