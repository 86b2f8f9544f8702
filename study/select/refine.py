"""Which trials the phase refine still needs. Pure: equal records give equal trials, so a resume continues.

The leaders of the search run on fresh seeds that they have in common, in two stages: all leaders, then the best of
them. The notebook's default runs beside them, and one config drawn at random: it was not selected, so what it loses
on fresh seeds is chance.

Five leaders on two seeds, two finalists on two more and the two others make 22 trials at most. In simulated worlds
eight leaders and three finalists on three more, 34 trials, left 0 to 0.3 points less regret.
"""

import math
import random
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from study.select.choice import observations
from study.select.model import fit
from study.study import ASK, COMPLETE, REFINE_FROM, SEARCH, Record, Study

Point = dict[str, int]
FINALISTS = 0.4  # of the leaders


class Replicate(NamedTuple):
    """A trial that is wanted."""

    point: Point
    replicate: int


def replicates(study: Study, records: Sequence[Record]) -> list[Replicate]:
    """The trials that the current stage still needs; none when refining is done.

    Args:
        records: all of the study, of a search that has ended.
    """
    # those that somebody asked for are no part of the plan
    complete = [record for record in records if record.state == COMPLETE and record.phase != ASK]
    searched = [record for record in complete if record.phase == SEARCH]
    if not study.refine or not searched:
        return []
    space, seeds = study.space, study.refine_seeds
    first = math.ceil(seeds / 2)
    leaders = _highest(study, searched, None, study.refine)
    others = _others(study, searched, leaders)
    ended = {(space.position(space.point(one.config)), one.replicate) for one in records if _counts(one)}
    if wanted := _wanted(study, [*leaders, *others], range(first), ended):
        return wanted
    until = REFINE_FROM + first
    known = [record for record in complete if record.replicate < until]
    finalists = _highest(study, known, set(leaders), max(1, round(FINALISTS * study.refine)))
    return _wanted(study, [*finalists, *others], range(first, seeds), ended)


def most(study: Study) -> int:
    """How many trials refining adds at most."""
    first, finalists = math.ceil(study.refine_seeds / 2), max(1, round(FINALISTS * study.refine))
    others = 2 * study.refine_seeds
    return (study.refine * first + finalists * (study.refine_seeds - first) + others) * (study.refine > 0)


def _counts(record: Record) -> bool:
    """Whether a trial has ended for good: one that failed is not repeated, unless its worker was lost."""
    return record.state == COMPLETE or (record.error is not None and not record.repeatable)


def _wanted(study: Study, positions: Sequence[int], seeds: range, ended: set[tuple[int, int]]) -> list[Replicate]:
    return [
        Replicate(study.space.at(position), REFINE_FROM + seed)
        for seed in seeds
        for position in positions
        if (position, REFINE_FROM + seed) not in ended
    ]


def _highest(study: Study, complete: Sequence[Record], among: set[int] | None, number: int) -> list[int]:
    """The positions of the best configs, the best first: by estimate among some, else by promise among all."""
    fitted, space = fit(observations(study, complete, study.objective)), study.space
    order = np.lexsort((-fitted.means, -(fitted.promise if among is None else fitted.estimate)))
    of = {int(config): record.config for config, record in zip(fitted.config_of, complete, strict=True)}
    positions = [space.position(space.point(of[int(config)])) for config in order]
    return [position for position in positions if among is None or position in among][:number]


def _others(study: Study, searched: Sequence[Record], leaders: Sequence[int]) -> list[int]:
    """The notebook's default and one config drawn by the study's seed, where they were tried and do not lead."""
    space = study.space
    tried = {space.position(space.point(record.config)) for record in searched}
    default = space.position(space.default)
    found = [default] if default in tried and default not in leaders else []
    rest = sorted(tried - {*leaders, default})
    return found + ([random.Random(study.seed).choice(rest)] if rest else [])
