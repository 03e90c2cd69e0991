"""A bandit: the arms' means, and which arm was pulled when, with what success."""

import numpy as np
from numpy.typing import NDArray

from plastic_envs.rendering.canvas import BAD, GOOD, Progress, headed_figure, legend, pixels
from plastic_envs.spaces import FloatArray


def bandit_text(progress: Progress, means: FloatArray, arms: NDArray[np.int64]) -> str:
    """Write a bandit as a table, a line per trial; the means [num_arms] stand above.

    Args:
        progress: How far the episode has come.
        means: [num_arms], the probability of a reward.
        arms: [answered], which arm was pulled.
    """
    lines = ["means  " + "  ".join(f"{k}: {mean:.2f}" for k, mean in enumerate(means))]
    lines.append(f"{'step':>4}{'arm':>6}{'reward':>8}")
    for step, (arm, reward) in enumerate(zip(arms, progress.rewards, strict=True)):
        lines.append(f"{step:>4}{arm:>6}{reward:>8.0f}")
    return "\n".join([*lines, progress.last_line()])


def bandit_picture(
    progress: Progress, means: FloatArray, arms: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Draw a bandit, told by the arguments of `bandit_text`; uint8 [480, 720, 3]."""
    figure = headed_figure(progress)
    bars, pulls = figure.subplots(1, 2, sharey=True, width_ratios=[1, 4])
    names = np.arange(len(means))
    best = means.argmax()
    bars.barh(names, means, color=[GOOD if k == best else "0.8" for k in names])
    bars.set(xlim=(0, 1), xlabel="mean", ylabel="arm", yticks=names)
    bars.invert_yaxis()
    steps, paid = np.arange(progress.answered), progress.rewards > 0
    pulls.plot(steps[paid], arms[paid], "o", color=GOOD, ms=5, label="paid")
    pulls.plot(steps[~paid], arms[~paid], "x", color=BAD, ms=5, label="did not")
    pulls.set(xlim=(-0.5, progress.num_steps - 0.5), xlabel="trial")
    legend(pulls, 1.08)
    return pixels(figure)
