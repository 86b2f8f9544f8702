"""Which parameters set the best trials apart: PED-ANOVA by Optuna, which asks where the best lie more densely."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

LEAST_TRIALS = 10
TOP_SHARE, TOP_TRIALS = 0.1, 5  # the best tenth, but no fewer trials than Optuna advises

Grids = Mapping[str, tuple[Any, ...]]


def importances(
    grids: Grids, configs: Sequence[Mapping[str, Any]], measures: Mapping[str, Sequence[float]]
) -> dict[str, dict[str, float] | str]:
    """Per measure each parameter's share, together 1; or why there are none, in words.

    Args:
        grids: the parameters that are searched, with their levels.
        configs: of the complete trials.
        measures: what these found, by its name; more is better.
    """
    varied = [name for name in grids if len({config[name] for config in configs}) > 1]
    reasons = {measure: _why_none(varied, values) for measure, values in measures.items()}
    if all(reasons.values()):
        return dict(reasons)
    found = _ped_anova(grids, varied, configs, measures)
    return {measure: reasons[measure] or _shares(grids, found[measure]) for measure in measures}


def _why_none(varied: list[str], values: Sequence[float]) -> str:
    if len(values) < LEAST_TRIALS:
        return f"they take {LEAST_TRIALS} complete trials"
    if not varied:
        return "all trials have one config"
    return "all trials found the same" if min(values) == max(values) else ""


def _ped_anova(
    grids: Grids, varied: list[str], configs: Sequence[Mapping[str, Any]], measures: Mapping[str, Sequence[float]]
) -> dict[str, dict[str, float]]:
    import optuna

    logging.getLogger("optuna").setLevel(logging.WARNING)
    choices: dict[str, Any] = {name: optuna.distributions.CategoricalDistribution(grids[name]) for name in varied}
    trials = [
        optuna.trial.create_trial(values=values, params={name: config[name] for name in varied}, distributions=choices)
        for config, *values in zip(configs, *measures.values(), strict=True)
    ]
    study = optuna.create_study(directions=["maximize"] * len(measures))
    study.add_trials(trials)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=max(TOP_SHARE, TOP_TRIALS / len(trials)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on the target's direction, and on trials that all tie for the best
        found = [evaluator.evaluate(study, target=partial(_reversed, place=place)) for place in range(len(measures))]
    return dict(zip(measures, found, strict=True))


def _reversed(trial: Any, place: int) -> float:
    return -float(trial.values[place])  # a target counts as minimised


def _shares(grids: Grids, found: Mapping[str, float]) -> dict[str, float] | str:
    total = sum(found.values())
    return {name: found.get(name, 0.0) / total for name in grids} if total else "the best trials are like all others"
