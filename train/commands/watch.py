"""`plastic watch`."""

from pathlib import Path

import tyro

from train.names import CheckpointName, DeviceName
from train.places import picture_path
from train.wording import say


def run(
    run: tyro.conf.Positional[Path],
    output: Path | None = None,
    checkpoint: CheckpointName = "best",
    seed: int | None = None,
    device: DeviceName | None = None,
) -> None:
    """Record an episode of an agent trained by reinforcement learning.

    Args:
        run: Folder of the run.
        output: The picture; its ending says the format: moving (gif, webp, png), or another of the
            last step alone. If not given, RUN/episode.gif, with checkpoint and seed in the name if
            they are given.
        checkpoint: Which checkpoint.
        seed: Seed of the episode; the first test episode of the run if not given.
        device: Where to compute; the run's own device, if it is here, if not given.
    """
    from train.figures.recording import ENDINGS, record
    from train.runs.run_folder import RLRunFolder, open_run
    from train.scoring.evaluation import seed_of

    folder = open_run(run)
    if not isinstance(folder, RLRunFolder):
        raise ValueError(f"{run} was trained by supervised learning; `plastic plot` shows it")
    if seed is not None:
        seed = seed_of(folder.config(), seed)  # before it names a file
    if output is None:
        which = "" if checkpoint == "best" else f"-{checkpoint}"
        which += "" if seed is None else f"-seed{seed}"
        output = run / f"episode{which}.gif"
    output = picture_path(output, ENDINGS)
    say(str(record(folder, output, checkpoint=checkpoint, seed=seed, device=device)))
