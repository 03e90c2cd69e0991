"""Odd values of the options of each subcommand, as its own `--help` lists them."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.fuzz.case import Case
from benchmarks.fuzz.program import RefusedError, UsageError, plastic
from benchmarks.fuzz.runs import trained_runs

_WORDS = """
-1 0 1.5 nan inf -inf 1e400 None True é x x.png x.xyz ../escape run/config.json/x /dev/null . .. ~ -
-- --seed [] {} %s a:b CartPole-v1 FrozenLake-v1
"""
ODD = ("", " ", str(2**63), "9" * 400, "a" * 1000, chr(0xDCFF), *_WORDS.split())
SMALL = {
    "train": "--steps 1 --batch-size 2 --eval-every 1 --eval-episodes 2 --hidden-size 4 "
    "--threads 1",
    "train-rl": "--steps 8 --num-envs 2 --eval-every 8 --eval-episodes 2 --hidden-size 4 "
    "--threads 1 --n-steps 4 --minibatches 1 --n-epochs 1 --env-kwargs num_trials 4",
    "evaluate": "run --episodes 2 --threads 1",
    "plot": "run",
    "watch": "run",
    "report": "--out run",
    "reproduce": "--list",
    "demo": "--processes 0",  # it would train for long: it is to be refused in any case
}


def prepare(folder: Path) -> Callable[[np.random.Generator, Path], Case]:
    """Ask every subcommand for its options; return what makes cases of them."""
    trained = trained_runs(folder.parent)
    names = r"^\W*([a-z][a-z-]*) {2,}[A-Z]"  # and what it does, a line each
    commands = re.findall(names, plastic(["--help"], folder), re.MULTILINE)
    options = {}
    for command in commands:
        text = plastic([command, "--help"], folder)
        options[command] = sorted(set(re.findall(r"(?<![\w-])--[a-z][\w.-]*", text)) - {"--help"})

    def make(rng: np.random.Generator, place: Path) -> Case:
        command = commands[rng.integers(len(commands))]
        option = options[command][rng.integers(len(options[command]))]
        value = ODD[rng.integers(len(ODD))]
        words = SMALL.get(command, "").split()
        if option in words:
            at = words.index(option)
            while len(words) > at + 1 and not words[at + 1].startswith("--"):
                del words[at + 1]
            del words[at]
        words += [option, value] if rng.random() < 0.7 else [f"{option}={value}"]
        here = place / "here"
        kind = "rl" if command == "watch" or rng.random() < 0.5 else "supervised"
        kind = "experiments" if command == "report" else kind
        shutil.copytree(trained / kind, here / "run")
        known = option.lstrip("-").removeprefix("no-").split(".")[-1]
        escaped = value.encode(errors="backslashreplace").decode()
        shown = (value, escaped) if value else (repr(value),)
        names = (known, *shown, str(here), *(("processes",) if command == "demo" else ()))
        pictures = (here / "curves.png", here / "episode.gif")
        allowed = [here / "runs", here / "run", *pictures, (here / value).resolve()]
        text = f"plastic {command} {' '.join(map(repr, words))}"[:300]
        run = lambda: plastic([command, *words], here, allowed)  # noqa: E731
        return Case(text, run, names, (RefusedError,), (UsageError,))

    return make
