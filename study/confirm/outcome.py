"""What a confirmation found: intervals, tests, the verdict, and where the gain comes from. Arithmetic only.

records, test labels --score--> records with bits --conclude--> Outcome, the same for the same bits
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from moe.arms import ARMS, DECISIVE, EXCHANGES, STEPS, Difference, right
from moe.bits import Bools, pack
from moe.config import ARTIFICIAL, CLASSES, NATURAL, Config
from moe.schema import Model
from study.confirm.plan import CHOICE, DEFAULT, VERSION, Plan, Planned, Role, SeedRecord, complete, read
from study.folder import FolderError
from study.select.interval import Crossed, crossed, holm
from study.select.verdict import Control, Word, judge, rule
from study.study import COMPLETE, FAILED

Labels = NDArray[np.int64]
Rights = Mapping[str, Bools]  # by arm, (seeds, images)

#: the statements that are adjusted together, beside the default's gain: words, arm, minus arm, classes of the images
SECONDARY = (
    ("mixture minus plain average", "mixture", "average", None),
    ("mixture minus experts alone", "mixture", "experts", None),
    ("mixture minus mixture with the baseline's superclass as its gate", "mixture", "implied_gate", None),
    ("gain on artificial images", "mixture", "baseline", ARTIFICIAL),
    ("gain on natural images", "mixture", "baseline", NATURAL),
)
DEFAULT_GAIN = "gain of the notebook's default"


class Statement(Model):
    """A mean difference, a fraction of the images, with its 95 % intervals; None where seeds are too few."""

    words: str
    difference: float
    low: float | None  # for new seeds and new images
    high: float | None
    same_images_low: float | None  # for new seeds on these images
    same_images_high: float | None
    image_part: float  # standard error that no number of seeds removes
    seed_deviation: float  # standard deviation between seeds, without the images' noise
    p: float
    adjusted_p: float | None = None  # by Holm, among the statements that are adjusted together


class ArmOutcome(Model):
    """One classifier on the test images."""

    accuracy: float
    minus_baseline: Statement | None  # None of the baseline itself
    mixture_minus: Statement | None  # None of the mixture itself, and of what is no competitor
    decisive: bool


class Parts(Model):
    """A difference of two arms in all and by class, each a fraction of that class's images."""

    words: str
    difference: float
    classes: tuple[float, ...]


class ConfigOutcome(Model):
    """What was found of one config."""

    config: Config  # with the first of the seeds
    seeds: tuple[int, ...]  # that are complete
    failed: tuple[str, ...]
    networks: int  # in the compute-matched ensemble
    better: int  # seeds on which the mixture is above its baseline
    arms: dict[str, ArmOutcome]
    gain: Parts
    steps: tuple[Parts, ...]  # from the baseline to the mixture: they add up to the gain
    exchanges: tuple[Parts, ...]  # the mixture with one part exchanged, less the mixture
    screened: float | None  # the gain in the study's first trial of it, on validation images
    flattery: float | None  # that less the confirmed gain


class Outcome(Model):
    """What result.json holds. It has no times, so that the same records give the same bytes."""

    schema_version: Literal[1] = VERSION
    study: str
    verdict: Word
    why: str
    missing: str
    rule: str
    margin: float
    images: int
    planned_seeds: int
    earlier: tuple[str, ...]
    configs: dict[Role, ConfigOutcome]
    statements: tuple[Statement, ...]  # adjusted together


def scored(record: SeedRecord, labels: Labels) -> SeedRecord:
    """A complete record with the images that each arm gets right, in place of what it predicts.

    Raises:
        FolderError: it is of other images than the labels.
    """
    _check_images(record, labels)
    classes = record.classes()
    bits = {name: pack(right(arm, classes, labels)) for name, arm in ARMS.items()}
    return record.replace(right=bits, predicted=None)


def read_outcome(path: Path) -> Outcome:
    """What a result.json holds; raises a FolderError if it is damaged or was edited."""
    return read(Outcome, path, "move it away, and study.confirm writes it again")


def _check_images(record: SeedRecord, labels: Labels) -> None:
    if record.images != len(labels):
        raise FolderError(f"{record.name}.json is of {record.images} images; expected {len(labels)}, as the data have")


def conclude(plan: Plan, records: Mapping[str, SeedRecord], labels: Labels) -> Outcome:
    """The outcome of scored records.

    Raises:
        FolderError: fewer than two seeds of the choice are complete, or one is of other images than the labels.
    """
    for record in records.values():
        if record.state == COMPLETE:
            _check_images(record, labels)
    if len(complete(records, CHOICE)) < 2:
        raise FolderError(f"{len(complete(records, CHOICE))} seeds of the choice are complete; expected 2 or more")
    rights = {each.role: _rights(complete(records, each.role)) for each in plan.configs}
    choice = rights[CHOICE]
    controls = {
        ARMS[name].words: Control(_crossed(choice, "mixture", name), _crossed(choice, name, "baseline"))
        for name in DECISIVE
    }
    verdict = judge(_crossed(choice, "mixture", "baseline"), controls, plan.margin, len(plan.seeds))
    return Outcome(
        study=plan.study,
        verdict=verdict.word,
        why=verdict.why,
        missing=verdict.missing,
        rule=rule(plan.margin),
        margin=plan.margin,
        images=len(labels),
        planned_seeds=len(plan.seeds),
        earlier=plan.earlier,
        configs={
            each.role: _config_outcome(each, rights[each.role], records, labels)
            for each in plan.configs
            if len(complete(records, each.role)) >= 2
        },
        statements=_secondary(rights, labels),
    )


def _rights(records: Sequence[SeedRecord]) -> Rights:
    return {name: np.stack([record.bits(name) for record in records]) for name in ARMS} if records else {}


def _crossed(rights: Rights, arm: str, minus: str, images: Bools | None = None) -> Crossed:
    taken = slice(None) if images is None else images
    return crossed(rights[arm][:, taken].astype(np.int8) - rights[minus][:, taken].astype(np.int8))


def _secondary(rights: Mapping[Role, Rights], labels: Labels) -> tuple[Statement, ...]:
    found = [
        (words, _crossed(rights[CHOICE], arm, minus, None if classes is None else np.isin(labels, classes)))
        for words, arm, minus, classes in SECONDARY
    ]
    if len(rights.get(DEFAULT, {}).get("mixture", ())) >= 2:
        found.append((DEFAULT_GAIN, _crossed(rights[DEFAULT], "mixture", "baseline")))
    adjusted = holm([difference.p for _, difference in found])
    return tuple(
        _statement(words, difference).replace(adjusted_p=p)
        for (words, difference), p in zip(found, adjusted, strict=True)
    )


def _statement(words: str, difference: Crossed) -> Statement:
    low, high = difference.interval or (None, None)
    same_low, same_high = difference.same_images or (None, None)
    return Statement(
        words=words,
        difference=difference.mean,
        low=low,
        high=high,
        same_images_low=same_low,
        same_images_high=same_high,
        image_part=difference.image_part,
        seed_deviation=difference.noise.seeds,
        p=difference.p,
    )


def _config_outcome(
    planned: Planned, rights: Rights, records: Mapping[str, SeedRecord], labels: Labels
) -> ConfigOutcome:
    done = complete(records, planned.role)
    gain = float(rights["mixture"].mean() - rights["baseline"].mean())
    return ConfigOutcome(
        config=planned.config,
        seeds=tuple(record.config.seed for record in done),
        failed=tuple(
            f"seed {record.config.seed}: {record.error}"
            for record in records.values()
            if record.role == planned.role and record.state == FAILED
        ),
        networks=done[0].networks,
        better=int((rights["mixture"].mean(1) > rights["baseline"].mean(1)).sum()),
        arms={name: _arm(name, rights) for name in ARMS},
        gain=_parts(Difference("mixture minus baseline", "mixture", "baseline"), rights, labels),
        steps=tuple(_parts(step, rights, labels) for step in STEPS),
        exchanges=tuple(_parts(exchange, rights, labels) for exchange in EXCHANGES),
        screened=planned.screened,
        flattery=None if planned.screened is None else planned.screened - gain,
    )


def _arm(name: str, rights: Rights) -> ArmOutcome:
    words = ARMS[name].words

    def statement(arm: str, minus: str, sentence: str) -> Statement | None:
        return None if arm == minus else _statement(sentence, _crossed(rights, arm, minus))

    return ArmOutcome(
        accuracy=float(rights[name].mean()),
        minus_baseline=statement(name, "baseline", f"{words} minus the baseline"),
        mixture_minus=statement("mixture", name, f"the mixture minus {words}") if ARMS[name].competes else None,
        decisive=ARMS[name].decisive,
    )


def _parts(difference: Difference, rights: Rights, labels: Labels) -> Parts:
    by_image = rights[difference.arm].mean(0) - rights[difference.minus].mean(0)  # (images,)
    classes = tuple(float(by_image[labels == label].mean()) for label in range(CLASSES))
    return Parts(words=difference.words, difference=float(by_image.mean()), classes=classes)
