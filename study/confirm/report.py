"""A confirmation in words and tables."""

from collections.abc import Iterator, Sequence

from moe.arms import ARMS
from moe.config import CLASS_NAMES
from moe.console import table
from study.confirm.outcome import ConfigOutcome, Outcome, Parts, Statement
from study.confirm.plan import CHOICE, DEFAULT, Role
from study.select.choice import brief, points
from study.select.interval import FEWEST_SEEDS

NAMES: dict[Role, str] = {CHOICE: "the choice", DEFAULT: "the notebook's default"}


def report(outcome: Outcome, dataset: str) -> str:
    """All of it, the verdict first."""
    choice = outcome.configs[CHOICE]
    parts = [opened_before(outcome.earlier), headline(outcome), outcome.rule]
    parts += [_arms(role, config, outcome.planned_seeds) for role, config in outcome.configs.items()]
    parts += [_sources(choice, CLASS_NAMES[dataset]), _statements(outcome.statements), _flattery(outcome)]
    parts += [f"Failed and not replaced: {'; '.join(choice.failed)}."] if choice.failed else []
    return "\n\n".join(filter(None, parts))


def opened_before(earlier: Sequence[str]) -> str:
    """Who opened the test images before; empty if nobody did."""
    if not earlier:
        return ""
    return (
        f"The test images were opened before: {', '.join(earlier)}. "
        "Each time they are opened again, a gain that is not there has another chance to be found."
    )


def headline(outcome: Outcome) -> str:
    """The verdict and the gain in a few sentences."""
    choice = outcome.configs[CHOICE]
    gain = choice.arms["mixture"].minus_baseline
    assert gain is not None
    missing = f" What is missing: {outcome.missing}." if outcome.missing else ""
    narrow = ""
    if gain.same_images_low is not None and gain.same_images_high is not None:
        narrow = (
            f" For new seeds on these same {outcome.images:,} images: {points(gain.same_images_low)} to "
            f"{points(gain.same_images_high)}. Images alone leave a standard error of "
            f"{100 * gain.image_part:.2f} points, which no number of seeds removes."
        )
    return (
        f"Verdict: {outcome.verdict}. {outcome.why[0].upper()}{outcome.why[1:]}.{missing}\n"
        f"Gain, mixture minus baseline: {_stated(gain)} points, for new seeds and new images; the mixture is better on "
        f"{choice.better} of {len(choice.seeds)} seeds.{narrow}"
    )


def _stated(statement: Statement) -> str:
    if statement.low is None or statement.high is None:
        return f"{points(statement.difference)} (no interval: that takes {FEWEST_SEEDS} seeds)"
    return f"{points(statement.difference)} (95 % {points(statement.low)} to {points(statement.high)})"


def _cell(statement: Statement | None) -> str:
    if statement is None:
        return ""
    if statement.low is None or statement.high is None:
        return points(statement.difference)
    return f"{points(statement.difference)} [{points(statement.low)}, {points(statement.high)}]"


def _arms(role: Role, config: ConfigOutcome, planned: int) -> str:
    rows = [
        (
            f"{ARMS[name].words}{' *' if arm.decisive else ''}",
            f"{arm.accuracy:.2%}",
            _cell(arm.minus_baseline),
            _cell(arm.mixture_minus),
        )
        for name, arm in config.arms.items()
        if not ARMS[name].exchanged
    ]
    title = (
        f"{NAMES[role][0].upper()}{NAMES[role][1:]} ({brief(config.config)}) on {len(config.seeds)} of {planned} "
        f"seeds, in points with 95 % intervals; * decisive, {config.networks} networks in the last of them"
        f"{'; no verdict is given on it' * (role == DEFAULT)}:"
    )
    return f"{title}\n{table(('', 'accuracy', 'minus baseline', 'mixture minus it'), rows)}"


def _sources(config: ConfigOutcome, classes: Sequence[str]) -> str:
    def rows(parts: Sequence[Parts]) -> Iterator[tuple[str, ...]]:
        for part in parts:
            yield (
                part.words,
                points(part.difference),
                *(f"{round(100 * share, 1) + 0.0:+.1f}" for share in part.classes),
            )

    heads = ("points", *classes)
    return (
        f"Where the gain comes from, step by step from the baseline to the mixture; the steps add up to it:\n"
        f"{table(('', *heads), rows([*config.steps, config.gain]))}\n\n"
        f"The mixture with one part exchanged, less the mixture as it is:\n"
        f"{table(('', *heads), rows(config.exchanges))}"
    )


def _statements(statements: Sequence[Statement]) -> str:
    def shown(p: float | None) -> str:
        return "" if p is None else "< 0.0001" if p < 1e-4 else f"{p:.4f}"

    rows = [(one.words, _cell(one), shown(one.p), shown(one.adjusted_p)) for one in statements]
    return f"Other statements; p adjusted by Holm over all of them:\n{table(('', 'points', 'p', 'adjusted p'), rows)}"


def _flattery(outcome: Outcome) -> str:
    found = [
        f"{NAMES[role]} {points(config.screened)} then, {points(config.gain.difference)} confirmed "
        f"({points(config.flattery)})"
        for role, config in outcome.configs.items()
        if config.screened is not None and config.flattery is not None
    ]
    return f"Flattery, the gain in the study's first trial less the confirmed one: {'; '.join(found)}." if found else ""
