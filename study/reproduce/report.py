"""A comparison in words and as a table. Strings in, strings out."""

import math
from collections.abc import Iterable, Sequence

from moe.config import Config
from moe.result import Result
from study.reproduce.circumstances import CHANGED, Circumstance
from study.reproduce.numbers import Comparison, Difference, Value
from study.select.choice import image_noise, points

ALWAYS = ("gain", "mixture_accuracy", "baseline_accuracy")  # what a study is about
SHOWN = 10  # other numbers in the table, the worst
SAME = "same"


def settings(config: Config) -> str:
    """A config on a line."""
    return ", ".join(f"{name} {value}" for name, value in config)


def before(circumstances: Sequence[Circumstance], cpus: int, threads: int) -> str:
    """What is as it was and what is not, one line each.

    Args:
        circumstances: all that is known.
        cpus: that this process may use.
        threads: that it trains with.
    """
    same = [f"{one.name} {one.now}" for one in circumstances if one.known and not one.differs]
    lines = [f"As in the study: {', '.join(same) or 'nothing that is known'}"]
    if others := [changed(one) for one in circumstances if one.differs]:
        lines.append(f"Not as in the study: {'; '.join(others)}")
    if unknown := [one for one in circumstances if not one.known]:
        lines.append(f"Not known of the study: {', '.join(_unknown(one) for one in unknown)}")
    if threads > cpus:
        lines.append(f"{threads} threads share {cpus} CPU{'s' * (cpus > 1)} here: slower, but the study's arithmetic")
    return "\n".join(lines)


def changed(circumstance: Circumstance) -> str:
    """How it was and how it is."""
    then, now = (_commit(str(word)) for word in (circumstance.then, circumstance.now))
    if then == now:
        return f"{circumstance.name} {then} both then and here, not always the same ones"
    return f"{circumstance.name} {then}, here {now}"


def _commit(word: str) -> str:
    return f"{word.removesuffix(CHANGED)} with changes" if word.endswith(CHANGED) else word


def _unknown(circumstance: Circumstance) -> str:
    return circumstance.name + (f" (here {circumstance.now})" if circumstance.now else "")


def verdict(comparison: Comparison) -> str:
    """Identical or not, in a sentence or two."""
    count = len(comparison.then)
    if comparison.identical:
        said = f"identical: all {count} recorded numbers came out again, to the last bit"
    else:
        worst = comparison.differences[0]
        said = f"differs: {len(comparison.differences)} of {count} recorded numbers, {worst.name} most"
    if lacking := comparison.unrecorded:
        said += f"; the record lacks {len(lacking)} that are known now, such as {lacking[0]}"
    return said


def table(comparison: Comparison) -> str:
    """What a study is about, and the worst differences first, under a line of headings."""
    differences = {one.name: one for one in comparison.differences}
    others = [one for one in comparison.differences if one.name not in ALWAYS]
    rows = [("", "study", "now", "difference")]
    for name in ALWAYS:
        then = comparison.then[name]
        rows.append(_row(differences[name]) if name in differences else (name, _text(then), _text(then), SAME))
    rows += [_row(one) for one in others[:SHOWN]]
    if left := others[SHOWN:]:
        rows.append((f"and {len(left)} more", "", "", f"at most {left[0].size:.1e}" if left[0].size < math.inf else ""))
    return _aligned(rows)


def _row(difference: Difference) -> tuple[str, str, str, str]:
    return difference.name, _text(difference.then), _text(difference.now), _apart(difference)


def _text(value: Value | None) -> str:
    if value is None:
        return "none"
    return f"{value:.6f}" if isinstance(value, float) else str(value)


def _apart(difference: Difference) -> str:
    then, now = difference.then, difference.now
    if isinstance(then, str) or now is None or isinstance(now, str):
        return "another"
    if isinstance(then, int) and isinstance(now, int):
        return f"{now - then:+}"
    return f"{now - then:+.1e}" if difference.size < 1e-4 else f"{now - then:+.6f}"


def _aligned(rows: Iterable[tuple[str, ...]]) -> str:
    rows = list(rows)
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    return "\n".join("  ".join((row[0].ljust(first), *map(str.rjust, row[1:], others))).rstrip() for row in rows)


def why(comparison: Comparison, circumstances: Sequence[Circumstance], result: Result) -> str:
    """What a difference amounts to, and what may explain it.

    Args:
        comparison: one that is not identical.
        circumstances: all that is known.
        result: the new one.
    """
    then, now = comparison.then["gain"], comparison.now["gain"]
    assert not isinstance(then, str)
    assert not isinstance(now, str)
    others = [one for one in circumstances if one.differs]
    unknown = [one.name for one in circumstances if not one.known]
    if others:
        reason = f"What may explain it: {'; '.join(changed(one) for one in others)}."
    else:
        reason = "Code and machine are the study's as far as they are known: has the record been edited?"
    if unknown:
        reason += f" Not known of the study: {', '.join(unknown)}."
    return (
        f"The gain is {points(now - then)} points from the study's {points(then)}; the standard error of one trial "
        f"over its images is {100 * image_noise(result, 'gain'):.2f}.\n{reason}"
    )
