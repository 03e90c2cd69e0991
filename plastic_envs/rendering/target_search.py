"""A target search: which cue was shown when, and the answers where they were asked for."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from plastic_envs.rendering.canvas import (
    BAD,
    GOOD,
    NEUTRAL,
    SHADE,
    Progress,
    headed_figure,
    legend,
    pixels,
)


class Search(NamedTuple):
    """An episode.

    Attributes:
        num_cues: Number of cues.
        target: Which of them is the target.
        schedule: int64 [T], what each step shows: a cue, `num_cues` to ask, below 0 nothing.
        truth: int64 [T], the right answer where the schedule asks.
        answers: int64 [answered], those so far.
    """

    num_cues: int
    target: int
    schedule: NDArray[np.int64]
    truth: NDArray[np.int64]
    answers: NDArray[np.int64]


def target_search_text(progress: Progress, search: Search) -> str:
    """Write a target search as a table, a line per step; `*` marks questions."""
    lines = [f"target {search.target}", "step   shown  answer  target  reward"]
    for step in range(progress.seen):
        shows = int(search.schedule[step])
        asked = shows == search.num_cues
        cells = ["?" if asked else "·" if shows < 0 else str(shows), *["·"] * 3]
        if step < progress.answered:
            truth = str(search.truth[step]) if asked else "·"
            cells[1:] = [str(search.answers[step]), truth, f"{progress.rewards[step]:.0f}"]
        row = "".join(f"{cell:>8}" for cell in cells)[1:]
        lines.append(f"{step:>4} {'*' if asked else ' '}{row[1:]}")
    return "\n".join([*lines, progress.last_line()])


def target_search_picture(progress: Progress, search: Search) -> NDArray[np.uint8]:
    """Draw a target search: what was shown above, the answers below; uint8 [480, 720, 3]."""
    schedule, target, num_cues = search.schedule, search.target, search.num_cues
    figure = headed_figure(progress)
    shown, answers = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    seen = np.arange(progress.seen)
    cues = seen[(schedule[seen] >= 0) & (schedule[seen] != num_cues)]
    colours = [GOOD if schedule[step] == target else NEUTRAL for step in cues]
    shown.scatter(cues, schedule[cues], c=colours, marker="s", s=22)
    labels = [f"cue {k}" + (" (target)" if k == target else "") for k in range(num_cues)]
    shown.set_yticks(range(num_cues), labels, fontsize=8)
    shown.set_ylim(num_cues - 0.5, -0.5)
    shown.set_title("shown (shaded: the answer is asked for)", fontsize=9, loc="left")
    questions = np.flatnonzero(schedule == num_cues)
    for step in questions:
        for axes in (shown, answers):
            axes.axvspan(step - 0.5, step + 0.5, color=SHADE, lw=0, zorder=0)
    done = questions[questions < progress.answered]
    right = search.answers[done] == search.truth[done]
    answers.plot(done[right], search.answers[done][right], "o", color=GOOD, ms=6, label="right")
    answers.plot(done[~right], search.answers[done][~right], "x", color=BAD, ms=7, label="wrong")
    answers.set_yticks([0, 1], ["not shown", "shown"], fontsize=8)
    answers.set(xlim=(-0.5, progress.num_steps - 0.5), ylim=(-0.6, 1.6), xlabel="step")
    answers.set_title("answer: was the target shown in this trial?", fontsize=9, loc="left")
    legend(answers, 1.16)
    return pixels(figure)
