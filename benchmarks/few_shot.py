"""Few-shot image classification: every method on the same encoder and the same test episodes.

python -m benchmarks.few_shot --source glyphs --json
python -m benchmarks.few_shot --source omniglot --root PATH --json
python -m benchmarks.few_shot --evaluate-only runs/few-shot/glyphs-5-way-1-shot-hebbian-rnn-seed0

For each seed a convolutional encoder is trained as a prototypical network on the training classes
and kept as it is; recurrent networks are trained on its embeddings, for each number of classes and
examples. A run that is there already is not repeated, one that was cut off goes on.
"""

import json
import logging
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from plastic_envs.images.sources import SourceName
from plastic_envs.tasks import FewShot
from train.experiments.job import prepare, train_missing
from train.experiments.published import FEW_SHOT_PLASTICITY
from train.network import NetworkConfig
from train.runs.run_folder import Record, RunFolder, read_records
from train.scoring.measures import summary
from train.scoring.networks import run_over
from train.scoring.objectives import CrossEntropy
from train.supervised.batches import embedded
from train.supervised.config import TrainConfig
from train.supervised.encoders import image_encoder_of

TEST_SEED = 20_230_203
"""Environment seed of the test episodes, the same for every method and seed."""


@dataclass(frozen=True)
class Args:
    """Train and score every method, a line for each."""

    source: SourceName = "glyphs"
    """Where the images come from."""
    root: str | None = None
    """Folder or file of the data, if the source needs it."""
    out: Path = Path("runs/few-shot")
    """Folder of the runs."""
    settings: tuple[tuple[int, int], ...] = ((5, 1), (5, 5), (20, 1))
    """Classes and examples of an episode."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of encoder and network."""
    cells: tuple[str, ...] = ("rnn", "lstm")
    """Cells for 5-way 1-shot; the other settings have the first one."""
    filters: int = 32
    """Filters of the Conv-4 encoder."""
    encoder_steps: int = 600
    """Training steps of the encoder, 8 episodes each, an example and a query of each class."""
    encoder_n_way: int = 20
    """Classes of those episodes."""
    steps: int = 2_000
    """Training steps of a recurrent network, 32 episodes each."""
    episodes: int = 2_000
    """Test episodes."""
    processes: int = field(default_factory=multiprocessing.cpu_count)
    """Runs at the same time, one thread each."""
    evaluate_only: tuple[Path, ...] = ()
    """Score these trained runs and nothing else."""
    json: bool = False
    """Print JSON lines instead of a table."""


def main() -> None:
    """Train what is missing, then score and print."""
    args = tyro.cli(Args)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    torch.set_num_threads(1)
    if args.evaluate_only:
        for path in args.evaluate_only:
            folder = RunFolder(path)
            task = folder.config().task_for("test")
            if not isinstance(task, FewShot):
                raise ValueError(f"{path} is a run of {folder.config().task}, not of few-shot")
            _show(score(folder, task, args.episodes), args.json)
        return
    encoders = [(_encoder_folder(args, seed), _encoder(args, seed)) for seed in args.seeds]
    networks = [
        run for setting in args.settings for group in _networks(args, *setting) for run in group
    ]
    for runs in (encoders, networks):
        with ProcessPoolExecutor(args.processes, multiprocessing.get_context("spawn")) as pool:
            list(pool.map(_train, *zip(*runs, strict=True)))
    for record in _scores(args):
        _show(record, args.json)


def score(folder: RunFolder, task: FewShot, episodes: int) -> Record:
    """Score a run on the test episodes, on the embeddings of the test images.

    Acting in the environment gives the same (`plastic evaluate` does both and compares them), but
    encodes every image anew in every episode.

    Args:
        folder: The run.
        task: The task to score it on; a prototypical network takes any number of classes.
        episodes: Number of test episodes.
    """
    config = folder.config()
    network, step = folder.load_network("best")
    if config.network.core == "prototypical":
        network.num_labels = task.n_way
    inputs, targets, scored = embedded(task, image_encoder_of(network).embed(task.images.images))(
        episodes, TEST_SEED
    )
    answers = CrossEntropy().answers(run_over(network, inputs).outputs)
    rewards = task.rewards(answers, targets.numpy())
    seconds = read_records(folder.timing_path)[-1]["seconds"]
    if config.encoder_run is not None:
        encoder = RunFolder(Path(config.encoder_run))
        seconds += read_records(encoder.timing_path)[-1]["seconds"]
    return {
        **_described(task, config.network.words),
        "seed": config.seed,
        **summary(task.measures(rewards, scored.numpy())),
        "episodes": episodes,
        "step": step,
        "seconds": round(seconds, 1),
        "run": str(folder.path),
    }


def _scores(args: Args) -> Iterator[Record]:
    """Yield a record per method and setting: each seed, and all seeds together."""
    for n_way, k_shot in args.settings:
        task = _task(args, n_way, k_shot)
        yield _pixels(task, args.episodes)
        folders = [RunFolder(_encoder_folder(args, seed)) for seed in args.seeds]
        yield from _joined([score(folder, task, args.episodes) for folder in folders])
        for group in _networks(args, n_way, k_shot):
            yield from _joined([score(RunFolder(path), task, args.episodes) for path, _ in group])


def _joined(records: list[Record]) -> list[Record]:
    """Return the records of some seeds, and one of their mean and spread."""
    mean = dict(records[0])
    for name in ("score", "first_query", "seconds"):
        values = [record[name] for record in records]
        mean[name] = float(np.mean(values))
        mean[f"{name}_spread"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
    for name in ("interval", "first_query_interval"):
        # Seeds share their episodes, so the interval of the mean is not smaller than theirs.
        mean[name] = float(np.mean([record[name] for record in records]))
    del mean["run"], mean["step"]
    return [*records, mean | {"seed": [record["seed"] for record in records]}]


def _pixels(task: FewShot, episodes: int) -> Record:
    """Score the nearest neighbour on pixels."""
    measures: dict[str, list[np.ndarray]] = {}
    rng = np.random.default_rng(TEST_SEED)
    for _ in range(0, episodes, 500):
        drawn = task.sample_episodes(min(500, episodes), rng)
        rewards = task.rewards(task.oracle(drawn.observations), drawn.targets)
        for name, values in task.measures(rewards, drawn.scored).items():
            measures.setdefault(name, []).append(values)
    joined = {name: np.concatenate(values)[:episodes] for name, values in measures.items()}
    names = {"rule": "nearest neighbour", "cell": "pixels", "hidden_size": 0}
    return {
        **_described(task, names),
        "seed": [],
        **summary(joined),
        "episodes": episodes,
        "seconds": 0.0,
    }


def _described(task: FewShot, names: Record) -> Record:
    return {
        "source": task.source,
        "n_way": task.n_way,
        "k_shot": task.k_shot,
        "query_sampling": task.query_sampling,
        **names,
    }


def _task(args: Args, n_way: int, k_shot: int) -> FewShot:
    return FewShot(**_few_shot(args, n_way, k_shot), split="test")


def _few_shot(args: Args, n_way: int, k_shot: int) -> dict[str, Any]:
    # Queries for themselves: balanced ones can be guessed by exclusion.
    return {
        "n_way": n_way,
        "k_shot": k_shot,
        "n_query": 5,
        "query_sampling": "independent",
        "source": args.source,
        "root": args.root,
    }


def _encoder_folder(args: Args, seed: int) -> Path:
    return args.out / f"{args.source}-encoder-{args.filters}-seed{seed}"


def _encoder(args: Args, seed: int) -> TrainConfig:
    return TrainConfig(
        task="few-shot",
        network=NetworkConfig(core="prototypical", filters=args.filters),
        task_settings={
            **_few_shot(args, args.encoder_n_way, 1),
            "n_query": args.encoder_n_way,
            "query_sampling": "balanced",
        },
        steps=args.encoder_steps,
        batch_size=8,
        learning_rate=2e-3,
        schedule="cosine",
        eval_every=max(1, args.encoder_steps // 4),
        eval_episodes=100,
        seed=seed,
        threads=1,
    )


def _networks(args: Args, n_way: int, k_shot: int) -> Iterator[list[tuple[Path, TrainConfig]]]:
    """Yield the runs of each method in one setting: a folder and settings per seed."""
    rules: tuple[str, ...] = ("hebbian", "gradient", "none")
    for cell, rule in product(args.cells if (n_way, k_shot) == (5, 1) else args.cells[:1], rules):
        yield [_network(args, n_way, k_shot, cell, rule, seed) for seed in args.seeds]


def _network(
    args: Args, n_way: int, k_shot: int, cell: str, rule: str, seed: int
) -> tuple[Path, TrainConfig]:
    name = f"{args.source}-{n_way}-way-{k_shot}-shot-{rule}-{cell}-seed{seed}"
    return args.out / name, TrainConfig(
        task="few-shot",
        network=NetworkConfig(
            rule=rule,
            cell=cell,
            core_settings={"hidden_size": 192 if rule == "none" else 128},
            rule_settings=dict(FEW_SHOT_PLASTICITY.get(rule, {})),
            filters=args.filters,
        ),
        task_settings=_few_shot(args, n_way, k_shot),
        encoder_run=str(_encoder_folder(args, seed)),
        steps=args.steps,
        batch_size=32,
        learning_rate=3e-3,
        schedule="cosine",
        eval_every=max(1, args.steps // 8),
        eval_episodes=1_000,
        seed=seed,
        threads=1,
    )


def _train(path: Path, config: TrainConfig) -> None:
    """Train a run that is not there, go on with one that was cut off."""
    folder = RunFolder(path)
    prepare(folder, config)
    train_missing(folder)


def _show(record: Record, as_json: bool) -> None:
    if as_json:
        print(json.dumps(record), flush=True)
        return
    seeds = record["seed"]
    who = "all seeds" if isinstance(seeds, list) else f"seed {seeds}"
    print(
        f"{record['source']} {record['n_way']}-way {record['k_shot']}-shot  "
        f"{record.get('rule', record.get('core')):17s} "
        f"{record.get('cell', record.get('encoder')):6s} {who:9s}  "
        f"first query {record['first_query']:.3f} ± {record['first_query_interval']:.3f}, "
        f"all {record['score']:.3f} ± {record['interval']:.3f}, {record['seconds']:.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
