"""Draws the pictures in docs/images.

python docs/make_figures.py                   # episodes, and a sheet of glyphs
python docs/make_figures.py scaling.jsonl     # from `benchmarks.step_speed --scaling --json`
python docs/make_figures.py memory-speed.jsonl  # from `benchmarks.memory_speed --json`
"""

import json
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from matplotlib.lines import Line2D
from PIL import Image

import plastic_envs
from plastic_envs.images import Glyphs
from train.figures.drawing import new_figure, save

IMAGES = Path(__file__).parent / "images"


def main() -> None:
    """Draw what the command line asks for."""
    if len(sys.argv) > 1:
        measured = Path(sys.argv[1]).read_text().splitlines()
        records = [json.loads(line) for line in measured]
        (_draw_memory_speed if "what" in records[0] else _draw_scaling)(records)
        return
    _draw("association-random", "PlasticAssociation-v0", steps=11)
    _draw("concentration-oracle", "PlasticConcentration-v0", steps=9, oracle=True, num_pairs=4)
    _draw(
        "stories-oracle", "PlasticStories-v0", steps=16, oracle=True, num_facts=2, story_length=15
    )
    completion = {"num_bits": 20, "num_queries": 3}
    _draw(
        "pattern-completion-oracle",
        "PlasticPatternCompletion-v0",
        steps=8,
        oracle=True,
        **completion,
    )
    _draw("copy-random", "PlasticCopy-v0", steps=26, length=10, delay=10)
    _draw("cue-reward-random", "PlasticCueReward-v0", steps=16)
    _draw("regression-oracle", "PlasticRegression-v0", steps=36, oracle=True)
    _draw("few-shot-pixels", "PlasticFewShot-v0", steps=8, oracle=True, split="test")
    _draw("bandit-oracle", "PlasticBandit-v0", steps=70, oracle=True)
    _draw("target-search-oracle", "PlasticTargetSearch-v0", steps=70, oracle=True)
    _draw("maze-oracle", "PlasticMaze-v0", steps=70, oracle=True)
    _draw_glyphs(rows=12, columns=20)


def _draw(name: str, env_id: str, *, steps: int, oracle: bool = False, **kwargs: Any) -> None:
    env = gym.make(env_id, render_mode="rgb_array", **kwargs)
    env.reset(seed=1)
    env.action_space.seed(0)
    task = plastic_envs.make_task(env_id, **kwargs)
    player = task.oracle_player() if oracle else None
    actions = None if player is None else task.play(player, 1, seed=1).actions[0]
    for step in range(steps):
        env.step(env.action_space.sample() if actions is None else actions[step])
    Image.fromarray(env.render()).save(IMAGES / f"{name}.png", optimize=True)


def _draw_glyphs(rows: int, columns: int) -> None:
    """Draw some test characters, a row each."""
    glyphs = Glyphs().load("test")
    chosen = np.linspace(0, glyphs.num_classes - 1, rows).astype(int)
    drawings = np.stack([glyphs.images[glyphs.offsets[c] :][:columns, ..., 0] for c in chosen])
    framed = np.pad(drawings, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=96)
    sheet = framed.swapaxes(1, 2).reshape(rows * framed.shape[2], -1)
    Image.fromarray(sheet).save(IMAGES / "glyphs.png", optimize=True)


def _draw_memory_speed(records: list[dict[str, Any]]) -> None:
    """Draw the time of a training step of the memories against length and batch."""
    steps = [r for r in records if r["what"] == "training step"]
    figure = new_figure(9.6, 3.8)
    panels = figure.subplots(1, 2)
    columns = ("steps", "batch", 16, "episode length T"), ("batch", "steps", 40, "batch")
    for panel, (across, fixed, at, label) in zip(panels, columns, strict=True):
        chosen = [r for r in steps if r[fixed] == at]
        for index, core in enumerate(dict.fromkeys(r["core"] for r in chosen)):
            own = [r for r in chosen if r["core"] == core]
            x, y = zip(*sorted((r[across], 1000 * r["cpu_seconds"]) for r in own), strict=True)
            style = "--" if core in ("lstm", "gru") else "-"
            panel.loglog(x, y, style, marker="o", ms=3, label=core, color=f"C{index}")
        ticks = sorted({r[across] for r in chosen})
        panel.set_xticks(ticks, [str(tick) for tick in ticks])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
        panel.set(xlabel=label, ylabel="CPU milliseconds a training step")
        panel.set_title(f"{'batch' if fixed == 'batch' else 'T'} = {at}", fontsize=10)
    panels[0].legend(fontsize=7, frameon=False)
    save(figure, IMAGES / "memory-speed.png")


def _draw_scaling(records: list[dict[str, Any]]) -> None:
    """Draw time and memory of a training step against length and hidden size."""
    records = [r for r in records if r["threads"] == 1]
    figure = new_figure(9.6, 6.4)
    axes = figure.subplots(2, 2)
    columns = (("steps", "hidden_size", 128), ("hidden_size", "steps", 40))
    values = (("cpu_seconds", "CPU seconds, one thread"), ("peak_mb", "peak memory, MB"))
    forms = [f for f in ("compiled", "closed", "naive") if any(r["form"] == f for r in records)]
    for column, (across, fixed, at) in enumerate(columns):
        for row, (value, label) in enumerate(values):
            panel = axes[row, column]
            for rule, style in (("gradient", "-"), ("hebbian", "--")):
                for index, form in enumerate(forms):
                    chosen = [
                        r for r in records if (r["rule"], r["form"], r[fixed]) == (rule, form, at)
                    ]
                    points = sorted({(r[across], r[value]) for r in chosen})
                    if points:
                        x, y = zip(*points, strict=True)
                        panel.loglog(x, y, style, marker="o", ms=3, color=f"C{index}")
            panel.set(ylabel=label, xlabel="episode length T" if column == 0 else "hidden size H")
            ticks = sorted({r[across] for r in records if r[fixed] == at})
            panel.set_xticks(ticks, [str(tick) for tick in ticks])
            panel.minorticks_off()
            panel.grid(alpha=0.3)
    axes[0, 0].set_title("H = 128", fontsize=10)
    axes[0, 1].set_title("T = 40", fontsize=10)
    lines = [Line2D([], [], color=f"C{i}", label=form) for i, form in enumerate(forms)]
    lines += [
        Line2D([], [], color="0.4", ls=ls, label=rule)
        for rule, ls in (("gradient", "-"), ("hebbian", "--"))
    ]
    axes[0, 0].legend(handles=lines, fontsize=8, frameon=False)
    save(figure, IMAGES / "scaling.png")


if __name__ == "__main__":
    main()
