"""The figures of a study: gains, trials, accuracies, effects, cost. `drawing.py` frames and saves them."""

from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from moe.console import duration
from study.analyze.analysis import Analysis
from study.analyze.effects import effect, intervals
from study.analyze.marks import explain, of_trials
from study.select.choice import gain_noise
from study.select.model import Z95
from study.select.trials import Floats, Ints
from study.study import FAILED, Objective

BLUE, ORANGE, LIGHT, GREY = "#0072b2", "#d55e00", "#e69f00", "0.45"  # told apart by all eyes (Okabe and Ito)
SHADES = ListedColormap(
    matplotlib.colormaps["viridis"](np.linspace(0, 0.8, 256))
)  # yellow is lost on white, and inverted on black
MEASURES: dict[Objective, tuple[str, str, str]] = {  # colour, marker and axis
    "gain": (BLUE, "o", "gain, percentage points"),
    "mixture_accuracy": (ORANGE, "s", "mixture accuracy, %"),
    "fair_gain": (GREY, "^", "fair gain, percentage points"),
}
MOST_CURVES = 300  # in a panel
FEW = 60  # trials that can be seen one by one
MOST_NUMBERS, LEAST_SPAN = 20, 5  # of an axis of trials
PANELS_IN_A_ROW = 3
MOST_CHARACTERS = 30  # below a panel
MANY_LEVELS = 12
MOST_COLOURS = 8


def gains(figure: Figure, analysis: Analysis) -> None:
    """Each trial's gain against its baseline's accuracy, the estimates with their intervals, and the front of both."""
    figure.set_size_inches(9, 6.2)
    axes = figure.add_subplot()
    baseline, gain = 100 * analysis.values("baseline_accuracy"), 100 * analysis.values("gain")
    halves = 100 * image_halves(analysis)
    size, alpha = _dots(len(gain))
    label = "one trial, 95 % over its images"
    dots = axes.errorbar(
        baseline, gain, halves, fmt="o", color=GREY, ms=0.7 * size, mew=0, elinewidth=1, alpha=0.6 * alpha
    )
    explain(dots.lines[0], of_trials(analysis))
    axes.errorbar([], [], [], fmt="o", color=GREY, ms=6, mew=0, label=label)
    where, fit = 100 * analysis.means("baseline_accuracy"), analysis.fits["gain"]
    estimate, half = 100 * fit.estimate, 100 * fit.half
    stated = ~np.isnan(half)
    if stated.any():
        label = "estimate, 95 % interval"
        axes.errorbar(where[stated], estimate[stated], half[stated], fmt="D", color=BLUE, ms=7, capsize=4, label=label)
    best = front(where, estimate)
    label = "front of the estimates"
    axes.plot(where[best], estimate[best], "-s", color=ORANGE, lw=1.5, ms=5, zorder=3, label=label)
    limits = _limits(np.concatenate([gain - halves, gain + halves, estimate[best], (estimate + half)[stated], [0.0]]))
    axes.set(ylim=limits, xlabel="baseline accuracy, %", ylabel="gain, percentage points")
    axes.axhline(0, color="black", lw=1)
    if analysis.study.reference:
        reference = max(100 * each.accuracy for each in analysis.study.reference)
        axes.axline(
            (reference, 0), slope=-1, color=GREY, ls="--", label=f"mixture equals best baseline, {reference:.1f} %"
        )
        axes.set_xlim(*_limits(np.append(baseline, reference)))
    _legend_above(axes)


def image_halves(analysis: Analysis) -> Floats:
    """(trials,) half the 95 % interval of each trial's gain over its images; noise between seeds comes on top."""
    return np.array([Z95 * gain_noise(record.done) for record in analysis.complete])


def front(first: Floats, second: Floats) -> Ints:
    """Which have no other that is as high in both and higher in one, by rising first."""
    order = np.lexsort((second, first))[::-1]
    beyond = np.maximum.accumulate(second[order])
    return np.asarray(order[np.append(True, second[order][1:] > beyond[:-1])][::-1], np.int64)


def trials(figure: Figure, analysis: Analysis) -> None:
    """The objective over trials, the best so far, and the highest estimate so far."""
    figure.set_size_inches(9, 5.6)
    axes = figure.add_subplot()
    numbers, values = _numbers(analysis), 100 * analysis.values(analysis.study.objective)
    size, alpha = _dots(len(values))
    dots = axes.plot(numbers, values, "o", color=GREY, ms=size, mew=0, alpha=alpha, zorder=3)
    explain(dots[0], of_trials(analysis))
    axes.plot([], [], "o", color=GREY, ms=8, mew=0, label="one trial")
    if len(values) > 1:
        largest = np.maximum.accumulate(values)
        axes.plot(numbers, largest, color=ORANGE, lw=2, drawstyle="steps-post", label="best observed, biased upward")
    places, estimates, halves = analysis.running_estimate
    estimates, halves = 100 * estimates, 100 * halves
    marker = "o" if len(places) == 1 else ""
    axes.plot(numbers[places], estimates, marker=marker, color=BLUE, lw=2.5, label="highest estimate")
    low, high = estimates - halves, estimates + halves
    if not np.isnan(halves).all():
        axes.fill_between(numbers[places], low, high, color=BLUE, alpha=0.15, lw=0, label="95 % interval")
    failed = np.array([record.trial for record in analysis.of(FAILED)], np.int64)
    if len(failed):
        mark, label = ("x" if len(failed) <= FEW else "|"), f"failed ({len(failed)})"
        axes.plot(failed, [0.02] * len(failed), mark, color="black", transform=axes.get_xaxis_transform(), label=label)
    axes.set_ylim(*_limits(np.concatenate([values, estimates, low, high])))
    _number_axis(axes, np.union1d(numbers, failed))
    axes.set_ylabel(MEASURES[analysis.study.objective][2])
    _legend_above(axes)


def accuracies(figure: Figure, analysis: Analysis) -> None:
    """The mixture's accuracy against its baseline's; above the diagonal the mixture gains."""
    figure.set_size_inches(8.6, 6.6)
    axes = figure.add_subplot()
    baseline, mixture = (100 * analysis.values(f"{name}_accuracy") for name in ("baseline", "mixture"))
    limits = _limits(np.concatenate([baseline, mixture]))
    lines = axes.plot(limits, limits, color=GREY, lw=1.5, ls="--", zorder=1, label="no gain")
    if analysis.choice:
        chosen = np.isin(_numbers(analysis), analysis.choice.trials)
        place = [baseline[chosen].mean()], [mixture[chosen].mean()]
        label = "chosen config" if chosen.sum() == 1 else "chosen config, mean"
        lines += axes.plot(*place, "o", ms=16, mfc="none", mec=ORANGE, mew=2, ls="none", label=label)
    size, alpha = _dots(len(mixture))
    name = _numeric(analysis)
    colours = analysis.values(name) if name else np.zeros(len(mixture))
    dots = axes.scatter(baseline, mixture, c=colours, cmap=SHADES, lw=0, s=1.6 * size**2, alpha=alpha)
    explain(dots, of_trials(analysis))
    axes.set(xlim=limits, ylim=limits, aspect="equal", xlabel="baseline accuracy, %", ylabel="mixture accuracy, %")
    handles: list[Any] = [*lines]
    labels = [str(line.get_label()) for line in lines]
    if name:
        number: Any = "auto" if len(np.unique(colours)) > MOST_COLOURS else None
        shades, values = dots.legend_elements(num=number, fmt="{x:g}", markersize=8, alpha=1.0)
        handles, labels = [*handles, *shades], [*labels, *(f"{name} {value}" for value in values)]
    axes.legend(handles, labels, loc="upper left", bbox_to_anchor=(1.02, 1), borderaxespad=0)


def _numeric(analysis: Analysis) -> str | None:
    """The first searched parameter with numbers of which several were tried."""
    grids = analysis.study.space.grids.items()
    names = [name for name, grid in grids if not isinstance(grid[0], bool) and np.ptp(analysis.values(name)) > 0]
    return names[0] if names else None


def has_curves(analysis: Analysis) -> bool:
    """Whether the trials have stages with several epochs."""
    return any(len(stage.epochs) > 1 for record in analysis.complete for stage in record.done.stages.values())


def curves(figure: Figure, analysis: Analysis) -> None:
    """Validation accuracy by epoch: a panel for each stage, a line for each distinct chain, the choice's on top."""
    figure.set_size_inches(11, 5.6)
    panels, stages = list(figure.subplots(2, 3).flat), analysis.complete[0].done.stages
    chosen = set(analysis.choice.trials if analysis.choice else ())
    for axes, name in zip(panels, stages, strict=False):
        chains: dict[tuple[float, ...], list[int]] = {}
        for record in analysis.complete:
            if stage := record.done.stages.get(name):
                points = tuple(100 * epoch.validation_accuracy for epoch in stage.epochs)
                chains.setdefault(points, []).append(record.trial)
        for line, of in sorted(chains.items(), key=lambda item: not chosen.isdisjoint(item[1]))[-MOST_CURVES:]:
            look: Any = {"color": GREY, "lw": 1, "alpha": 0.4} if chosen.isdisjoint(of) else {"color": ORANGE, "lw": 2}
            drawn = axes.plot(range(1, len(line) + 1), line, marker="o", ms=3, **look)
            who = f"trial {of[0]}{f' and {len(of) - 1} more' * (len(of) > 1)}"
            explain(drawn[0], [f"{who}: epoch {epoch}, {value:.2f} %" for epoch, value in enumerate(line, 1)])
        axes.set_title(name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in panels[len(stages) - 3 : len(stages)]:  # those without a panel below
        axes.set_xlabel("epoch")
    figure.supylabel("validation accuracy, %", fontsize=13)
    key = [Line2D([], [], color=ORANGE, label="chosen config"), Line2D([], [], color=GREY, label="other configs")]
    for axes in panels[len(stages) :]:
        axes.axis("off")
        axes.legend(handles=key, loc="center")


def cost(figure: Figure, analysis: Analysis) -> None:
    """The time that each trial took, and on top of it the time that reuse saved."""
    figure.set_size_inches(9, 5.0)
    axes = figure.add_subplot()
    numbers, trained, reused = _numbers(analysis), analysis.values("seconds"), analysis.values("seconds_reused")
    _number_axis(axes, numbers)
    low, high = axes.get_xlim()
    width = max(1.0, 0.75 * 72 * 8 / (high - low))  # of a bar in points: it is seen however many trials there are
    axes.vlines(numbers, 0, trained, colors=BLUE, lw=width)
    axes.vlines(numbers, trained, trained + reused, colors=LIGHT, lw=width)
    times = (
        f"\n{duration(new)} trained and evaluated, {duration(old)} saved"
        for new, old in zip(trained, reused, strict=True)
    )
    explain(axes.plot(numbers, trained + reused, "o", alpha=0)[0], list(map(str.__add__, of_trials(analysis), times)))
    for colour, label, seconds in ((BLUE, "trained and evaluated", trained), (LIGHT, "saved by reuse", reused)):
        axes.plot([], [], color=colour, lw=8, label=f"{label}, {duration(seconds.sum())} in all")
    axes.set_ylim(0, 1.05 * max(1e-9, (trained + reused).max()))
    axes.set_ylabel("seconds")
    axes.grid(visible=False, axis="x")
    _legend_above(axes)


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
    low, high = np.nanmin(values), np.nanmax(values)
    half = max(1.0, 0.575 * float(high - low))
    return float((low + high) / 2 - half), float((low + high) / 2 + half)


def _legend_above(axes: Axes) -> None:
    place: Any = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
    axes.legend(ncols=2, handlelength=1.5, columnspacing=1.5, **place)


def comparable(analysis: Analysis) -> bool:
    """Whether a parameter has two levels that were tried."""
    return any(len(set(column)) > 1 for column in analysis.levels.T.tolist())


def effects(figure: Figure, analysis: Analysis) -> None:
    """The effect of each parameter's levels: a panel for each parameter, and an axis of its own for each measure."""
    grids = analysis.study.space.grids
    columns = min(len(grids), PANELS_IN_A_ROW)
    rows = -(-len(grids) // columns)
    figure.set_size_inches(max(7.0, 3.6 * columns), 2.5 * rows * len(analysis.measures) + 1.2)
    panels = figure.subplots(rows * len(analysis.measures), columns, squeeze=False)
    for block, measure in enumerate(analysis.measures):
        of_measure = panels[block * rows : (block + 1) * rows]
        for row in of_measure:
            row[0].set_ylabel(measure.replace("_", " "))
        for place, axes in enumerate(of_measure.flat):
            if place < len(grids):
                axes.sharey(of_measure[0][0])
                _panel(axes, analysis, measure, place)
            else:
                axes.remove()
    figure.supylabel("difference to the mean over values, points", fontsize=13)


def _panel(axes: Axes, analysis: Analysis, measure: Objective, place: int) -> None:
    name, grid = list(analysis.study.space.grids.items())[place]
    axes.set_title(name, fontsize=12)
    axes.axhline(0, color=GREY, lw=1)
    positions = np.arange(len(grid))
    labels = [str(value) for value in grid]
    step = -(-len(grid) // max(2, MOST_CHARACTERS // (max(map(len, labels)) + 1)))
    axes.set_xticks(positions[::step], labels[::step], fontsize=12)
    axes.set_xlim(-0.6, len(grid) - 0.4)
    axes.grid(visible=False, axis="x")
    axes.tick_params(labelleft=place % PANELS_IN_A_ROW == 0)
    size, cap = (6, 3) if len(grid) <= MANY_LEVELS else (3, 0)
    found, half = intervals(analysis, measure, place)
    tried = ~np.isnan(found)
    colour, marker, _ = MEASURES[measure]
    bars = axes.errorbar(
        positions[tried], 100 * found[tried], 100 * half[tried], fmt=marker, color=colour, ms=size, capsize=cap
    )
    words = [f"{name} {grid[level]}: {effect(analysis, measure, place, level)} points" for level in positions[tried]]
    explain(bars.lines[0], words)
    if not tried.any():
        axes.text(0.5, 0.6, "one value tried", ha="center", transform=axes.transAxes)


#: per name its title and what draws it
PLOTS: dict[str, tuple[str, Callable[[Figure, Analysis], None]]] = {
    "gains": ("Gain against the baseline's accuracy", gains),
    "trials": ("The trials, and the highest estimate so far", trials),
    "accuracies": ("Mixture against baseline", accuracies),
    "effects": ("Effects of the searched parameters, 95 % intervals", effects),
    "curves": ("Learning curves of the stages", curves),
    "cost": ("Time trained and time reused", cost),
}
