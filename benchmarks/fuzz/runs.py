"""Damaged and foreign run folders, and commands that read them.

Tiny runs are trained once, and each also to its end: a run that was damaged where that can be
mended must end with the same numbers, if it goes on at all.
"""

import base64
import json
import pickle
import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from benchmarks.fuzz.case import Case, WrongError
from benchmarks.fuzz.damage import changed, damaged
from benchmarks.fuzz.hostile import EXECUTE
from benchmarks.fuzz.program import RefusedError, plastic
from train.experiments import job
from train.experiments.networks import networks
from train.experiments.published import EXPERIMENTS
from train.experiments.reports.reading import read_sections
from train.experiments.reports.records import record_of, write_records
from train.experiments.reproduce import Planned
from train.experiments.sweep import Budget
from train.network import NetworkConfig
from train.reinforcement.config import PPOConfig, RLConfig
from train.reinforcement.training import train_agent
from train.runs.run_folder import RLRunFolder, RunFolder
from train.supervised.config import TrainConfig
from train.supervised.training import train_network

COMMANDS = {
    "supervised": ("train", "evaluate", "plot"),
    "rl": ("train-rl", "evaluate", "plot", "watch"),
    "experiments": ("report",),
    "records": ("report",),
}
"""The kinds of folders, and what reads them."""

_SCRIPT = "<script>alert(1)</script>"
_ODD: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1.5, 2**63, 10**400, 1e308, float("nan"), float("inf"), "", "x"),
    *("../../escape", "/../../../../escape", "/nonexistent", _SCRIPT, f"```\n{_SCRIPT}", "\ud800"),
    *("a" * 300, [], {}, [[1]], {"a": 1}, [None]),
)
_TENSORS = (torch.zeros(2), torch.zeros(1, dtype=torch.bool), torch.tensor(float("nan")))


def prepare(folder: Path) -> Callable[[np.random.Generator, Path], Case]:
    """Train the runs; return what makes cases of them."""
    trained, truth = trained_runs(folder.parent), {}
    for kind in ("supervised", "rl"):
        whole = shutil.copytree(trained / kind, folder / kind)
        _command(COMMANDS[kind][0], whole, folder)
        truth[kind] = _ending(whole)

    def make(rng: np.random.Generator, place: Path) -> Case:
        kind = str(rng.choice(list(COMMANDS)))
        command = str(rng.choice(COMMANDS[kind]))
        run, here = shutil.copytree(trained / kind, place / "run"), place / "here"
        here.mkdir()
        files = sorted(p for p in run.rglob("*") if p.is_file() and "events" not in p.name)
        if kind == "experiments" and rng.random() < 0.7:  # what is not in other runs
            files = [p for p in files if p.parent.name == "smoke" or p.name == "test.json"]
        chosen = [files[k] for k in rng.permutation(len(files))[: 1 if rng.random() < 0.8 else 2]]
        others = sorted(p for p in trained.glob("*/*") if p.is_file())
        whats = [_damage(path, others, rng) for path in chosen]
        told = ", ".join(f"{p.relative_to(run)} {w}" for p, w in zip(chosen, whats, strict=True))
        mendable = all(what.startswith(("deleted", "truncated", "cut")) for what in whats)

        def call() -> None:
            try:
                _command(command, run, here)
                if command.startswith("train") and mendable and _ending(run) != truth[kind]:
                    raise WrongError("it goes on, but ends with other numbers or another best")
                if kind == "experiments":
                    _check_report(run)
            finally:
                if list(place.rglob("executed")):
                    raise WrongError("a file was executed")

        names = (str(run), *(p.name for p in chosen), *re.findall(r"'([^']+)'", told))
        return Case(f"plastic {command} ({kind}), {told}", call, names, (RefusedError,))

    return make


def _command(command: str, run: Path, here: Path) -> None:
    """Run a command on a run folder; what it draws goes beside the folder's files."""
    options: dict[str, list[str | Path]] = {
        "train": ["--resume", run],
        "train-rl": ["--resume", run],
        "evaluate": [run, "--episodes", "4"],
        "plot": [run, "--output", run / "curves.png"],
        "watch": [run, "--output", run / "episode.gif"],
        "report": ["--out", run],
    }
    if (run / "docs").exists():  # of records
        options["report"] = ["--records", run, "--docs", run / "docs"]
    plastic([command, *options[command]], here, allowed=[run])


def _ending(run: Path) -> tuple[str, int]:
    """Return the metrics of a run and the step of its best checkpoint."""
    if (best := run / "best.pt").exists():
        step = torch.load(best, weights_only=True)["step"]
    else:
        with zipfile.ZipFile(run / "best.zip") as archive:
            step = json.loads(archive.read("data"))["num_timesteps"]
    return (run / "metrics.jsonl").read_text(), step


def _check_report(out: Path) -> None:
    """Raise WrongError if text of a run became markup."""
    markdown = re.sub(r"(?s)```.*?```|`[^`\n]*`", "", (out / "report.md").read_text())
    if _SCRIPT in markdown or _SCRIPT in (out / "report.html").read_text():
        raise WrongError("a script is alive in the report")


def _damage(path: Path, others: list[Path], rng: np.random.Generator) -> str:
    """Change a file of a run somehow and say how."""
    how = rng.integers(10)
    if how < 5 and path.suffix in _CHANGES:
        return _CHANGES[path.suffix](path, rng)
    content, what = damaged(path.read_bytes(), rng)
    if how == 5 and path.suffix == ".jsonl":
        content, what = b"".join(path.read_bytes().splitlines(keepends=True)[:-1]), "cut a line"
    elif how == 6:
        other = others[rng.integers(len(others))]
        content, what = other.read_bytes(), f"is {other.parent.name}/{other.name}"
    path.write_bytes(content)
    if how in (7, 8):
        path.unlink()
        what = "deleted"
    if how == 8:
        path.mkdir()
        what = "is a folder"
    return what


def _change_json(path: Path, rng: np.random.Generator) -> str:
    """Put an odd value into JSON, at any place, or leave an entry out."""
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    at = int(rng.integers(len(lines)))
    content, what = changed(json.loads(lines[at]), rng, _ODD)
    lines[at] = json.dumps(content)
    path.write_text("\n".join(lines) + "\n")
    return what


def _change_checkpoint(path: Path, rng: np.random.Generator) -> str:
    """Put something foreign into a checkpoint of torch's."""
    content, what = changed(torch.load(path, weights_only=True), rng, (*_ODD, *_TENSORS))
    torch.save(content, path)
    return what


def _change_zip(path: Path, rng: np.random.Generator) -> str:
    """Change a member of a checkpoint of Stable-Baselines3's."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name, how = str(rng.choice(list(members))), rng.integers(4)
    if how == 0:
        del members[name]
        what = f"without {name}"
    elif how == 1:
        members[name], what = pickle.dumps(EXECUTE), f"with a pickle that calls as {name}"
    elif how == 2:
        content = json.loads(members["data"])
        key = str(rng.choice(list(content)))
        code = base64.b64encode(pickle.dumps(EXECUTE)).decode()
        content[key] = {":type:": "<class 'x'>", ":serialized:": code}
        members["data"] = json.dumps(content).encode()
        what = f"with a pickle that calls as {key} of data"
    else:
        members[name], what = damaged(members[name], rng)
        what = f"with {name} {what}"
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    return what


_CHANGES: dict[str, Callable[[Path, np.random.Generator], str]] = {
    ".json": _change_json,
    ".jsonl": _change_json,
    ".pt": _change_checkpoint,
    ".zip": _change_zip,
}


def trained_runs(folder: Path) -> Path:
    """Return a folder of runs of a few steps: a network, an agent, and an experiment.

    They are trained once. Network and agent have settings by which they are to go on.
    """
    torch.set_num_threads(1)
    if not (folder / "trained").exists():
        shutil.rmtree(folder / "training", ignore_errors=True)
        with mock.patch("time.perf_counter", return_value=0.0):  # the same files every time
            _train_all(folder / "training")
        (folder / "training").rename(folder / "trained")
    return folder / "trained"


def _train_all(folder: Path) -> None:
    small: dict[str, Any] = {"batch_size": 2, "eval_every": 2, "eval_episodes": 4}
    config = TrainConfig(
        network=NetworkConfig(core_settings={"hidden_size": 4}), steps=4, threads=1, **small
    )
    supervised = RunFolder(folder / "supervised")
    train_network(config, supervised, progress=False)
    supervised.config_path.write_text(replace(config, steps=6).to_json())
    agent = RLConfig(
        env_kwargs={"num_arms": 2, "num_trials": 4},
        network=NetworkConfig(rule="hebbian", core_settings={"hidden_size": 4}),
        ppo=PPOConfig(n_steps=4, minibatches=1, n_epochs=1, schedule="constant"),
        steps=16,
        num_envs=2,
        eval_every=8,
        eval_episodes=4,
        threads=1,
    )
    rl = RLRunFolder(folder / "rl")
    train_agent(agent, rl, progress=False)
    rl.config_path.write_text(replace(agent, steps=24).to_json())
    experiment = EXPERIMENTS["cue-reward"]
    budget = Budget(networks({"rnn": 4}, ("gradient", "none")), (0,), {**small, "steps": 2})
    experiment = replace(experiment, axes=(), budgets={"smoke": budget})
    plan = Planned(experiment, "smoke", folder / "experiments", {})
    for run in plan.all_runs():
        job.prepare(plan.folder(run), plan.config(run))
        job.train_missing(plan.folder(run))
        result = job.score(plan.folder(run), 20)
        job.test_path(plan.folder(run)).write_text(json.dumps(result))
    plan.write_manifest("plastic reproduce")
    [section] = read_sections(plan.out)
    records = [record_of(run, "plastic reproduce") for run in section.runs]
    write_records(folder / "records" / "smoke" / "cue-reward.jsonl", records)
    (folder / "records" / "docs").mkdir()
