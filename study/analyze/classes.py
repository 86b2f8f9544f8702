"""Accuracy by class and where the gain comes from, of the chosen config and of its confirmation. No torch.

right or wrong bits of the records, classes of the scored images --> shaded tables
"""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moe.config import CLASS_NAMES, NOTEBOOK
from moe.data.cache import find
from moe.data.subset import split
from moe.files import user_cache
from moe.store.location import default_location
from study.analyze.analysis import Analysis
from study.analyze.markup import Cell, shaded
from study.confirm.outcome import ConfigOutcome, Outcome, Parts
from study.confirm.plan import CHOICE
from study.select.choice import points
from study.study import Record, Study

#: the steps from the baseline to the mixture, and one beyond it: in words, an arm less another
STEPS = (
    ("gain", "mixture", "baseline"),
    ("of it: gated expert, averaged with the baseline", "average", "baseline"),
    ("of it: the subgates' weights", "mixture", "average"),
    ("the true superclass as gate would add", "oracle", "mixture"),
)


@dataclass(frozen=True)
class Scored:
    """The images that score a study's trials, in the order of the bits of its records."""

    images: NDArray[np.uint8]  # (N, 32, 32, 3)
    labels: NDArray[np.int64]  # (N,)


def classes(analysis: Analysis, outcome: Outcome | None) -> Iterator[str]:
    """The chosen config class by class; what takes images or a store that are not here is left out, with a line."""
    if not analysis.choice:
        return
    chosen = [record for record in analysis.complete if record.trial in analysis.choice.trials]
    yield "<h2>Accuracy by class, and where the gain comes from</h2>"
    if outcome:
        yield _confirmed(analysis.study.dataset, outcome.configs[CHOICE], outcome.images)
    scored = _scored_images(analysis.study, chosen[0])
    if scored is None:
        yield _left_out(analysis, "Accuracy by class, confusion and sample images", "the study's images")
        return
    yield from _by_class(analysis.study, chosen, scored.labels)
    yield _said(analysis, chosen, scored) or _left_out(
        analysis, "Confusion and sample images", "a store with what the chosen config's networks predicted"
    )


def _said(analysis: Analysis, chosen: Sequence[Record], scored: Scored) -> str:
    """What the chosen config's networks said, by the study's stores that are on this machine; empty without."""
    runs, usual = analysis.folder.read_runs(), default_location()
    named = dict.fromkeys([*(usual if run.store == "default" else run.store for run in reversed(runs)), usual])
    stores = [path for path in map(Path, named) if path.is_dir()]
    if not stores:
        return ""
    from study.analyze.predictions import said  # torch, without which all the rest is made

    return said(analysis.study, chosen, scored, stores, runs)


def _left_out(analysis: Analysis, what: str, lacking: str) -> str:
    folder = escape(shlex.quote(str(analysis.folder.path)))
    return (
        f"<p>{what} are left out: this machine lacks {lacking}. On a machine like the study's, <code>python -m "
        f"study.reproduce {folder} --store DIR</code> and then <code>MOE_STORE=DIR python -m study.analyze "
        f"{folder}</code> show them.</p>"
    )


def _scored_images(study: Study, record: Record) -> Scored | None:
    """The images that score a complete trial, from this machine's cache of data; None where it lacks them."""
    arrays = find(user_cache(), study.data)
    if arrays is None:
        return None
    if study.protocol == NOTEBOOK:
        count = record.done.scored_examples
        return Scored(arrays.test_images[:count], arrays.test_labels[:count])
    _, rows = split(arrays.train_labels, record.config.seed)
    return Scored(arrays.train_images[rows], arrays.train_labels[rows])


def _by_class(study: Study, chosen: Sequence[Record], labels: NDArray[np.int64]) -> Iterator[str]:
    """The accuracies of the chosen config's trials class by class, mean over its seeds, and the steps of the gain."""
    names, arms = CLASS_NAMES[study.dataset], ("baseline", "average", "mixture", "oracle")
    rights = [record.done.right for record in chosen if record.done.right]
    if not rights:
        return
    right = {arm: np.mean([each.bits(arm, len(labels)) for each in rights], 0) for arm in arms}  # (images,)
    rows = []
    for name, of_class in [*((name, labels == label) for label, name in enumerate(names)), ("all", labels >= 0)]:
        share = {arm: float(right[arm][of_class].mean()) for arm in arms}
        cells = [(f"{100 * share[arm]:.1f}", share[arm]) for arm in ("baseline", "mixture")]
        rows.append((name, cells, [share[arm] - share[minus] for _, arm, minus in STEPS]))
    seeds = f"{len(rights)} seeds" if len(rights) > 1 else "one seed"
    title = f"The chosen config on its {len(labels):,} scored images, {seeds}: accuracies in %, steps in points"
    shades = _differences([steps for *_, steps in rows])
    heads = ["baseline", "mixture", *(words for words, *_ in STEPS)]
    yield shaded(title, heads, [(name, [*cells, *more]) for (name, cells, _), more in zip(rows, shades, strict=True)])


def _confirmed(dataset: str, config: ConfigOutcome, images: int) -> str:
    """The steps of the gain on test images, as a confirmation has them."""
    parts: list[Parts] = [config.gain, *config.steps]
    names = [*CLASS_NAMES[dataset], "all"]
    columns = [[*part.classes, part.difference] for part in parts]
    title = f"The confirmation on {images:,} test images, {len(config.seeds)} fresh seeds: steps in points"
    heads = ["gain", *(f"of it: {part.words}" for part in config.steps)]
    return shaded(title, heads, zip(names, _differences(list(zip(*columns, strict=True))), strict=True))


def _differences(rows: Sequence[Sequence[float]]) -> list[list[Cell]]:
    """Differences of fractions in points, the largest with the strongest shade."""
    most = max((abs(value) for row in rows for value in row), default=0) or 1.0
    return [[(points(value), value / most) for value in row] for row in rows]
