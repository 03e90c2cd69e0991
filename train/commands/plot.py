"""`plastic plot`."""

from pathlib import Path

import tyro

from train.commands.shared import print_json
from train.wording import say


def run(
    runs: tyro.conf.Positional[tuple[Path, ...]],
    output: Path | None = None,
    json: bool = False,
) -> None:
    """Draw learning curves and plasticity rates of runs of one task.

    Args:
        runs: Folders of the runs; those that differ in their seed only are joined.
        output: The figure; its ending says the format (png, svg, pdf, …), png if there is none. If
            not given, RUN/curves.png, and for several runs a file beside the first of them, which
            is named after all of them.
        json: Print a JSON line.
    """
    from train.figures.runs import plot_runs
    from train.runs.run_folder import open_run

    path = plot_runs([open_run(run) for run in runs], output)
    if json:
        print_json({"figure": str(path), "runs": [str(run) for run in runs]})
    else:
        say(str(path))
