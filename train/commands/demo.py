"""`plastic demo`."""

import sys
from typing import Annotated

import tyro

from train.commands.shared import print_json, to_go_on_again, warn_without_kernel
from train.experiments.demo import DemoConfig, run_demo
from train.wording import columns, counted, say


def run(config: Annotated[DemoConfig, tyro.conf.arg(name="")], json: bool = False) -> None:
    """Train networks with plastic weights, memories and neither, and compare them.

    Args:
        config: Settings.
        json: Print a JSON line per network.
    """
    warn_without_kernel()
    with to_go_on_again():
        results = run_demo(config, progress=sys.stderr.isatty())
    first = results[0]
    if json:
        for result in results:
            print_json(result)
        return
    episodes = counted(first["episodes"], "test episode")
    rows = [("network", "parameters", "score", "95 %", "seconds")]
    rows += [
        (
            *(row["network"], f"{row['parameters']:,}", f"{row['score']:.3f}"),
            *(f"± {row['interval']:.3f}", f"{row['seconds']:.0f}"),
        )
        for row in results
    ]
    rows += [(name, "", f"{first[name]:.3f}", "", "") for name in ("chance", "oracle", "optimum")]
    say(f"Cue-reward: mean squared error over the query half of {episodes}.")
    say(columns(rows, numbers=True))
    say(f"Learning curves: {first['figure']}")
