"""Devices by name, and what moves there."""

import pytest
import torch
from torch import nn

from train.devices import device_of, forked, moved, resolve


def test_auto_takes_what_there_is(monkeypatch):
    for cuda, mps, expected in ((True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=cuda: there)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda there=mps: there)
        assert resolve("auto").type == expected
        assert resolve("cpu").type == "cpu"


def test_refuses_what_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"device='cuda' \(--device cuda\).*none here.*'auto'"):
        resolve("cuda")
    with pytest.raises(ValueError, match="device must be one of"):
        resolve("tpu")


def test_moving():
    tree = {"a": torch.zeros(2), "b": (torch.zeros(1), torch.ones(3))}
    assert moved(tree, torch.device("cpu"))["a"] is tree["a"]
    there = moved(tree, torch.device("meta"))
    assert there["b"][1].device.type == "meta"
    assert device_of(nn.Linear(2, 2, device="meta")).type == "meta"
    assert device_of(nn.Identity()).type == "cpu"
    assert forked(torch.device("cpu")) == []
    assert forked(torch.device("cuda")) == [torch.device("cuda")]
