"""Devices by name; and that all of a program's tensors go where it computes.

The meta device stands for a GPU: it refuses, as a GPU does, to compute with a tensor of the CPU.
Its tensors have no numbers; whatever is brought back from it is zero.
"""

import json

import pytest
import torch
from torch import nn

import train.reinforcement.agent
from train import devices
from train.devices import CPU, device_of, moved, resolve, resolve_for, seeded
from train.reinforcement.training import train_agent
from train.runs.run_folder import RLRunFolder, RunFolder
from train.scoring.evaluation import evaluate
from train.scoring.networks import probe_eta
from train.supervised.training import train_network

META = torch.device("meta")


@pytest.mark.parametrize("make", ["make_config", "make_rl_config"])
def test_the_compiled_form_goes_with_the_cpu_alone(request, make):
    for device in ("auto", "cpu"):
        request.getfixturevalue(make)(form="compiled", device=device)
    with pytest.raises(ValueError, match=r"form='compiled' .* device is 'cuda': leave out --form"):
        request.getfixturevalue(make)(form="compiled", device="cuda")


def test_auto_takes_what_there_is(monkeypatch):
    for cuda, mps, expected in ((True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=cuda: there)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda there=mps: there)
        assert resolve("auto").type == expected
        assert resolve("cpu").type == "cpu"


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.usefixtures("no_gpu")
def test_refuses_what_is_not_there():
    with pytest.raises(ValueError, match=r"device='cuda' \(--device cuda\).*none here.*'auto'"):
        resolve("cuda")
    with pytest.raises(ValueError, match="device must be one of"):
        resolve("tpu")


@pytest.mark.usefixtures("no_gpu")
def test_a_run_of_another_machine_is_looked_at_where_there_is_a_device():
    assert resolve_for("cuda") == CPU
    assert resolve_for("cuda", "cpu") == CPU
    with pytest.raises(ValueError, match="--device mps"):
        resolve_for("cpu", "mps")


@pytest.mark.usefixtures("no_gpu")
def test_a_device_that_is_not_there_stops_a_run_before_it_begins(
    make_config, make_rl_config, tmp_path
):
    with pytest.raises(ValueError, match="--device cuda"):
        train_network(make_config(device="cuda"), RunFolder(tmp_path / "run"), progress=False)
    with pytest.raises(ValueError, match="--device cuda"):
        train_agent(make_rl_config(device="cuda"), RLRunFolder(tmp_path / "run"), progress=False)
    assert not (tmp_path / "run").exists()


def test_moving():
    tree = {"a": torch.zeros(2), "b": (torch.zeros(1), torch.ones(3)), "c": 3}
    assert moved(tree, CPU)["a"] is tree["a"]
    there = moved(tree, META)
    assert there["b"][1].device == META
    assert there["c"] == 3
    assert device_of(nn.Linear(2, 2, device="meta")) == META
    assert device_of(nn.Identity()) == CPU


def test_seeding_leaves_the_generators_as_they_were():
    before = torch.get_rng_state()
    with seeded(3, CPU):
        first = torch.rand(2)
    with seeded(3, CPU):
        assert torch.rand(2).equal(first)
    assert torch.get_rng_state().equal(before)


@pytest.fixture
def on_meta(monkeypatch):
    """Let every program compute on the meta device."""
    read = ("isfinite", "item", "tolist", "__bool__")
    real = {name: getattr(torch.Tensor, name) for name in ("to", *read)}

    def zeros(tensor):
        return torch.zeros(tensor.shape, dtype=tensor.dtype)

    def to(tensor, *args, **kwargs):
        back = tensor.is_meta and torch.device("cpu") in (*args, kwargs.get("device"))
        return zeros(tensor) if back else real["to"](tensor, *args, **kwargs)

    def numbers(name):
        function = real[name]
        return lambda tensor: function(zeros(tensor) if tensor.is_meta else tensor)

    monkeypatch.setattr(torch.Tensor, "to", to)
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: tensor.to(CPU))
    for name in read:
        monkeypatch.setattr(torch.Tensor, name, numbers(name))
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", False)
    monkeypatch.setattr(devices, "resolve", lambda name: META)
    for module in ("train.supervised.training", "train.reinforcement.agent"):
        monkeypatch.setattr(f"{module}.resolve", lambda name: META)

    def new_agent(*args, **kwargs):
        model = making(*args, **kwargs)
        # To meta, unlike to a GPU, parameters move by becoming others, and it has no fused Adam.
        group = model.policy.optimizer.param_groups[0]
        group |= {"params": list(model.policy.parameters()), "fused": False}
        return model

    making = train.reinforcement.agent.new_agent
    for module in ("agent", "training"):
        monkeypatch.setattr(f"train.reinforcement.{module}.new_agent", new_agent)


@pytest.mark.filterwarnings("ignore:for .*copying from a non-meta parameter")
@pytest.mark.usefixtures("on_meta")
@pytest.mark.parametrize(
    "settings",
    [
        {},
        pytest.param({"core": "gru"}, marks=pytest.mark.slow),
        pytest.param({"task": "few-shot"}, marks=pytest.mark.slow),
        {"task": "few-shot", "core": "prototypical"},
    ],
    ids=str,
)
def test_supervised_training_goes_to_the_device_and_on_from_there(make_config, tmp_path, settings):
    config, folder = make_config(**settings), RunFolder(tmp_path / "run")
    train_network(config, folder, progress=False)
    content = folder.load_checkpoint("last")
    assert all(part.device == CPU for part in content["network"].values())
    longer = make_config(**settings, steps=8)
    assert train_network(longer, folder, resume=True, progress=False)["step"] == 8
    assert evaluate(folder, num_episodes=3)["agree"]
    assert probe_eta(folder, 3) is None  # all that comes back is zero
    assert json.loads(folder.config_path.read_text())["steps"] == 8


@pytest.mark.filterwarnings("ignore:for .*copying from a non-meta parameter")
@pytest.mark.usefixtures("on_meta")
@pytest.mark.parametrize("core", [pytest.param("plastic", marks=pytest.mark.slow), "lstm"])
def test_agents_learn_and_play_on_the_device(make_rl_config, tmp_path, core):
    config, folder = (
        make_rl_config(core=core, schedule="constant", steps=96),
        RLRunFolder(tmp_path / "run"),
    )
    train_agent(config, folder, progress=False)
    longer = make_rl_config(core=core, schedule="constant", steps=192)
    assert train_agent(longer, folder, resume=True, progress=False)["step"] == 192
    assert folder.load_model().device == META
    assert evaluate(folder, num_episodes=3)["step"] in (0, 96, 192)
