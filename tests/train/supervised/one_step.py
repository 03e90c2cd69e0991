"""A program for test_distributed.py: take one training step for each settings file in a folder.

Usage: torchrun … one_step.py SETTINGS OUT. Networks are in float64. Leaves, for each file and
process, OUT/NAME-RANK-SIZE.pt: gradients and what else the tests compare. The first process takes
each step alone, too.
"""

import sys
from pathlib import Path
from unittest.mock import patch

import torch

from train.runs.run_folder import RunFolder
from train.supervised.config import TrainConfig
from train.supervised.distributed import ALONE, joined
from train.supervised.encoders import image_encoder_of, load_image_encoder
from train.supervised.training import NonFiniteLossError, _Training


def main(settings, out):
    with joined() as processes:
        for path in sorted(settings.glob("*.json")):
            for these in (processes, ALONE) if processes.is_first else (processes,):
                result = one_step(path, out, these)
                torch.save(result, out / f"{path.stem}-{these.rank}-{these.size}.pt")


def one_step(path, out, processes):
    config = TrainConfig.from_json(path.read_text())
    network = config.network.build(config.task_for("train"), config.seed).double()
    if config.encoder_run is not None:
        load_image_encoder(network, RunFolder(Path(config.encoder_run)))
        image_encoder_of(network).freeze()
    folder = RunFolder(out / f"{path.stem}-{processes.size}")
    folder.path.mkdir(exist_ok=True)
    training = _Training(config, network, folder, processes)
    sample = training.sample_training

    def sample_doubles(num_episodes, seed):
        batch = double(sample(num_episodes, seed))
        if path.stem == "spoiled":
            batch.inputs[-1] = torch.nan
        return batch

    training.sample_training = sample_doubles
    result = {"parallel": training.parallel is not network, "error": None, "loss": None}
    with patch.object(torch, "manual_seed", wraps=torch.manual_seed) as noise:
        try:
            result["loss"], result["norm"] = training._train_step()
        except NonFiniteLossError as error:
            result["error"] = str(error)
    result["gradients"] = {name: p.grad for name, p in network.named_parameters()}
    result["parameters"] = {name: p.detach() for name, p in network.named_parameters()}
    return {**result, "seed": noise.call_args.args[0]}


def double(batch):
    def convert(value):
        if isinstance(value, dict):
            return {name: convert(part) for name, part in value.items()}
        return value.double() if value.is_floating_point() else value

    return type(batch)(*map(convert, batch))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
