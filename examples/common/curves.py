"""Pictures of how losses went."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from examples.common.history import Curve

COLORS = {
    "plain": "#4c72b0",
    "doubled": "#8172b3",
    "two_pass": "#55a868",
    "rdrop": "#c44e52",
}


@dataclass(frozen=True)
class Score:
    """A quantity of the history to draw, and what it is called."""

    name: str
    title: str


ACCURACY = Score("accuracy", "accuracy")


def plot_curves(
    runs: list[tuple[str, dict[str, Curve]]],
    title: str,
    path: Path,
    score: Score = ACCURACY,
) -> None:
    """Draws training and validation loss of all runs, and one more score.

    Args:
        runs: For each run its arm and its history. Runs of one arm, with
            different seeds, share a colour and a legend entry.
        title: What was trained.
        path: The picture to write, a PNG.
        score: What to draw beside the loss, in training and validation, as far
            as the history has it.
    """
    # Figure, not pyplot: no display and no state of the whole process.
    figure = Figure(figsize=(11, 5), layout="constrained")
    FigureCanvasAgg(figure)
    loss, scores = figure.subplots(1, 2)
    figure.suptitle(title)
    for arm, history in runs:
        # `loss` holds R-Drop's own term; `task_loss` compares between arms.
        train = history.get("task_loss", history.get("loss", []))
        _draw(loss, arm, "train", train)
        _draw(loss, arm, "validation", history.get("val_loss", []))
        validated = history.get(f"val_{score.name}", [])
        _draw(scores, arm, "train", history.get(score.name, []))
        _draw(scores, arm, "validation", validated)
    _finish(loss, "task loss")
    _finish(scores, score.title)
    # Outside: with four arms it would cover where the curves part.
    handles, labels = loss.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    figure.savefig(path, dpi=120)


def _draw(axes: Axes, arm: str, part: str, curve: Curve) -> None:
    if not curve:
        return
    label = f"{arm}, {part}"
    known = {line.get_label() for line in axes.lines}
    axes.plot(
        *zip(*curve),
        color=COLORS[arm],
        linestyle="--" if part == "train" else "-",
        alpha=0.6 if part == "train" else 1.0,
        marker="." if len(curve) == 1 else None,
        label="_" + label if label in known else label,
    )


def _finish(axes: Axes, quantity: str) -> None:
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(quantity)
    axes.grid(alpha=0.3)
