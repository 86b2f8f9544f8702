"""What the figures over trials show; each function draws into an empty figure."""

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from study.analyze.analysis import Analysis
from study.analyze.panels import BLUE, GREY, LIGHT, ORANGE
from study.console import duration
from study.select.model import Floats, Ints
from study.study import FAILED

LEAST_ESTIMATES, MOST_ESTIMATES = 15, 60  # along the trials
FEW_CELLS = 200_000  # of configs and levels, in all estimates together; what takes longer is drawn at fewer places
FIRST_ESTIMATE = 2  # after three trials; with fewer the interval leaves the figure
FEW = 60  # trials that can be seen one by one
MOST_NUMBERS, LEAST_SPAN = 20, 5  # of an axis of trials
MOST_COLOURS = 8


def trials(figure: Figure, analysis: Analysis) -> None:
    """The objective over trials, the best so far, and what the best config so far was expected to reach."""
    figure.set_size_inches(9, 5.6)
    axes = figure.add_subplot()
    numbers, values = _numbers(analysis), 100 * analysis.values(analysis.study.objective)
    size, alpha = _dots(len(values))
    axes.plot(numbers, values, "o", color=GREY, ms=size, mew=0, alpha=alpha, zorder=3)
    axes.plot([], [], "o", color=GREY, ms=8, mew=0, label="one trial")
    if len(values) > 1:
        largest = np.maximum.accumulate(values)
        axes.plot(numbers, largest, color=ORANGE, lw=2, drawstyle="steps-post", label="largest so far")
    places, estimates, halves = _running_estimate(analysis)
    label = "estimate of the best config so far, 95 % interval"
    if len(places) > 1:
        axes.fill_between(numbers[places], estimates - halves, estimates + halves, color=BLUE, alpha=0.15, lw=0)
        axes.plot(numbers[places], estimates, color=BLUE, lw=2.5, label=label)
    else:
        axes.errorbar(numbers[places], estimates, halves, fmt="none", color=BLUE, capsize=5, lw=2.5, label=label)
    failed = np.array([record.trial for record in analysis.of(FAILED)], np.int64)
    if len(failed):
        marker = "x" if len(failed) <= FEW else "|"
        bottom, label = axes.get_xaxis_transform(), f"failed ({len(failed)})"
        axes.plot(failed, [0.02] * len(failed), marker, color="black", transform=bottom, label=label)
    axes.set_ylim(*_limits(np.concatenate([values, estimates - halves, estimates + halves])))
    _number_axis(axes, np.union1d(numbers, failed))
    axes.set_ylabel("gain, percentage points" if analysis.study.objective == "gain" else "mixture accuracy, %")
    _legend_above(axes)


def _running_estimate(analysis: Analysis) -> tuple[Ints, Floats, Floats]:
    """After which trials, as places among the complete ones; the highest estimate then, and half its interval; in %."""
    last = len(analysis.table) - 1
    cells = len(analysis.fits[analysis.study.objective].estimate) * sum(map(len, analysis.study.space.grids.values()))
    number = max(LEAST_ESTIMATES, min(MOST_ESTIMATES, FEW_CELLS // max(1, cells)))
    places = np.unique(np.linspace(min(last, FIRST_ESTIMATE), last, number).round().astype(int))
    fits = [analysis.fit(analysis.study.objective, place + 1) for place in places]
    estimates = np.array([100 * fit.estimate[fit.best] for fit in fits])
    return places, estimates, np.array([100 * fit.quantile * fit.error[fit.best] for fit in fits])


def accuracies(figure: Figure, analysis: Analysis) -> None:
    """The mixture's accuracy against its baseline's; above the diagonal the mixture gains."""
    figure.set_size_inches(8.6, 6.6)
    axes = figure.add_subplot()
    baseline, mixture = (100 * analysis.values(f"{name}_accuracy") for name in ("baseline", "mixture"))
    limits = _limits(np.concatenate([baseline, mixture]))
    axes.plot(limits, limits, color=GREY, lw=1.5, ls="--", zorder=1)
    size, alpha = _dots(len(mixture))
    _coloured(figure, axes, analysis, baseline, mixture, s=1.6 * size**2, alpha=alpha)
    if analysis.choice:
        _mark_choice(axes, np.isin(_numbers(analysis), analysis.choice.trials), baseline, mixture)
    axes.set(xlim=limits, ylim=limits, aspect="equal", xlabel="baseline accuracy, %", ylabel="mixture accuracy, %")
    axes.plot([], [], color=GREY, lw=1.5, ls="--", label="no gain")
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1), borderaxespad=0)


def _mark_choice(axes: Axes, chosen: NDArray[np.bool_], x: Floats, y: Floats) -> None:
    """A ring around the chosen config's trial, or a diamond at the mean of its trials."""
    if chosen.sum() == 1:
        axes.plot(x[chosen], y[chosen], "o", ms=16, mfc="none", mec=ORANGE, mew=2, label="chosen config")
    else:
        axes.plot(
            x[chosen].mean(), y[chosen].mean(), "D", ms=11, color=ORANGE, mec="white", label="chosen config, mean"
        )


def _coloured(figure: Figure, axes: Axes, analysis: Analysis, x: Floats, y: Floats, **look: Any) -> None:
    """The trials as dots, coloured by the first parameter with numbers of which several were tried."""
    grids = {name: grid for name, grid in analysis.study.space.grids.items() if not isinstance(grid[0], bool)}
    tried = {name: np.unique(analysis.values(name)) for name in grids}
    name = next((name for name, found in tried.items() if len(found) > 1), None)
    if not name:
        axes.scatter(x, y, color=BLUE, lw=0, **look)
        axes.plot([], [], "o", color=BLUE, ms=8, mew=0, label="one trial")
        return
    shades = ListedColormap(colormaps["viridis"](np.linspace(0, 0.92, 256)))  # its lightest yellow is lost on white
    values, levels = analysis.values(name), tried[name]
    if len(levels) > MOST_COLOURS:
        dots = axes.scatter(x, y, c=values, cmap=shades, lw=0, **look)
        bar = axes.inset_axes((1.05, 0.02, 0.04, 0.6))
        figure.colorbar(ScalarMappable(dots.norm, shades), cax=bar, label=name)  # opaque, as its dots are not
        bar.grid(visible=False)
        return
    for level, colour in zip(levels, shades(np.linspace(0, 1, len(levels))), strict=True):
        of_level = values == level
        axes.scatter(x[of_level], y[of_level], color=colour, lw=0, **look)
        axes.plot([], [], "o", color=colour, ms=8, mew=0, label=f"{name} {level:g}")


def cost(figure: Figure, analysis: Analysis) -> None:
    """How long trials took, and what training they were spared: each if they are few, else added up."""
    figure.set_size_inches(9, 5.0)
    axes = figure.add_subplot()
    numbers = _numbers(analysis)
    few = bool(np.ptp(numbers) < FEW)  # else a bar is too thin to be seen
    trained, reused = analysis.values("seconds"), analysis.values("seconds_reused")
    labels = [
        f"trained and evaluated, {duration(trained.sum())} in all",
        f"spared by reuse, {duration(reused.sum())} in all",
    ]
    heights = [trained, reused] if few else [trained.cumsum(), reused.cumsum()]
    unit, seconds = _unit(float((heights[0] + heights[1]).max()))
    first, second = (height / seconds for height in heights)
    if few:
        axes.bar(numbers, first, color=BLUE, label=labels[0])
        axes.bar(numbers, second, bottom=first, color=LIGHT, label=labels[1])
    else:
        axes.stackplot(numbers, first, second, colors=[BLUE, LIGHT], labels=labels)
    axes.set_ylim(0, 1.05 * max(1e-9, (first + second).max()))
    _number_axis(axes, numbers)
    axes.set_ylabel(f"time taken and spared, {unit}" if few else f"time taken and spared so far, {unit}")
    axes.grid(visible=False, axis="x")
    _legend_above(axes)


def _unit(seconds: float) -> tuple[str, float]:
    """In which unit to show times up to so many seconds, and how many of them it has."""
    if seconds < 200:
        return "seconds", 1.0
    return ("minutes", 60.0) if seconds < 3 * 3600 else ("hours", 3600.0)


def _numbers(analysis: Analysis) -> Ints:
    return np.asarray(analysis.table["trial"], np.int64)


def _number_axis(axes: Axes, numbers: Ints) -> None:
    """An axis of trial numbers: each of them where they are few and close."""
    span = float(np.ptp(numbers))
    margin = 0.02 * span if span >= FEW else max(0.8, (LEAST_SPAN - span) / 2)
    axes.set_xlim(numbers.min() - margin, numbers.max() + margin)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    if span < MOST_NUMBERS:
        axes.set_xticks(numbers)
    axes.set_xlabel("trial")


def _dots(count: int) -> tuple[float, float]:
    """How large and how opaque the dots of so many trials are, so that they do not run into one."""
    return (8.0, 0.9) if count <= FEW else (5.0, 0.6) if count <= 1000 else (3.0, 0.3)


def _limits(values: Floats) -> tuple[float, float]:
    """An axis that holds the values with some room, and spans two points at least."""
    middle, span = (values.max() + values.min()) / 2, max(2.0, 1.15 * float(np.ptp(values)))
    return middle - span / 2, middle + span / 2


def _legend_above(axes: Axes) -> None:
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2, handlelength=1.5, columnspacing=1.5
    )
