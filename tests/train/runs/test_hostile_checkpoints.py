"""Checkpoints that somebody else made: nothing runs or grows, and one error names the file."""

import io
import json
import pickle
import re
import struct
import zipfile
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import torch
from stable_baselines3.common.save_util import load_from_zip_file

from train.figures.recording import record
from train.reinforcement import training as reinforcement
from train.runs.checkpoints import read_tensors
from train.scoring.evaluation import evaluate
from train.supervised import training as supervised

NAN = torch.tensor(float("nan"))


class Touch:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def rewrite(path, change):
    """Change members of a zip file, given and taken as a dictionary of bytes."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def packed(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def tensors(content):
    return torch.load(io.BytesIO(content), weights_only=True)


def first(state):
    return next(name for name, value in state.items() if value.is_floating_point())


def some(optimizer):
    """Return the state of a parameter that has one."""
    return next(iter(optimizer["state"].values()))


def spoil(state, change):
    state[first(state)] = change(state[first(state)])


SPOILED_NETWORKS = {
    "another shape": lambda n: spoil(n, lambda t: t.repeat(2, 1)),
    "another type": lambda n: spoil(n, lambda t: t.double()),
    "not finite": lambda n: spoil(n, lambda t: t * NAN),
    "sparse": lambda n: spoil(n, lambda t: t.half()),
    "no tensor": lambda n: spoil(n, lambda t: [1.0]),
    "a tensor too many": lambda n: n.update(more=torch.zeros(2)),
    "a tensor too few": lambda n: n.pop(first(n)),
    "a strange name": lambda n: n.update({3: torch.zeros(2)}),
}

SPOILED_OPTIMIZERS = {
    "no state": lambda o: o.pop("state"),
    "no dictionary": lambda o: o.update(state=[]),
    "of a run that has not begun": lambda o: o["state"].clear(),
    "of some parameters": lambda o: o["state"].pop(next(iter(o["state"]))),
    "other parameters": lambda o: o["state"].update({999: some(o)}),
    "another shape": lambda o: some(o).update(exp_avg=torch.zeros(77)),
    "not finite": lambda o: some(o).update(exp_avg=some(o)["exp_avg"] * NAN),
    "negative": lambda o: some(o).update(exp_avg_sq=some(o)["exp_avg_sq"] - 1),
    "text": lambda o: some(o).update(step="x"),
    "one too few": lambda o: some(o).pop("exp_avg"),
}

SPOILED_STANDINGS = {
    "no step": lambda c: c.pop("step"),
    "step is text": lambda c: c.update(step="x"),
    "step is negative": lambda c: c.update(step=-1),
    "step is huge": lambda c: c.update(step=2**64),
    "step is a number": lambda c: c.update(step=1.5),
    "seconds": lambda c: c.update(seconds=None),
    "seconds are negative": lambda c: c.update(seconds=-1.0),
    "best": lambda c: c.update(best=5),
    "best is nothing": lambda c: c.update(best=None),
    "best is later": lambda c: c["best"].update(step=10**6),
    "best has no score": lambda c: c["best"].pop("val_score"),
    "metrics": lambda c: c.update(metrics=[]),
    "no records": lambda c: c["metrics"].update(records=0),
    "digest": lambda c: c["metrics"].update(sha256=3),
    "config is a number": lambda c: c.update(config=3),
    "config is no JSON": lambda c: c.update(config="{"),
    "config is another": lambda c: c.update(config=c["config"].replace('"seed": 0', '"seed": 7')),
    "an extra key": lambda c: c.update(more=1),
}


def change_network(folder, change):
    content = folder.load_checkpoint("last")
    change(content["network"])
    folder.checkpoint_path("last").write_bytes(packed(content))


def change_optimizer(folder, change):
    content = folder.load_checkpoint("last")
    change(content["optimizer"])
    folder.checkpoint_path("last").write_bytes(packed(content))


def change_standing(folder, change):
    content = folder.load_checkpoint("last")
    change(content)
    folder.checkpoint_path("last").write_bytes(packed(content))


@pytest.mark.parametrize(
    ("apply", "change"),
    [
        *((change_network, change) for change in SPOILED_NETWORKS.values()),
        *((change_optimizer, change) for change in SPOILED_OPTIMIZERS.values()),
        *((change_standing, change) for change in SPOILED_STANDINGS.values()),
        (change_standing, lambda c: c.update(network=[])),
        (change_standing, lambda c: c.update(optimizer=3)),
    ],
)
def test_a_foreign_checkpoint_is_refused_with_one_error(run, apply, change):
    apply(run, change)
    path = run.checkpoint_path("last")
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        supervised.train_network(run.config(), run, resume=True, progress=False)
    assert len(str(caught.value)) < 1000
    assert "\n" not in str(caught.value)


def change_json(members, change):
    content = json.loads(members["run.json"])
    change(content)
    members["run.json"] = json.dumps(content).encode()


def change_member(members, name, change):
    content = tensors(members[name])
    change(content)
    members[name] = packed(content)


@pytest.mark.parametrize(
    ("apply", "change"),
    [
        *((lambda m, c: change_member(m, "policy.pth", c), c) for c in SPOILED_NETWORKS.values()),
        *(
            (lambda m, c: change_member(m, "policy.optimizer.pth", c), c)
            for c in SPOILED_OPTIMIZERS.values()
        ),
        *((change_json, c) for c in SPOILED_STANDINGS.values()),
        (change_json, lambda c: c.update(format="other")),
        (change_json, lambda c: c.update(updates="x")),
        (lambda m, c: m.update({"run.json": b"[" * 100_000}), None),
        (lambda m, c: m.update({"run.json": b" " * 2**21}), None),
        (lambda m, c: m.pop("policy.pth"), None),
        (lambda m, c: m.update({"policy.pth": b"text"}), None),
        (lambda m, c: m.update({"policy.optimizer.pth": packed(3)}), None),
    ],
)
def test_a_foreign_agent_is_refused_with_one_error(make_rl_run, apply, change):
    run = make_rl_run(steps=48)
    path = run.checkpoint_path("last")
    rewrite(path, lambda members: apply(members, change))
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        run.load_model("last")
    assert len(str(caught.value)) < 1000
    assert "\n" not in str(caught.value)


def test_an_agent_cannot_run_code(make_rl_run, tmp_path):
    """Neither by what Stable-Baselines3 unpickles, nor by what torch does."""
    whole = make_rl_run("TestCountdown-v0", steps=48)
    touched = tmp_path / "touched"
    evil = cloudpickle.dumps(Touch(touched))
    pickle.loads(evil)
    assert touched.exists(), "it is no attack"
    touched.unlink()

    def poison(members):
        import base64

        data = json.loads(members["data"])
        serialized = {":type:": "x", ":serialized:": base64.b64encode(evil).decode()}
        members["data"] = json.dumps(dict.fromkeys(data, serialized)).encode()
        members["pytorch_variables.pth"] = evil

    result = evaluate(whole, num_episodes=2)
    for name in ("best", "last"):
        rewrite(whole.checkpoint_path(name), poison)
    assert evaluate(whole, num_episodes=2) == result
    record(whole, tmp_path / "episode.gif")
    reinforcement.train_agent(whole.config(), whole, resume=True, progress=False)
    for name in ("policy.pth", "policy.optimizer.pth"):
        run = make_rl_run("TestCountdown-v0", steps=48)
        poisoned = {name: packed({"state": Touch(touched)})}
        rewrite(run.checkpoint_path("best"), lambda members, new=poisoned: members.update(new))
        with pytest.raises(ValueError, match="cannot be read"):
            evaluate(run, num_episodes=2)
    assert not touched.exists()


def test_agents_can_still_be_read_by_stable_baselines(make_rl_run):
    run = make_rl_run(steps=48)
    _, parameters, _ = load_from_zip_file(run.checkpoint_path("best"), device="cpu")
    ours = run.load_model().policy.state_dict()
    assert all(torch.equal(ours[name], value) for name, value in parameters["policy"].items())


def with_pickle(data):
    """Return a file of torch with some pickle in it."""
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, buffer)
    with zipfile.ZipFile(buffer) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, data if name.endswith("data.pkl") else content)
    return buffer


def nested_key(depth):
    """Return a pickle of a key whose hash takes time exponential in its length."""
    parts = [b"\x80\x02}", b"K\x01q\x00"]
    for k in range(depth):
        parts.append(b"h" + bytes([k]) + b"\x86q" + bytes([k + 1]) if k else b"h\x00\x86q\x01")
    return b"".join([*parts, b"K\x01s."])


@pytest.mark.parametrize(
    "data",
    [
        nested_key(60),
        b"\x80\x02c__builtin__\nbytearray\nJ\x00\x00\x00\x70\x85R.",
        b"\x80\x02cbuiltins\neval\nX\x03\x00\x00\x001+1\x85R.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x02\x8b\xff\xff\xff\x7f.",
        b"",
        b"\x80\x02.",
        b"garbage",
    ],
)
def test_pickles_that_would_grow_are_refused_before_they_are_read(run, data):
    run.checkpoint_path("best").write_bytes(with_pickle(data).getvalue())
    with pytest.raises(ValueError, match=r"best\.pt cannot be read"):
        run.load_network()


def test_a_tensor_reads_no_memory_but_its_own():
    """One that claims to be larger than what is stored."""
    buffer = io.BytesIO()
    torch.save(torch.arange(3.0), buffer)
    with zipfile.ZipFile(buffer) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        data = archive.read(name)
    assert data.count(b"K\x03") >= 2
    with pytest.raises(Exception, match=r".+"):
        read_tensors(with_pickle(data.replace(b"K\x03", b"M\x00\x40")))


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
@pytest.mark.parametrize("kind", ["supervised", "reinforced"])
def test_a_compressed_archive_is_not_unpacked(run, make_rl_run, method, kind):
    folder = run if kind == "supervised" else make_rl_run(steps=48)
    path = folder.checkpoint_path("best")
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in names:
            archive.writestr(name, bytes(200_000))
    load = folder.load_network if kind == "supervised" else folder.load_model
    with pytest.raises(ValueError, match="is compressed or encrypted"):
        load()


def test_members_that_overlap_are_not_read(run):
    """A bomb of the other kind: many names for the same bytes."""
    path = run.checkpoint_path("best")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", bytes(100_000))
        info = archive.infolist()[0]
        for k in range(50):
            again = zipfile.ZipInfo(f"a/data/{k}")
            again.header_offset, again.CRC = info.header_offset, info.CRC
            again.file_size = again.compress_size = info.file_size
            archive.filelist.append(again)
            archive._didModify = True
    with pytest.raises(ValueError, match="larger than the file"):
        run.load_network()


@pytest.mark.parametrize("seed", range(25))
def test_a_changed_header_is_refused(make_rl_run, run, seed):
    rng = np.random.default_rng(seed)
    for folder in (run, make_rl_run(steps=48)):
        path = folder.checkpoint_path("last")
        content = bytearray(path.read_bytes())
        end = len(content) - 22  # the central directory lies before the record at the end
        (start,) = struct.unpack("<I", content[end + 16 : end + 20])
        for place in rng.integers(start, len(content), 3):
            content[place] = int(rng.integers(256))
        path.write_bytes(content)
        try:
            folder.check_whole()
        except (ValueError, FileNotFoundError) as error:
            message = str(error)
        else:
            continue  # dates and the like do not matter
        assert str(path) in message
