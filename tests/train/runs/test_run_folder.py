import json
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from train.runs.run_folder import RunFolder, read_records
from train.settings import OtherFormatError
from train.supervised.training import train_network


class Malicious:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def names(path):
    return re.escape(str(path))


@pytest.mark.parametrize("written", [0, 1, 1000])
def test_a_checkpoint_is_never_half_written(run, monkeypatch, written):
    before = run.checkpoint_path("last").read_bytes()

    def fail(content, file):
        file.write(before[:written])
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        run.save_checkpoint("last", {"step": 99})
    assert run.checkpoint_path("last").read_bytes() == before
    assert run.load_network("last")[1] == 6


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    folder, value = RunFolder(tmp_path), torch.randn(3, dtype=torch.float64)
    folder.save_checkpoint("best", {"step": 3, "value": value})
    content = folder.load_checkpoint("best")
    assert content["step"] == 3
    assert torch.equal(content["value"], value)


@pytest.mark.parametrize("share", [0, 0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.9999])
def test_a_cut_off_checkpoint_is_refused_with_its_path(run, share):
    path = run.checkpoint_path("last")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=names(path) + ".*damaged"):
        run.load_network("last")


@pytest.mark.parametrize("seed", range(40))
def test_random_bytes_are_refused_with_the_path(run, seed):
    rng = np.random.default_rng(seed)
    start = b"\x80\x02" if seed % 2 else b""  # as a pickle starts
    path = run.checkpoint_path("best")
    path.write_bytes(start + rng.bytes(int(rng.integers(1, 60))))
    with pytest.raises(ValueError, match=names(path)):
        run.load_network()


@pytest.mark.parametrize(
    "content",
    [
        b"\0" * 100,
        b"text",
        b"U",
        b"\x89j\xf1\xcd",
    ],
)
def test_bytes_that_confuse_the_reader_are_refused_with_the_path(run, content):
    path = run.checkpoint_path("best")
    path.write_bytes(content)
    with pytest.raises(ValueError, match=names(path)):
        run.load_network()


def test_a_checkpoint_cannot_run_code(run, tmp_path):
    path = run.checkpoint_path("best")
    target = tmp_path / "touched"
    for write in (
        lambda content: path.write_bytes(pickle.dumps(content, protocol=2)),
        lambda content: torch.save(content, path),
    ):
        write({"format": "plastic-checkpoint-2", "step": Malicious(target)})
        with pytest.raises(ValueError, match=names(path)):
            run.load_network()
        assert not target.exists()


@pytest.mark.parametrize(
    "content", [torch.zeros(3), [1, 2], {"step": 3}, {"format": "other-checkpoint-7", "step": 3}]
)
def test_a_file_of_another_program_is_refused_with_its_path(run, content):
    path = run.checkpoint_path("best")
    torch.save(content, path)
    with pytest.raises(ValueError, match=names(path) + " is not a checkpoint"):
        run.load_network()


@pytest.mark.parametrize(
    "other", [{"hidden_size": 9}, {"rule": "hebbian"}, {"cell": "lstm"}, {"task": "copy"}]
)
def test_a_checkpoint_of_another_network_is_refused_with_its_path(run, make_run, other):
    path = run.checkpoint_path("best")
    path.write_bytes(make_run(**other).checkpoint_path("best").read_bytes())
    with pytest.raises(ValueError, match=names(path) + " does not fit"):
        run.load_network()


def test_a_missing_checkpoint_is_named(run):
    path = run.checkpoint_path("best")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=names(path)):
        run.load_network()


def test_a_folder_without_settings_is_no_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=names(tmp_path) + ".*config.json"):
        RunFolder(tmp_path).load_network()


@pytest.mark.parametrize("text", ["", "{", '{"task": "juggling"}', '{"steps": "many"}'])
def test_settings_that_cannot_be_read_are_named(run, text):
    run.config_path.write_text(text)
    with pytest.raises(ValueError, match=names(run.config_path)):
        run.config()


def test_a_folder_keeps_its_settings_and_what_it_ran_on(make_config, tmp_path):
    folder, config = RunFolder(tmp_path / "a" / "b"), make_config("regression", rule="hebbian")
    folder.create(config)
    assert folder.config() == config
    found = json.loads((folder.path / "versions.json").read_text())
    assert found["torch"] == torch.__version__
    assert found["numpy"] == np.__version__


def test_a_folder_with_a_run_is_not_used_again(run, make_config):
    before = {path: path.read_bytes() for path in run.path.iterdir()}
    with pytest.raises(FileExistsError, match=names(run.path) + ".*--resume.*--out"):
        train_network(make_config(seed=5), run, progress=False)
    assert {path: path.read_bytes() for path in run.path.iterdir()} == before


@pytest.mark.parametrize("cut", ['{"step": 3, "a"', "{", '{"step": 3}'])
def test_a_line_that_was_cut_off_is_left_out(tmp_path, cut):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n' + cut)
    assert read_records(path) == [{"step": 1}, {"step": 2}]


def test_no_records_are_read_from_no_file_and_an_empty_one(tmp_path):
    assert read_records(tmp_path / "absent") == []
    (tmp_path / "empty").touch()
    assert read_records(tmp_path / "empty") == []


@pytest.mark.parametrize("kind", ["supervised", "reinforced"])
def test_a_run_of_another_version_is_refused_in_one_clear_line(kind, make_config, make_rl_config):
    """As from before settings said their format, which had a field for every task."""
    config = make_config() if kind == "supervised" else make_rl_config()
    text = config.to_json().replace('"format": "plastic-run-2",', "")
    with pytest.raises(OtherFormatError, match="format is 'plastic-run-2', but of none"):
        type(config).from_json(text)


def test_the_version_that_wrote_a_run_is_told(run):
    run.config_path.write_text(run.config_path.read_text().replace("run-2", "run-1"))
    told = r"cannot be read: .*'plastic-run-2', but 'plastic-run-1': .*plastic-envs '\S+' wrote"
    with pytest.raises(ValueError, match=told) as caught:
        run.config()
    assert "\n" not in str(caught.value)


def test_a_run_goes_on_elsewhere_but_with_the_same_settings(run):
    config = run.config()
    changed = replace(config, device="cpu", threads=2)
    with run.at_work(changed, resume=True):
        assert run.config() == changed
    other = replace(config, network=replace(config.network, rule_settings={"base_eta": 0.7}))
    told = r"network.rule_settings.base_eta was 0.1, but is 0.7"
    with pytest.raises(ValueError, match=told), run.at_work(other, resume=True):
        pass
