"""Pictures of an interactive episode: what was done, what it brought, and what was hidden."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from plastic_envs.rendering import new_figure, pixels
from plastic_envs.tasks.interactive import InteractiveTask, Outcome, State
from plastic_envs.tasks.target_search import BLANK, TargetSearch

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GOOD, _BAD, _NEUTRAL, _SHADE = "#1b7837", "#c51b7d", "0.35", "#fff3c4"


@dataclass(frozen=True)
class InteractiveView:
    """One episode, up to a step.

    Attributes:
        task: The task that it belongs to.
        start: The state in which it began, of a batch of one.
        actions: int64 [answered], what was done so far.
    """

    task: Any  # the InteractiveTask; each picture knows its own
    start: State
    actions: NDArray[np.int64]

    @property
    def answered(self) -> int:
        """Number of steps so far."""
        return len(self.actions)

    @cached_property
    def outcomes(self) -> list[Outcome]:
        """What each action brought; the episode is played again for it."""
        task: InteractiveTask = self.task
        state, outcomes = self.start, []
        for step in range(self.answered):
            outcomes.append(task.step(state, step, self.actions[step : step + 1]))
            state = outcomes[-1].state
        return outcomes

    @property
    def rewards(self) -> NDArray[np.float64]:
        """Rewards [answered] so far."""
        return np.array([outcome.rewards[0] for outcome in self.outcomes], np.float64)

    @property
    def state(self) -> State:
        """The state now."""
        return self.outcomes[-1].state if self.outcomes else self.start


def bandit_text(view: InteractiveView) -> str:
    """Write a bandit as a table, a line per trial; the arms' means stand above."""
    means = view.start.means[0]
    lines = ["means  " + "  ".join(f"{k}: {mean:.2f}" for k, mean in enumerate(means))]
    lines.append(f"{'step':>4}{'arm':>6}{'reward':>8}")
    for step, (arm, reward) in enumerate(zip(view.actions, view.rewards, strict=True)):
        lines.append(f"{step:>4}{arm:>6}{reward:>8.0f}")
    return "\n".join([*lines, _last_line(view)])


def bandit_picture(view: InteractiveView) -> NDArray[np.uint8]:
    """Draw a bandit: the arms' means, and which arm was pulled when, with what success."""
    means = view.start.means[0]
    figure = new_figure(view)
    arms, pulls = figure.subplots(1, 2, sharey=True, width_ratios=[1, 4])
    names = np.arange(len(means))
    best = means.argmax()
    arms.barh(names, means, color=[_GOOD if k == best else "0.8" for k in names])
    arms.set(xlim=(0, 1), xlabel="mean", ylabel="arm", yticks=names)
    arms.invert_yaxis()
    steps, paid = np.arange(view.answered), view.rewards > 0
    pulls.plot(steps[paid], view.actions[paid], "o", color=_GOOD, ms=5, label="paid")
    pulls.plot(steps[~paid], view.actions[~paid], "x", color=_BAD, ms=5, label="did not")
    pulls.set(xlim=(-0.5, view.task.num_steps - 0.5), xlabel="trial")
    _legend(pulls, 1.08)
    return pixels(figure)


def target_search_text(view: InteractiveView) -> str:
    """Write a target search as a table, a line per step; `*` marks questions."""
    task: TargetSearch = view.task
    lines = [f"target {view.start.target[0]}", "step   shown  answer  target  reward"]
    for step in range(min(view.answered + 1, task.num_steps)):
        shows = int(view.start.schedule[0, step])
        asked = shows == task.num_cues
        cells = ["?" if asked else "·" if shows == BLANK else str(shows), *["·"] * 3]
        if step < view.answered:
            truth = str(view.start.truth[0, step]) if asked else "·"
            cells[1:] = [str(view.actions[step]), truth, f"{view.rewards[step]:.0f}"]
        row = "".join(f"{cell:>8}" for cell in cells)[1:]
        lines.append(f"{step:>4} {'*' if asked else ' '}{row[1:]}")
    return "\n".join([*lines, _last_line(view)])


def target_search_picture(view: InteractiveView) -> NDArray[np.uint8]:
    """Draw a target search: which cue was shown when, and below the answers where asked for."""
    task: TargetSearch = view.task
    schedule, target = view.start.schedule[0], int(view.start.target[0])
    figure = new_figure(view)
    shown, answers = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    seen = np.arange(min(view.answered + 1, task.num_steps))
    cues = seen[(schedule[seen] != BLANK) & (schedule[seen] != task.num_cues)]
    colours = [_GOOD if schedule[step] == target else _NEUTRAL for step in cues]
    shown.scatter(cues, schedule[cues], c=colours, marker="s", s=22)
    labels = [f"cue {k}" + (" (target)" if k == target else "") for k in range(task.num_cues)]
    shown.set_yticks(range(task.num_cues), labels, fontsize=8)
    shown.set_ylim(task.num_cues - 0.5, -0.5)
    shown.set_title("shown (shaded: the answer is asked for)", fontsize=9, loc="left")
    questions = np.flatnonzero(schedule == task.num_cues)
    for step in questions:
        for axes in (shown, answers):
            axes.axvspan(step - 0.5, step + 0.5, color=_SHADE, lw=0, zorder=0)
    done = questions[questions < view.answered]
    right = view.actions[done] == view.start.truth[0, done]
    answers.plot(done[right], view.actions[done][right], "o", color=_GOOD, ms=6, label="right")
    answers.plot(done[~right], view.actions[done][~right], "x", color=_BAD, ms=7, label="wrong")
    answers.set_yticks([0, 1], ["not shown", "shown"], fontsize=8)
    answers.set(xlim=(-0.5, task.num_steps - 0.5), ylim=(-0.6, 1.6), xlabel="step")
    answers.set_title("answer: was the target shown in this trial?", fontsize=9, loc="left")
    _legend(answers, 1.16)
    return pixels(figure)


def maze_text(view: InteractiveView) -> str:
    """Write a maze: `#` walls, `A` the agent, `R` the place of the reward."""
    size = view.task.size
    signs = np.where(view.task.grid.walls, "#", ".")
    signs[view.state.goal[0]] = "R"
    signs[view.state.position[0]] = "A"
    lines = [" ".join(row) for row in signs.reshape(size, size)]
    return "\n".join([*lines, f"visits {view.state.visits[0]}", _last_line(view)])


def maze_picture(view: InteractiveView) -> NDArray[np.uint8]:
    """Draw a maze: the way since the last visit, the agent and its view, the hidden place."""
    size, state = view.task.size, view.state
    figure = new_figure(view)
    maze, returns = figure.subplots(1, 2, width_ratios=[3, 2])
    maze.imshow(view.task.grid.walls.reshape(size, size), cmap="Greys", vmin=0, vmax=1.4)
    row, column = divmod(int(state.position[0]), size)
    goal_row, goal_column = divmod(int(state.goal[0]), size)
    maze.add_patch(_square(goal_row, goal_column, 1, color=_GOOD, alpha=0.5))
    maze.add_patch(_square(row, column, 3, fill=False, edgecolor=_BAD, linestyle="--"))
    rows, columns = np.divmod(_way(view), size)
    maze.plot(columns, rows, "-", color=_BAD, alpha=0.6)
    maze.plot(column, row, "o", color=_BAD, ms=11)
    maze.set(xticks=[], yticks=[])
    maze.set_title(f"{int(state.visits[0])} visits, and the way since", fontsize=9, loc="left")
    returns.plot(np.arange(view.answered + 1), np.append(0, view.rewards.cumsum()), color=_GOOD)
    returns.set(xlim=(0, view.task.num_steps), xlabel="step")
    returns.set_title("return", fontsize=9, loc="left")
    return pixels(figure)


def _way(view: InteractiveView) -> NDArray[np.int64]:
    """Return the places since the agent was last put somewhere."""
    way = [view.start.position[0]]
    for outcome in view.outcomes:
        if outcome.infos["reached"][0]:
            way = []
        way.append(outcome.state.position[0])
    return np.array(way)


def _square(row: int, column: int, width: int, **style: Any) -> Any:
    from matplotlib.patches import Rectangle  # slow to import: only when drawn

    return Rectangle((column - width / 2, row - width / 2), width, width, **style)


def _legend(axes: "Axes", height: float) -> None:
    axes.legend(loc="upper right", bbox_to_anchor=(1, height), fontsize=8, ncols=2, frameon=False)


def _last_line(view: InteractiveView) -> str:
    total = view.rewards.sum()
    return f"return {total:.3f} after {view.answered} of {view.task.num_steps} steps"
