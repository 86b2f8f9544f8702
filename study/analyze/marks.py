"""Words for the marks of a figure, which a page shows under the mouse. A picture leaves them out."""

import html
import json
import re
from collections.abc import Sequence
from typing import Any

from study.analyze.analysis import Analysis
from study.analyze.tables import settings
from study.select.choice import points
from study.study import Record

#: a line or a scatter with markers; one without any is `<g .../>`
MARKS = re.compile(r"""<g id=(["'])marks ([^\n]*?)\1>(.*?</g>\s*</g>)""", re.S)


def explain(drawn: Any, words: Sequence[str]) -> None:
    """Give each marker of what was drawn its words, in order."""
    drawn.set_gid(f"marks {json.dumps(list(words))}")


def with_words(svg: str) -> str:
    """A figure as SVG, each explained marker with its words as a title."""
    return MARKS.sub(lambda group: _titled(group[3], json.loads(html.unescape(group[2]))), svg)


def _titled(group: str, words: Sequence[str]) -> str:
    if group.count("<use ") != len(words):  # one lies outside the figure: no mark has another one's words
        return f"<g>{group}"
    left = iter(words)
    return "<g>" + re.sub(
        r"<use ([^>]*?)/>", lambda mark: f"<use {mark[1]}><title>{html.escape(next(left))}</title></use>", group
    )


def of_trials(analysis: Analysis) -> list[str]:
    """The words of each complete trial."""
    return [_of_trial(analysis, record) for record in analysis.complete]


def _of_trial(analysis: Analysis, record: Record) -> str:
    score, config = record.done.score, settings(record.config, analysis.study.space)
    accuracies = f"mixture {score.mixture_accuracy:.2%}, baseline {score.baseline_accuracy:.2%}"
    return f"trial {record.trial}, seed {record.config.seed}: {config}\ngain {points(score.gain)} points, {accuracies}"
