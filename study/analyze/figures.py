"""The figures of a study: their look, their caption and their files, each of which appears whole.

results/NAME/figures/trials.png  accuracies.png  effects.png  cost.png
"""

import textwrap
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from study.analyze.analysis import Analysis
from study.analyze.panels import comparable, effects
from study.analyze.plots import accuracies, cost, trials
from study.analyze.text import scored

DPI = 150
CAPTION_CHARACTERS_PER_INCH = 13
LOOK: Any = {
    "figure.facecolor": "white",
    "font.size": 13,
    "axes.titlesize": 13,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "legend.frameon": False,
    "text.parse_math": False,  # a study's name may hold a $
}


#: per file its title and what draws it
PLOTS: dict[str, tuple[str, Callable[[Figure, Analysis], None]]] = {
    "trials.png": ("The trials, and what to expect of the best config", trials),
    "accuracies.png": ("Mixture against baseline", accuracies),
    "effects.png": ("Effects of the searched parameters, 95 % intervals", effects),
    "cost.png": ("Time trained and time reused", cost),
}


def draw(analysis: Analysis) -> str:
    """Draw what the trials allow and say what was written; nothing else in the folder is touched.

    Raises:
        OSError: the figures cannot be written.
    """
    if not len(analysis.table):
        return f"{analysis.study.name}: no figures, since no trial is complete"
    folder = analysis.folder.path / "figures"
    folder.mkdir(exist_ok=True)
    names = [name for name in PLOTS if name != "effects.png" or comparable(analysis)]
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a study's name may need letters that the font lacks
        matplotlib.rcdefaults()  # whatever the user's own style is
        matplotlib.rcParams.update(LOOK)
        for name in names:
            title, plot = PLOTS[name]
            figure = Figure(layout="constrained")
            plot(figure, analysis)
            _frame(figure, title, analysis)
            _save(figure, folder / name)
    return f"Figures in {folder}: {', '.join(names)}"


def _frame(figure: Figure, title: str, analysis: Analysis) -> None:
    """Put the title above what is drawn, and the caption below."""
    width, height = figure.get_size_inches()
    caption = even(_caption(analysis), int(CAPTION_CHARACTERS_PER_INCH * width))
    figure.text(0.01, 0.08 / height, "\n".join(caption), fontsize=9.5, color="0.4", va="bottom")
    figure.text(0.01, 1 - 0.1 / height, title, fontsize=15, fontweight="bold", va="top")
    below, above = (0.16 * len(caption) + 0.15) / height, 0.45 / height
    layout = figure.get_layout_engine()
    assert isinstance(layout, ConstrainedLayoutEngine)
    layout.set(rect=(0.005, below, 0.99, 1 - below - above), h_pad=0.08)


def even(text: str, width: int) -> list[str]:
    """As few lines as that width allows, none of which is much shorter than the others."""
    number = len(textwrap.wrap(text, width))
    least = next(fewer for fewer in range(1, width + 1) if len(textwrap.wrap(text, fewer)) <= number)
    return textwrap.wrap(text, least)


def _caption(analysis: Analysis) -> str:
    study = analysis.study
    optimistic = ", which also stopped its training" if study.protocol == "notebook" else ""
    return (
        f"{study.name}: {len(analysis.table)} trial{'s' if len(analysis.table) > 1 else ''}, {study.dataset}, "
        f"protocol {study.protocol}, scored on {scored(study)}{optimistic}, space {study.space.name}, "
        f"sampler {study.sampler}"
    )


def _save(figure: Figure, path: Path) -> None:
    partial = path.with_name(f".partial-{uuid.uuid4().hex}")
    try:
        figure.savefig(partial, format="png", dpi=DPI)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
