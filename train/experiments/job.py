"""One run as a job of its own process: train it to its end, then score it on test episodes.

python -m train.experiments.job FOLDER

The folder holds the settings; whatever starts jobs (processes here, a cluster elsewhere) needs to
hand over nothing but its path, and may kill the job and start it again at any moment.
"""

import json
import logging
import os
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from plastic_envs.tasks import FewShot, SequenceTask
from train.devices import resolve_for
from train.experiments.sweep import PLACES, Config
from train.network import count_parameters
from train.places import seeing_working_directory
from train.reinforcement.config import RLConfig
from train.runs.files import write_text
from train.runs.run_folder import Record, RLRunFolder, RunFolder, open_run
from train.scoring.evaluation import evaluate
from train.scoring.measures import scored, summary
from train.scoring.networks import probe_eta, run_over
from train.scoring.references import over_oracle, reference_measures
from train.supervised.batches import embedded, whole
from train.supervised.encoders import image_encoder_of
from train.supervised.training import loss_of, train_network

TEST_EPISODES = 2_000
PLAYED_EPISODES = 1_000  # of agents, which act in every step of them
LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"
_PATIENCE = 10.0  # seconds for another process to make the folder

AnyFolder = RunFolder | RLRunFolder


def folder_of(path: Path, config: Config) -> AnyFolder:
    """Return the folder of a run of the kind of its settings."""
    return RLRunFolder(path) if isinstance(config, RLConfig) else RunFolder(path)


def test_path(folder: AnyFolder) -> Path:
    """Where the scores of a run on its test episodes are."""
    return folder.path / "test.json"


def failure_path(folder: AnyFolder) -> Path:
    """Where it is written why a run failed, if it did."""
    return folder.path / "failed.txt"


def is_finished(folder: AnyFolder, config: Config) -> bool:
    """Say whether a run is trained to its end and scored."""
    records = folder.metrics()
    trained = bool(records) and records[-1]["step"] >= config.total_steps
    return trained and test_path(folder).is_file()


def prepare(folder: AnyFolder, config: Config) -> None:
    """Make the folder of a run, if it is not there yet.

    Raises:
        ValueError: If it holds a run with other settings.
    """
    run: Any = folder  # of the kind of its settings
    if not folder.config_path.exists():
        with suppress(FileExistsError):  # whoever made it meanwhile is asked for the settings, too
            run.create(config, patience=_PATIENCE)
            return
    found = open_run(folder.path).config()
    names = (*PLACES, "device")
    places = {name: getattr(config, name) for name in names if hasattr(config, name)}
    if type(found) is not type(config) or replace(found, **places) != config:
        raise ValueError(
            f"{folder.path} holds a run with other settings: choose another folder (--out)"
        )
    if found != config:  # it was moved, with what comes before it, or computes elsewhere
        with folder.locked():
            write_text(folder.config_path, config.to_json())


def train_missing(folder: AnyFolder) -> None:
    """Train the run in a folder of `prepare` to its end, from its last checkpoint on."""
    with folder.locked():
        config, standing = folder.config(), folder.standing()
        if standing is None:
            folder.write_versions()  # whoever prepared the folder may be another machine
        if standing is not None and standing.step >= config.total_steps:
            return
        if isinstance(folder, RunFolder):
            train_network(folder.config(), folder, resume=True, progress=False)
        else:
            from train.reinforcement.training import train_agent  # an extra

            train_agent(folder.config(), folder, resume=True, progress=False)


def run_job(folder: AnyFolder, *, patience: float = 0.0) -> None:
    """Train the run in a folder to its end, from its last checkpoint on, and score it.

    Args:
        folder: Of `prepare`.
        patience: Seconds to wait for another process that is at work on it to end.

    Raises:
        BlockingIOError: If another process is at work on it.
    """
    with folder.locked(patience):
        failure = failure_path(folder)
        failure.unlink(missing_ok=True)
        try:
            train_missing(folder)
            result = score(folder)
        except Exception as error:
            write_text(failure, f"{error}\n")
            raise
        write_text(test_path(folder), json.dumps(result, indent=2) + "\n")


def score(folder: AnyFolder, num_episodes: int | None = None) -> Record:
    """Score a run's best checkpoint on test episodes, a stream of its seed of their own.

    Args:
        folder: The run.
        num_episodes: Number of episodes; 2,000 at once, or 1,000 that an agent acts in.

    Returns:
        The task's measures (`score` counts scored steps alone) with their half-width at 95 % over
        episodes; of supervised runs `loss`, what training minimises; `references`, the measures of
        what it is compared with, by name; `cpu_seconds` of training, if known;
        `higher_is_better`; and the mean plasticity rate `eta` at each step of an episode, where
        there is one and the whole of it is known. Of supervised runs, whose references are of the
        same episodes, `over_oracle`, the score divided by the oracle's, where that is not 0, and
        `parameters`, how many the network has.
    """
    if isinstance(folder, RLRunFolder):
        return _score_agent(folder, num_episodes or PLAYED_EPISODES)
    return _score_network(folder, num_episodes or TEST_EPISODES)


def _score_agent(folder: RLRunFolder, num_episodes: int) -> Record:
    record = evaluate(folder, num_episodes=num_episodes)
    config, references = folder.config(), record.pop("references")
    described = ("run", "env", *config.env_kwargs, "agent", "checkpoint")
    return {
        **{name: value for name, value in record.items() if name not in described},
        "references": {name: {"score": value} for name, value in references.items()},
        "cpu_seconds": folder.cpu_seconds(),
        "higher_is_better": config.higher_is_better,
        "eta": None,
    }


def _score_network(folder: RunFolder, num_episodes: int) -> Record:
    config = folder.config()
    network, step = folder.load_network("best")
    network.to(resolve_for(config.device))
    task = config.task_for("test")
    seed = config.test_seed
    sample = whole(task)
    if isinstance(task, FewShot):  # every image is encoded once, not in every episode
        sample = embedded(task, image_encoder_of(network).embed(task.images.images))
    batch = sample(num_episodes, seed)
    outputs = run_over(network, batch.inputs).outputs
    eta = probe_eta(folder)
    # The loss may average steps that need no memory, too.
    share = float(batch.scored.float().mean()) if config.loss_steps == "all" else 1.0
    measures = summary(scored(task, outputs, batch).measures)
    references = _references(task, seed, num_episodes, share)
    return {
        "step": step,
        "episodes": num_episodes,
        "seed": seed,
        **measures,
        "loss": float(loss_of(config, task, outputs, batch)),
        "references": references,
        "over_oracle": over_oracle(measures["score"], references.get(task.oracle_name)),
        "parameters": count_parameters(network),
        "cpu_seconds": folder.cpu_seconds(),
        "higher_is_better": task.higher_is_better,
        "eta": None if eta is None else [round(float(value), 6) for value in eta],
    }


def _references(
    task: SequenceTask, seed: int, num_episodes: int, scored_share: float
) -> dict[str, Record]:
    """Return the measures of chance, oracle and optimum, as far as they are known."""
    found = reference_measures(task, seed, num_episodes)
    if found.get("optimum") == {"score": found.get(task.oracle_name, {}).get("score")}:
        del found["optimum"]
    return {
        name: {**measures, "loss": measures["score"] * scored_share}
        for name, measures in found.items()
    }


def _end_with_parent() -> None:
    """End this process when the one that started it does, which closes its standard input."""

    def wait() -> None:
        os.read(0, 1)  # sys.stdin would be locked when the interpreter ends
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    _end_with_parent()
    torch.set_num_threads(1)
    with seeing_working_directory():
        run_job(open_run(Path(sys.argv[1])))
