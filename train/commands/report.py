"""`plastic report`."""

from pathlib import Path

from train.commands.shared import print_json
from train.names import BudgetName
from train.places import DEFAULT_OUT
from train.wording import say


def run(
    out: Path = DEFAULT_OUT,
    budget: BudgetName | None = None,
    records: Path | None = None,
    docs: Path | None = None,
    tasks: tuple[str, ...] = (),
    networks: tuple[str, ...] = (),
    json: bool = False,
) -> None:
    """Write a page of figures and tables of what was reproduced.

    It is written as report.html, and as report.md with figures/.

    Args:
        out: Folder of the experiments; the report goes there.
        budget: Leave out other budgets than this.
        records: Make the page of the records in this folder instead, that of the documentation.
        docs: Folder of the documentation, for results.md and its figures.
        tasks: Tasks of your own that there are experiments of, as plastic reproduce was told.
        networks: Networks of your own that there are runs of, likewise.
        json: Print a JSON line.
    """
    from train.experiments.own import ask_for, find_experiment
    from train.experiments.reports.report import write_report

    for task in tasks:
        find_experiment(task)
    ask_for(networks)
    if (records is None) != (docs is None):
        raise ValueError("--records and --docs go together: where records are, and where a page is")
    if records is not None and docs is not None:
        from train.experiments.reports.page import write_page

        written = write_page(records, docs)
        print_json({"markdown": str(written)}) if json else say(str(written))
        return
    page, text = write_report(out, budget)
    if json:
        print_json({"html": str(page), "markdown": str(text)})
    else:
        say(f"{page}\n{text}")
