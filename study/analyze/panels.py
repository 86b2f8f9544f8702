"""What the figure of effects shows, and the colours of all figures."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study.analyze.analysis import Analysis
from study.analyze.effects import interval

BLUE, ORANGE, LIGHT, GREY = "#0072b2", "#d55e00", "#e69f00", "0.45"  # told apart by all eyes (Okabe and Ito)
MEASURES = {"gain": (BLUE, "o"), "mixture_accuracy": (ORANGE, "s")}
PANELS_IN_A_ROW = 3
MOST_CHARACTERS = 30  # below a panel
MANY_LEVELS = 12


def comparable(analysis: Analysis) -> bool:
    """Whether a parameter has two levels that were tried."""
    return any(len(set(column)) > 1 for column in analysis.points.T.tolist())


def effects(figure: Figure, analysis: Analysis) -> None:
    """The effect of each parameter's levels: a panel for each parameter, and an axis of its own for each measure."""
    grids = analysis.study.space.grids
    columns = min(len(grids), PANELS_IN_A_ROW)
    rows = -(-len(grids) // columns)
    figure.set_size_inches(max(7.0, 3.6 * columns), 2.5 * rows * len(MEASURES) + 1.2)
    panels = figure.subplots(rows * len(MEASURES), columns, squeeze=False)
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


def _panel(axes: Axes, analysis: Analysis, measure: str, place: int) -> None:
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
    effect, half = interval(analysis, measure, place)
    colour, marker = MEASURES[measure]
    axes.errorbar(positions, 100 * effect, 100 * half, fmt=marker, color=colour, ms=size, capsize=cap)
    if np.isnan(effect).all():
        axes.text(0.5, 0.6, "one value tried", ha="center", transform=axes.transAxes)
