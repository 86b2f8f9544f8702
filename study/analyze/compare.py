"""Several studies side by side, and whether they can be compared."""

import textwrap
from collections.abc import Callable, Iterator, Sequence

from study.analyze.analysis import Analysis
from study.analyze.layout import Column, paragraph, table
from study.analyze.text import heading, scored
from study.console import duration
from study.select.choice import points
from study.study import COMPLETE, FAILED

LEAST_WIDTH, MOST_WIDTH = 14, 40  # of a study's column


def comparison(analyses: Sequence[Analysis], width: int) -> str:
    """The studies as columns, and a warning where they were not measured alike."""
    warning = "".join(f"\n\n{paragraph(sentence, width)}" for sentence in _differences(analyses))
    blocks = "\n\n".join(_blocks(analyses, width))
    return f"{heading('Side by side')}\n\n{blocks}{warning}\n"


def _blocks(analyses: Sequence[Analysis], width: int) -> Iterator[str]:
    """Tables of as many studies as fit beside each other."""
    while analyses:
        for number in range(len(analyses), 0, -1):
            block = _beside(analyses[:number], width)
            if max(map(len, block.split("\n"))) <= width:
                break
        yield block
        analyses = analyses[number:]


def _beside(analyses: Sequence[Analysis], width: int) -> str:
    labels = max(map(len, _ROWS))
    room = max(LEAST_WIDTH, min(MOST_WIDTH, (width - labels) // len(analyses) - 2))
    wrapped = [[_wrapped(row(analysis), room) for row in _ROWS.values()] for analysis in analyses]
    heights = [max(len(cells[row]) for cells in wrapped) for row in range(len(_ROWS))]
    names = [line for name, height in zip(_ROWS, heights, strict=True) for line in [name, *[""] * (height - 1)]]
    columns = [Column("", names, left=True)]
    for analysis, cells in zip(analyses, wrapped, strict=True):
        filled = [cell + [""] * (height - len(cell)) for cell, height in zip(cells, heights, strict=True)]
        columns.append(Column(analysis.study.name, [line for cell in filled for line in cell], left=True))
    return table(columns, width)[0]


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


def _value(analysis: Analysis, value: float) -> str:
    return f"{points(value)} points" if analysis.study.objective == "gain" else f"{100 * value:.2f} %"


def _raw(analysis: Analysis) -> str:
    if not len(analysis.table):
        return "-"
    values = analysis.values(analysis.study.objective)
    return f"{_value(analysis, values.max())} (trial {analysis.complete[values.argmax()].trial})"


def _estimate(analysis: Analysis) -> str:
    if not len(analysis.table):
        return "-"
    fit = analysis.fits[analysis.study.objective]
    return f"{_value(analysis, fit.estimate[fit.best])} ± {100 * fit.error[fit.best]:.2f}"


def _config(analysis: Analysis) -> str:
    if not analysis.choice:
        return "-"
    config = analysis.choice.config
    return ", ".join(f"{name} {config[name]}" for name in analysis.study.space.grids) or "every field is fixed"


def _noise(analysis: Analysis) -> str:
    choice = analysis.choice
    return f"{100 * choice.noise:.2f} points (from {choice.noise_from})" if choice else "-"


def _total(column: str) -> Callable[[Analysis], str]:
    return lambda analysis: f"{analysis.values(column).sum():.0f}"


def _time(column: str) -> Callable[[Analysis], str]:
    return lambda analysis: duration(analysis.values(column).sum())


_ROWS: dict[str, Callable[[Analysis], str]] = {
    "trials complete": lambda analysis: f"{len(analysis.of(COMPLETE))} of {analysis.study.trials}",
    "failed": lambda analysis: str(len(analysis.of(FAILED))),
    "data set": lambda analysis: analysis.study.dataset,
    "protocol": lambda analysis: analysis.study.protocol,
    "scored on": lambda analysis: scored(analysis.study),
    "space": lambda analysis: f"{analysis.study.space.name} ({analysis.study.space.size} points)",
    "objective": lambda analysis: analysis.study.objective,
    "best raw": _raw,
    "best estimate": _estimate,
    "chosen config": _config,
    "noise of a trial": _noise,
    "epochs trained": _total("epochs_trained"),
    "epochs reused": _total("epochs_reused"),
    "time of trials": _time("seconds"),
    "time reused": _time("seconds_reused"),
}


def _differences(analyses: Sequence[Analysis]) -> list[str]:
    """What keeps the studies from being compared, in a sentence."""
    aspects: dict[str, Callable[[Analysis], object]] = {
        "data": lambda analysis: (analysis.study.dataset, analysis.study.data),
        "protocol": lambda analysis: analysis.study.protocol,
        "scored images": _scored_images,
    }
    differing = [name for name, aspect in aspects.items() if len({aspect(analysis) for analysis in analyses}) > 1]
    if not differing:
        return []
    return [f"Not comparable: the studies differ in {' and '.join(differing)}."]


def _scored_images(analysis: Analysis) -> object:
    """How many images score a trial; in protocol notebook each number that the space can ask for."""
    space = analysis.study.space
    if analysis.study.protocol == "notebook":
        return frozenset(space.grids.get("test_examples", (space.score_examples(),)))
    found = {record.done.scored_examples for record in analysis.complete}
    return frozenset(found or {space.score_examples()})
