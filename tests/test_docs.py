"""Examples in docstrings are true, and those in pages run, with few steps."""

import doctest
import importlib
import re
from pathlib import Path

import gymnasium as gym
import pytest

ROOT = Path(__file__).resolve().parents[1]
WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for package in ("plastic_envs", "agents", "train")
    for path in (ROOT / package).rglob("*.py")
    if re.search(r"^\s*>>> ", path.read_text(), re.MULTILINE)
)
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TEXTS = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
}
PAGES = [name for name, text in TEXTS.items() if BLOCK.search(text) or ">>> " in text]
# What a reader of a page has before its first example.
BEFORE = "import gymnasium as gym\nimport plastic_envs\nimport torch\n"
GIVEN = {
    "docs/extending.md": (
        "from agents import Gradient as MyRule, PlasticNetwork, RNNCell as MyCell\n"
        "x, LinearAttention = torch.zeros(2, 3, 3).double(), torch.nn.Module"
    ),
    "docs/fast-engine.md": "from agents import PlasticNetwork\nnet = PlasticNetwork(16, 1, 8)",
    "docs/image-sources.md": (
        "images = torch.zeros(60, 28, 28, 1, dtype=torch.uint8).numpy()\n"
        "labels = torch.arange(60).div(12, rounding_mode='floor').numpy()"
    ),
    "docs/memories/overview.md": "x, state = torch.zeros(2, 3, 14), None\nepisode_starts = None",
    "docs/networks.md": (
        "from agents import PlasticState\n"
        "pictures, labels = torch.zeros(2, 3, 28, 28, 1, dtype=torch.uint8), torch.zeros(2, 3, 5)\n"
        "x, x2, x_t = torch.zeros(2, 3, 16), torch.zeros(2, 4, 16), torch.zeros(2, 16)\n"
        "starts = torch.zeros(2, 4, dtype=torch.bool)"
    ),
    "docs/wrappers.md": "from plastic_envs.wrappers import History, PreviousActionReward",
}
FEWER = [  # of what takes long
    (re.compile(r"\.learn\([\d_]+\)"), ".learn(320)"),
    (re.compile(r"n_eval_episodes=\d+"), "n_eval_episodes=16"),
    (re.compile(r"sample_episodes\(\d{3,}"), "sample_episodes(8"),
]
NEEDS_SB3 = ("agents.sb3", "docs/agents")


def skip_without_sb3(name):
    if name.startswith(NEEDS_SB3):
        pytest.importorskip("stable_baselines3", reason="the example needs Stable-Baselines3")


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_in_docstrings_are_true(name, tmp_path, monkeypatch):
    skip_without_sb3(name)
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert failed == 0
    assert tried > 0


@pytest.fixture
def registry():
    """Forget afterwards what an example registers."""
    before = dict(gym.registry)
    yield
    gym.registry.clear()
    gym.registry.update(before)


@pytest.mark.parametrize("name", PAGES)
def test_examples_in_pages_run(name, tmp_path, monkeypatch, registry):
    skip_without_sb3(name)
    monkeypatch.chdir(tmp_path)
    failed, _ = doctest.testfile(str(ROOT / name), module_relative=False)
    assert failed == 0
    known = {}
    exec(BEFORE + GIVEN.get(name, ""), known)
    for block in BLOCK.findall(TEXTS[name]):
        if ">>> " in block:
            continue
        for long, short in FEWER:
            block = long.sub(short, block)
        code = compile(block, f"example of {name}", "exec")
        if '"~/' not in block:  # of files that a reader has
            exec(code, known)
