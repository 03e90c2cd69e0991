"""Episodes as tensors: whole, in blocks, and with embeddings in place of images."""

import numpy as np
import pytest
import torch

from train.supervised.batches import batch_of, blocks, embedded, inputs_of, share_of, whole

TASKS = ["copy", "cue-reward", "few-shot", "regression"]


@pytest.fixture
def task(make_config):
    return make_config("few-shot").task_for("train")


@pytest.mark.parametrize("name", TASKS)
def test_whole_episodes_are_those_of_the_task(make_config, name):
    task = make_config(name).task_for("train")
    batch, episodes = whole(task)(5, 3), task.sample_episodes(5, 3)
    assert batch.targets.tolist() == episodes.targets.tolist()
    assert batch.scored.tolist() == episodes.scored.tolist()
    if name == "few-shot":
        assert batch.inputs.keys() == {"image", "label"}
        for part, array in episodes.observations.items():
            np.testing.assert_array_equal(batch.inputs[part].numpy(), array)
    else:
        np.testing.assert_array_equal(batch.inputs.numpy(), episodes.observations)


def test_tensors_share_the_memory_of_the_episodes(task):
    episodes = task.sample_episodes(2, 0)
    batch = batch_of(episodes)
    episodes.observations["image"][0, 0, 0, 0, 0] = 77
    episodes.targets[0, 0] = 2
    assert batch.inputs["image"][0, 0, 0, 0, 0] == 77
    assert batch.targets[0, 0] == 2


@pytest.mark.parametrize(("size", "lengths"), [(1, [1] * 7), (3, [3, 3, 1]), (7, [7]), (99, [7])])
@pytest.mark.parametrize("name", ["copy", "few-shot"])
def test_blocks_are_the_batch_in_order(make_config, name, size, lengths):
    inputs = whole(make_config(name).task_for("train"))(7, 0).inputs
    parts = blocks(inputs, size)
    if name == "copy":
        assert [len(part) for part in parts] == lengths
        assert torch.equal(torch.cat(parts), inputs)
        return
    for key, tensor in inputs.items():
        assert [len(part[key]) for part in parts] == lengths
        assert torch.equal(torch.cat([part[key] for part in parts]), tensor)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("few_shot", [{}, {"label_mode": "delayed"}, {"k_shot": 2}], ids=str)
def test_embedded_episodes_are_the_whole_ones(make_config, split, few_shot):
    task = make_config("few-shot", **few_shot).task_for(split)
    images = torch.from_numpy(task.images.images.copy())
    ours = embedded(task, images.flatten(start_dim=1).float())(6, 3)  # pixels as embeddings
    theirs = whole(task)(6, 3)
    assert ours.inputs.keys() == {"embedding", "label"}
    expected = theirs.inputs["image"].flatten(start_dim=2).float()
    assert torch.equal(ours.inputs["embedding"], expected)
    assert torch.equal(ours.inputs["label"], theirs.inputs["label"])
    assert torch.equal(ours.targets, theirs.targets)
    assert torch.equal(ours.scored, theirs.scored)


def test_embedded_episodes_give_the_outputs_of_whole_ones(make_config, task):
    network = make_config("few-shot").network.build(task, 0).eval()
    embeddings = network.encoder.embed(task.images.images)
    with torch.no_grad():
        outputs = [
            network(sample(6, 3).inputs)[0] for sample in (embedded(task, embeddings), whole(task))
        ]
    torch.testing.assert_close(*outputs)


def test_augmented_images_have_no_embeddings(make_config):
    task = make_config("few-shot", augment=True).task_for("train")
    with pytest.raises(ValueError, match="augmented images have no place in the source"):
        embedded(task, torch.zeros(60, 4))(2, 0)


def test_observations_of_an_environment_are_tensors_of_their_type(task):
    observation = task.observation_space.sample()
    inputs = inputs_of(observation)
    assert {name: tensor.dtype for name, tensor in inputs.items()} == {
        "image": torch.uint8,
        "label": torch.float32,
    }


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_shares_make_up_the_batch(make_config, name, count):
    batch = whole(make_config(name).task_for("train"))(6, 0)
    shares = [share_of(batch, index, count) for index in range(count)]
    assert [len(share.scored) for share in shares] == [6 // count] * count
    for part, parts in zip(batch, zip(*shares, strict=True), strict=True):
        if isinstance(part, dict):
            for key, tensor in part.items():
                assert torch.equal(torch.cat([each[key] for each in parts]), tensor)
        else:
            assert torch.equal(torch.cat(parts), part)
