"""Which config a study chooses, and what to expect of it. Arithmetic only.

The choice is the config with the highest estimate of the model among those with enough seeds. The best observed value
is no estimate: of many noisy values the largest is biased upward (winner's curse).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from statistics import fmean

import numpy as np

from moe.config import SIZE_FLAGS, Config
from moe.result import Result
from moe.schema import fields
from study.select.interval import Crossed, crossed
from study.select.model import Fit, fit
from study.select.trials import LEAST_SEEDS, Bools, Ints, Trials
from study.study import REFINE, SEARCH, Objective, Record, Study

COVERS = "new seeds and new images"
CLAIM = "validation, selected: the choice is the best of several; study.confirm makes a claim"
FEW_EPOCHS = 2  # up to so many, trainings differ more between seeds
UNSEEN = {"epochs", *SIZE_FLAGS.values()} - {SIZE_FLAGS["baseline"]}  # fields that a baseline's chain does not have
USUAL_IMAGE_SHARE = 0.3  # of the images' noise that stays over seeds, until replicates show it; .04 was measured


@dataclass(frozen=True)
class Choice:
    """The chosen config; values of the objective, gains and accuracies are fractions."""

    objective: Objective
    config: Config  # with the seed of its first trial
    trials: tuple[int, ...]
    seeds: tuple[int, ...]
    configs: int  # that were tried
    replicates: int  # trials beyond each config's first
    mean: float  # observed
    screened: float | None  # observed in the search
    fresh_mean: float | None  # observed on the fresh seeds of the phase refine
    estimate: float
    interval: tuple[float, float] | None  # 95 %, of the estimate, for new seeds and new images
    noise: float  # standard deviation of one trial around its config's estimate
    noise_image: float  # standard error of one trial over its images
    gain: float  # observed mean, as are the next two
    mixture_accuracy: float
    baseline_accuracy: float
    reference_accuracy: float | None  # of the best baseline with as many training examples
    regression: float | None  # of the refined configs: search less fresh seeds, mean; what selection added
    fairest: Config | None  # the best by fair_gain, if the choice loses to the reference
    fairest_value: float | None
    margin: float  # by which the baseline of a fair gain may lack to the reference

    @property
    def over_reference(self) -> float | None:
        """The mixture's accuracy less that of the best baseline of its budget."""
        return None if self.reference_accuracy is None else self.mixture_accuracy - self.reference_accuracy

    @property
    def why(self) -> str:
        """The choice in words; how it compares with the best baseline comes first."""
        return " ".join(filter(None, [self.standing, self._estimate, self._interval]))

    @property
    def standing(self) -> str:
        """The choice's mixture against the best baseline of its budget."""
        if self.over_reference is None:
            return ""
        against = f"the best baseline of its {self.config.train_examples} training examples"
        accuracies = f"{self.mixture_accuracy:.2%} against {self.reference_accuracy:.2%}"
        if self.over_reference >= 0:
            return (
                f"The chosen config's mixture beats {against} by {points(self.over_reference)} points ({accuracies})."
            )
        kind = "its gain is over an under-trained baseline" if self.gain > 0 else "it gains nothing"
        fair = ""
        if self.fairest and self.fairest_value is not None:
            best = "the same config" if self.fairest == self.config else brief(self.fairest)
            fair = (
                f" Best by fair gain, which is over no less than the best baseline minus {100 * self.margin:g} points: "
                f"{best}, {points(self.fairest_value)} points."
            )
        return (
            f"The chosen config's mixture loses to {against} by {-100 * self.over_reference:.2f} points "
            f"({accuracies}): {kind}.{fair}"
        )

    @property
    def _estimate(self) -> str:
        seeds = "its one seed" if len(self.seeds) == 1 else f"the mean of its {len(self.seeds)} seeds"
        many = "" if self.configs == 1 else f", chosen among {self.configs} configs"
        bias = "" if self.configs == 1 else "; the best observed value is biased upward (winner's curse)"
        return (
            f"Trial {self.trials[0]}'s config has an estimated {self.objective.replace('_', ' ')} of "
            f"{shown(self.estimate, self.objective)}{many}; {seeds} found {shown(self.mean, self.objective)}{bias}."
        )

    @property
    def _interval(self) -> str:
        if not self.interval:
            return f"No interval is stated: that takes {LEAST_SEEDS} seeds of the config, which refining gives."
        low, high = (shown(value, self.objective) for value in self.interval)
        return f"95 % interval for {COVERS}: {low} to {high}."


def image_noise(study: Study, record: Record, objective: Objective) -> float:
    """The standard error of one trial's objective over its scored images; noise between seeds comes on top.

    A gain has outcomes -1, 0 and 1 per image, an accuracy 0 and 1; a fair gain is one or the other.
    """
    score = record.done.score
    crippled = score.baseline_accuracy < study.fair_baseline(record.config)
    if objective == "gain" or (objective == "fair_gain" and not crippled):
        return gain_noise(record.done)
    accuracy = score.mixture_accuracy
    return math.sqrt(accuracy * (1 - accuracy) / record.done.scored_examples)


def gain_noise(result: Result) -> float:
    """The standard error of a gain over the scored images."""
    return math.sqrt(max(0.0, result.score.discordance - result.gain**2) / result.scored_examples)


def observations(study: Study, complete: Sequence[Record], objective: Objective) -> Trials:
    """What complete trials found of an objective, as the model takes it."""
    grids = study.space.grids
    levels = [list(study.space.point(record.config).values()) for record in complete]
    noises = np.array([image_noise(study, record, objective) for record in complete])
    squared = float((noises**2).mean()) if complete else 0.0
    return Trials(
        levels=np.array(levels, dtype=np.int64).reshape(len(complete), len(grids)),
        sizes=tuple(map(len, grids.values())),
        values=np.array([study.value(record, objective) for record in complete]),
        chains=_chains(complete),
        noisy=_noisy(complete),
        image_noise=math.sqrt(squared),
        image_part=_image_share(complete, objective) * squared,
    )


def _image_share(complete: Sequence[Record], objective: Objective) -> float:
    """The part of the images' noise that stays over seeds, from the configs with enough seeds on the same images."""
    groups: dict[Config, list[Record]] = {}
    for record in complete:
        if record.done.right:
            groups.setdefault(record.config.replace(seed=0), []).append(record)
    found = [_crossed(group, objective) for group in groups.values() if len(group) >= LEAST_SEEDS]
    expected = sum(one.both * one.seeds for one in found)  # of the images' noise, were none of it to stay
    if not expected:
        return USUAL_IMAGE_SHARE
    stays = sum(one.between_images - one.both for one in found)
    return min(1.0, max(0.0, stays / (expected + stays)))


def _crossed(records: Sequence[Record], objective: Objective) -> Crossed:
    """The differences between mixture and baseline over the seeds of a config; for an accuracy, the mixture's alone."""
    rows = []
    for record in records:
        right, images = record.done.right, record.done.scored_examples
        assert right
        row = right.bits("mixture", images).astype(float)
        rows.append(row if objective == "mixture_accuracy" else row - right.bits("baseline", images))
    return crossed(np.array(rows))


def _chains(complete: Iterable[Record]) -> Ints:
    """(trials,) a number for the baseline's chain of each: its config and seed, whatever the epoch."""
    seen = attrgetter(*(name for name in fields(Config) if name not in UNSEEN))
    numbers: dict[tuple[object, ...], int] = {}
    return np.array([numbers.setdefault(seen(record.config), len(numbers)) for record in complete], dtype=np.int64)


def _noisy(complete: Iterable[Record]) -> Bools:
    return np.array([record.config.epochs <= FEW_EPOCHS for record in complete], dtype=bool)


def choose(
    study: Study, complete: Sequence[Record], found: Trials | None = None, fitted: Fit | None = None
) -> Choice | None:
    """The chosen config; None without a complete trial.

    Args:
        complete: the complete trials.
        found: what they found of the study's objective, where that is there already.
        fitted: the model of it, likewise.
    """
    if not complete:
        return None
    found = found or observations(study, complete, study.objective)
    fitted = fitted or fit(found)
    best = fitted.best
    chosen = _of(complete, fitted, best)
    screened, fresh = _early_and_late(study, chosen)
    accuracies = [record.done.score for record in chosen]
    mixture = fmean(score.mixture_accuracy for score in accuracies)
    reference = study.reference_accuracy(chosen[0].config)
    loses = reference is not None and mixture < reference
    fairest = fair_choice(study, complete) if loses and study.objective != "fair_gain" else None
    return Choice(
        objective=study.objective,
        config=chosen[0].config,
        trials=tuple(record.trial for record in chosen),
        seeds=tuple(record.config.seed for record in chosen),
        configs=len(fitted.estimate),
        replicates=len(complete) - len(fitted.estimate),
        mean=float(fitted.means[best]),
        screened=screened,
        fresh_mean=fresh,
        estimate=float(fitted.estimate[best]),
        interval=fitted.interval(best),
        noise=fitted.noise,
        noise_image=found.image_noise,
        gain=fmean(score.gain for score in accuracies),
        mixture_accuracy=mixture,
        baseline_accuracy=fmean(score.baseline_accuracy for score in accuracies),
        reference_accuracy=reference,
        regression=_regression(study, complete, fitted),
        fairest=fairest[0] if fairest else None,
        fairest_value=fairest[1] if fairest else None,
        margin=study.margin,
    )


def fair_choice(study: Study, complete: Sequence[Record]) -> tuple[Config, float]:
    """The config that would be chosen by fair gain, and its estimate."""
    fitted = fit(observations(study, complete, "fair_gain"))
    return _of(complete, fitted, fitted.best)[0].config, float(fitted.estimate[fitted.best])


def _of(complete: Sequence[Record], fitted: Fit, config: int) -> list[Record]:
    """The trials of one config of the model."""
    return [complete[int(place)] for place in np.flatnonzero(fitted.config_of == config)]


def _early_and_late(study: Study, records: Sequence[Record]) -> tuple[float | None, float | None]:
    """The mean objective in the search, and on fresh seeds."""
    values = (
        [study.value(one, study.objective) for one in records if one.phase == phase] for phase in (SEARCH, REFINE)
    )
    early, late = (fmean(found) if found else None for found in values)
    return early, late


def _regression(study: Study, complete: Sequence[Record], fitted: Fit) -> float | None:
    """Over the configs with fresh seeds: their mean in the search less that on the fresh seeds; None without any."""
    fresh = np.array([record.phase == REFINE for record in complete])
    differences = []
    for config in np.unique(fitted.config_of[fresh]):
        before, after = _early_and_late(study, _of(complete, fitted, int(config)))
        if before is not None and after is not None:
            differences.append(before - after)
    return fmean(differences) if differences else None


def brief(config: Config) -> str:
    """The fields in which a config differs from the defaults, as in a command, without the seed."""
    default, left_out = Config(), {"seed", "protocol", "precision", "test_examples"}
    named = {name: value for name, value in config if name not in left_out and value != getattr(default, name)}
    return ", ".join(f"{name}={value}" for name, value in named.items()) or "the default config"


def points(fraction: float) -> str:
    """A difference of fractions in percentage points, with its sign."""
    return f"{100 * fraction:+.2f}"


def shown(value: float, objective: str, unit: bool = True) -> str:
    """A value of the objective: a gain in points with its sign, an accuracy in percent."""
    if objective != "mixture_accuracy":
        return points(value) + " points" * unit
    return f"{100 * value:.2f}" + " %" * unit
