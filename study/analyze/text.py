"""What is said of one study in a terminal: how far it is, its configs, its parameters' effects, and notes on them."""

import re
from collections import defaultdict
from collections.abc import Iterator

from study.analyze.analysis import Analysis
from study.analyze.effects import at_the_edge, effects
from study.analyze.layout import paragraph
from study.analyze.ranking import ranking, weak_baseline
from study.analyze.tables import what_the_store_saved
from study.study import COMPLETE, FAILED, RUNNING, Study


def report(analysis: Analysis, rows: int, width: int) -> str:
    """All that is said of a study.

    Args:
        analysis: of the study.
        rows: how many configs to show; 0 for all.
        width: characters in a line.
    """
    parts = [heading(analysis.study.name), paragraph(_standing(analysis), width)]
    if len(analysis.table):
        parts += [ranking(analysis, rows, width), effects(analysis, width)]
    notes = [paragraph(note, width, "- ") for note in _notes(analysis)]
    return "\n\n".join([*parts, "\n".join(notes)]).rstrip() + "\n"


def heading(title: str) -> str:
    """A title, underlined."""
    return f"{title}\n{'=' * len(title)}"


def scored(study: Study) -> str:
    """Which images a study's trials are scored on."""
    if study.protocol == "notebook":
        return "each trial's own first test images"
    return f"{study.space.score_examples()} validation images"


def _standing(analysis: Analysis) -> str:
    study, space = analysis.study, analysis.study.space
    counts = [f"{len(analysis.of(COMPLETE))} of {study.trials} trials complete"]
    if failed := analysis.of(FAILED):
        counts.append(f"{len(failed)} failed")
    if running := analysis.of(RUNNING):
        counts.append(f"{len(running)} under way, or left by an interruption")
    return (
        f"{', '.join(counts)}. Data: {study.source}. Space {space.name} ({space.size} points), "
        f"sampler {study.sampler}, objective {study.objective}, protocol {study.protocol}, scored on {scored(study)}."
    )


def _notes(analysis: Analysis) -> Iterator[str]:
    """What to know besides, a sentence or two each."""
    if analysis.study.protocol == "notebook":
        yield (
            "Protocol notebook: the test images that score a trial also stopped its training, so its accuracies are "
            "optimistic; they compare with published runs only."
        )
    if len(analysis.table):
        yield from weak_baseline(analysis)
        yield from at_the_edge(analysis)
    if saved := what_the_store_saved(analysis.complete):
        yield saved
    yield from _failures(analysis)


def _failures(analysis: Analysis) -> Iterator[str]:
    """Why trials failed, the most frequent reason first; reasons that differ in numbers only are one."""
    reasons = defaultdict(list)
    for record in analysis.of(FAILED):
        reasons[re.sub(r"\d+", "#", record.error or "")].append(record)
    for records in sorted(reasons.values(), key=len, reverse=True):
        numbers = [str(record.trial) for record in records]
        which = ", ".join(numbers if len(numbers) <= 5 else [*numbers[:3], "...", numbers[-1]])
        reason = records[0].error or "no reason was recorded"
        yield f"{len(records)} failed (trial{'s' if len(records) > 1 else ''} {which}): {reason}"
