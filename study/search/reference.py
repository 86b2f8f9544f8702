"""The baselines that gains are held against: trained first, each to the end of its chain."""

import itertools

from moe.config import NOT_SEEN, Config
from moe.stages import STAGES
from study.study import Study


def missing_references(study: Study) -> list[Config]:
    """The configs whose baselines are references and that the study does not have yet.

    They are the grid's values of all that a baseline sees, with the most epochs and the first seed.
    """
    space = study.space
    flag = STAGES["baseline"].size_flag
    seen = [name for name in space.grids if name not in NOT_SEEN or name == flag]
    most = max(space.all("epochs"))
    known = {each.config for each in study.reference}
    base = study.config(dict.fromkeys(space.grids, 0), 0)
    found = [
        base.replace(epochs=most, **dict(zip(seen, values, strict=True)))
        for values in itertools.product(*(space.grids[name] for name in seen))
    ]
    return [config for config in found if config not in known]
