"""The baselines that gains are held against: trained first, each to the end of its chain."""

import itertools
from collections.abc import Sequence

from moe.config import NOT_SEEN, SIZE_FLAGS, Config
from study.study import Record, Study


def wanted_references(study: Study, records: Sequence[Record]) -> list[Config]:
    """The references to train before the trials that follow these, or beside them.

    None where trials were judged by those that there are: their objectives stay as they were.
    """
    return [] if records and study.objective == "fair_gain" else missing_references(study)


def missing_references(study: Study) -> list[Config]:
    """The configs whose baselines are references and that the study does not have yet.

    They are the grid's values of all that a baseline sees, with the most epochs and the first seed.
    """
    space = study.space
    seen = [name for name in space.grids if name not in NOT_SEEN or name == SIZE_FLAGS["baseline"]]
    most = max(space.all("epochs"))
    known = {each.config for each in study.reference}
    base = study.config(dict.fromkeys(space.grids, 0), 0)
    found = [
        base.replace(epochs=most, **dict(zip(seen, values, strict=True)))
        for values in itertools.product(*(space.grids[name] for name in seen))
    ]
    return [config for config in found if config not in known]
