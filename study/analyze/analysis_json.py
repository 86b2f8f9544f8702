"""An analysis as JSON: counts, the choice, each config's estimate, effects. Numbers are fractions."""

from typing import Any

import numpy as np

from study.analyze.analysis import Analysis
from study.analyze.effects import intervals
from study.analyze.tables import best
from study.select.trials import Floats
from study.study import COMPLETE, FAILED, RUNNING


def as_json(analysis: Analysis) -> dict[str, Any]:
    """All of it; a number that is not stated is null."""
    return {
        "study": analysis.study.name,
        "folder": str(analysis.folder.path),
        "trials": {state: len(analysis.of(state)) for state in (COMPLETE, FAILED, RUNNING)},
        "choice": best(analysis.study, analysis.choice) if analysis.choice else None,
        "configs": _configs(analysis) if analysis.complete else [],
        "effects": _effects(analysis) if analysis.complete else {},
        "failed": [
            {"trial": record.trial, "config": record.config.as_json(), "error": record.error}
            for record in analysis.of(FAILED)
        ],
    }


def _configs(analysis: Analysis) -> list[dict[str, Any]]:
    """Each tried config with its estimate and 95 % interval, the highest first."""
    fit, found = analysis.best, []
    for config in np.argsort(-fit.estimate, kind="stable"):
        trials = [analysis.complete[place] for place in np.flatnonzero(fit.config_of == config)]
        values = {name: getattr(trials[0].config, name) for name in analysis.study.space.grids}
        numbers = {"mean": float(fit.means[config]), **_around(fit.estimate, fit.half, int(config))}
        found.append({"config": values, "trials": [record.trial for record in trials], **numbers})
    return found


def _effects(analysis: Analysis) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """By measure and parameter the effect of each value, less the mean over those tried."""
    return {
        measure: {
            name: [
                {"value": value, **_around(*intervals(analysis, measure, place), level)}
                for level, value in enumerate(grid)
            ]
            for place, (name, grid) in enumerate(analysis.study.space.grids.items())
        }
        for measure in analysis.measures
    }


def _around(middles: Floats, halves: Floats, place: int) -> dict[str, float | None]:
    middle, half = float(middles[place]), float(halves[place])
    numbers = {"estimate": middle, "low": middle - half, "high": middle + half}
    return {name: None if np.isnan(value) else value for name, value in numbers.items()}
