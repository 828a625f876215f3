"""Plots of training curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reproduce.common.history import Curve

COLORS = {
    "plain": "#4c72b0",
    "doubled": "#8172b3",
    "two_pass": "#55a868",
    "rdrop": "#c44e52",
}


@dataclass(frozen=True)
class Score:
    """A quantity of the history to plot, and its label."""

    name: str
    title: str


ACCURACY = Score("accuracy", "accuracy")


def plot_curves(
    runs: list[tuple[str, dict[str, Curve]]],
    title: str,
    path: Path,
    score: Score = ACCURACY,
) -> None:
    """Plots training loss, validation loss and one score of all runs.

    For several seeds of one arm, the mean is drawn, with the validation curves
    of the single seeds in a fainter line.
    """
    # Unlike pyplot, a Figure needs no display and no global state.
    figure = Figure(figsize=(11, 5), layout="constrained")
    FigureCanvasAgg(figure)
    loss, scores = figure.subplots(1, 2)
    figure.suptitle(title)
    for arm in dict.fromkeys(arm for arm, _ in runs):
        of_arm = [history for its_arm, history in runs if its_arm == arm]

        def draw(axes, part, *names, arm=arm, of_arm=of_arm):
            curves = [
                next((h[name] for name in names if name in h), [])
                for h in of_arm
            ]
            _draw(axes, arm, part, [curve for curve in curves if curve])

        # `loss` includes R-Drop's term; `task_loss` is comparable between arms.
        draw(loss, "train", "task_loss", "loss")
        draw(loss, "validation", "val_loss")
        draw(scores, "train", score.name)
        draw(scores, "validation", f"val_{score.name}")
    _finish(loss, "task loss")
    _finish(scores, score.title)
    # Inside the axes, a legend of four arms would cover the curves.
    handles, labels = loss.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    figure.savefig(path, dpi=120)


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Returns the mean of curves at the epochs that all of them have."""
    values = [dict(curve) for curve in curves]
    common = sorted(set.intersection(*(set(curve) for curve in values)))
    return [(e, fmean(curve[e] for curve in values)) for e in common]


def _draw(axes: Axes, arm: str, part: str, curves: Sequence[Curve]) -> None:
    mean = mean_curve(curves) if curves else []
    is_train = part == "train"
    style = {"color": COLORS[arm], "linestyle": "--" if is_train else "-"}
    if len(curves) > 1 and not is_train:
        # Training curves of single seeds would clutter the plot.
        for curve in curves:
            axes.plot(*zip(*curve), **style, alpha=0.2, linewidth=0.8)
    if not mean:
        return
    axes.plot(
        *zip(*mean),
        **style,
        alpha=0.6 if is_train else 1.0,
        marker="." if len(mean) == 1 else None,
        label=f"{arm}, {part}",
    )


def _finish(axes: Axes, quantity: str) -> None:
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(quantity)
    axes.grid(alpha=0.3)
