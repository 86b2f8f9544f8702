"""Figures in one look, each with its title and what it is of; saved, each file appears whole.

results/NAME/figures/gains.png  trials.png  accuracies.png  effects.png  curves.png  cost.png
"""

import io
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from moe.files import replace_file
from study.analyze.analysis import Analysis
from study.analyze.figures import PLOTS, comparable, has_curves
from study.analyze.tables import scored

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


def figures(analysis: Analysis, titled: bool = True) -> dict[str, Figure]:
    """The figures that the trials allow, by name; without title and caption for a page that has its own."""
    needs = {"effects": comparable, "curves": has_curves}
    names = [name for name in PLOTS if name not in needs or needs[name](analysis)] if analysis.complete else []
    with _look():
        return {name: _figure(name, analysis, titled) for name in names}


@contextmanager
def _look() -> Iterator[None]:
    """Matplotlib's settings, whatever the user's own style is."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a study's name may need letters that the font lacks
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(LOOK)
        yield


def _figure(name: str, analysis: Analysis, titled: bool) -> Figure:
    title, plot = PLOTS[name]
    figure = Figure(layout=ConstrainedLayoutEngine(h_pad=0.08))
    plot(figure, analysis)
    if titled:
        _frame(figure, title, analysis)
    return figure


def draw(analysis: Analysis) -> str:
    """Draw what the trials allow; which files were written, in words. Nothing else in the folder is touched.

    Raises:
        FolderError: their folder is a link.
        OSError: the figures cannot be written.
    """
    if not analysis.complete:
        return f"{analysis.study.name}: no figures, since no trial is complete"
    folder = analysis.folder.subfolder("figures")
    found = figures(analysis)
    with _look():
        for name, figure in found.items():
            content = io.BytesIO()
            figure.savefig(content, format="png", dpi=DPI)
            replace_file(folder / f"{name}.png", content.getvalue())
    return f"Figures in {folder}: {', '.join(f'{name}.png' for name in found)}"


def _frame(figure: Figure, title: str, analysis: Analysis) -> None:
    """Put the title above what is drawn, and the caption below."""
    width, height = figure.get_size_inches()
    study, number = analysis.study, len(analysis.complete)
    caption = textwrap.wrap(
        f"{study.name}: {number} trial{'s' if number > 1 else ''}, {study.dataset}, protocol {study.protocol}, each "
        f"trial scored on {scored(study, analysis.complete)}, space {study.space.name}, sampler {study.sampler}",
        int(CAPTION_CHARACTERS_PER_INCH * width),
    )
    figure.text(0.01, 0.08 / height, "\n".join(caption), fontsize=9.5, color="0.4", va="bottom")
    figure.text(0.01, 1 - 0.1 / height, title, fontsize=15, fontweight="bold", va="top")
    below, above = (0.16 * len(caption) + 0.15) / height, 0.45 / height
    layout = figure.get_layout_engine()
    assert isinstance(layout, ConstrainedLayoutEngine)
    layout.set(rect=(0.005, below, 0.99, 1 - below - above))
