"""The columns of the model: which levels, and pairs of levels, each config has, and what an effect is made of them."""

import itertools
from dataclasses import dataclass

import numpy as np

from study.select.trials import Bools, Floats, Ints, Trials

MOST_PAIRS = 300  # columns of pairs; a space with more is taken as additive, so that a fit ends within seconds


@dataclass(frozen=True)
class Features:
    """Columns of the model: one for each level of each parameter, then one for each pair of levels that was tried."""

    rows: Floats  # (configs, features) 1 where the config has it
    pair: Bools  # (features,) whether it is of a pair
    contrasts: Floats  # (levels, features) a level's effect: less the mean of the parameter's levels that were tried

    @classmethod
    def of(cls, trials: Trials) -> "Features":
        """The columns of these trials."""
        levels = trials.levels[trials.cells.first]
        single = [np.eye(size)[column] for size, column in zip(trials.sizes, levels.T, strict=True)]
        parts, contrasts = [*single], [_single_contrasts(single)]
        tried = _pairs_tried(levels, trials.sizes)
        pairs = sum(map(len, tried.values()))
        if pairs > MOST_PAIRS:
            tried, pairs = {}, 0
        for (one, other), found in tried.items():
            columns = (single[one][:, :, None] * single[other][:, None, :]).reshape(len(levels), -1)
            parts.append(columns[:, found])
            contrasts.append(_pair_contrasts(single, one, other)[:, found])
        number = sum(trials.sizes)
        rows = np.hstack([np.zeros((len(levels), 0)), *parts])
        return cls(rows, np.arange(number + pairs) >= number, np.hstack(contrasts))


def _pairs_tried(levels: Ints, sizes: tuple[int, ...]) -> dict[tuple[int, int], Ints]:
    """For each pair of parameters the pairs of their levels that were tried, as places in a table of both, flat."""
    couples = itertools.combinations(range(len(sizes)), 2)
    return {(one, other): np.unique(levels[:, one] * sizes[other] + levels[:, other]) for one, other in couples}


def _tried(single: list[Floats]) -> list[Bools]:
    return [np.asarray(columns.any(0)) for columns in single]


def _centring(tried: Bools) -> Floats:
    """(levels, levels) each level less the mean of those tried; nan where one level was tried, or none compares."""
    compared = tried if tried.sum() > 1 else np.zeros_like(tried)
    return np.where(compared[:, None], np.eye(len(tried)) - tried / max(1, tried.sum()), np.nan)


def _single_contrasts(single: list[Floats]) -> Floats:
    sizes = [columns.shape[1] for columns in single]
    found, ends = np.zeros((sum(sizes), sum(sizes))), np.cumsum([0, *sizes])
    for start, end, tried in zip(ends, ends[1:], _tried(single), strict=False):
        found[start:end] = np.nan if tried.sum() < 2 else 0.0
        found[start:end, start:end] = _centring(tried)
        found[start:end][~tried] = np.nan
    return found


def _pair_contrasts(single: list[Floats], one: int, other: int) -> Floats:
    """(levels, pairs of levels) of a pair, the mean over the levels of the partner, for both of its parameters."""
    sizes = [columns.shape[1] for columns in single]
    starts, tried = np.cumsum([0, *sizes]), _tried(single)
    found = np.zeros((sum(sizes), sizes[one] * sizes[other]))
    for parameter, partner, first in ((one, other, True), (other, one, False)):
        mean = tried[partner] / max(1, tried[partner].sum())
        centred = np.nan_to_num(_centring(tried[parameter]))
        block = centred[:, :, None] * mean if first else centred[:, None, :] * mean[:, None]
        found[starts[parameter] : starts[parameter] + sizes[parameter]] = block.reshape(sizes[parameter], -1)
    return found
