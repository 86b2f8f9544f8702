"""A study's trials with all that is computed from them; tables, report and figures only read it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from study.analyze.tables import frame
from study.folder import Folder, named
from study.select.choice import Choice, choose, observations
from study.select.model import Fit, fit
from study.select.trials import Floats, Ints, Trials
from study.study import COMPLETE, OBJECTIVES, Objective, Record, Study

ESTIMATES = 6, 60  # along the trials, at least and at most
FEW_TRIALS = 10_000  # in all estimates together; beyond, there are fewer estimates
FIRST_ESTIMATE = 2  # after three trials


@dataclass(frozen=True)
class Analysis:
    """A study and what its trials show."""

    folder: Folder
    study: Study
    records: Sequence[Record]

    @cached_property
    def complete(self) -> list[Record]:
        """The complete trials, by number."""
        return self.of(COMPLETE)

    def of(self, state: str) -> list[Record]:
        """The trials in a state, by number."""
        return [record for record in self.records if record.state == state]

    @cached_property
    def table(self) -> pd.DataFrame:
        """The complete trials with the columns of trials.csv, by number."""
        return frame(self.study, self.complete)

    @property
    def measures(self) -> tuple[Objective, ...]:
        """What is analysed, the objective first; without references a fair gain is a gain."""
        others = [name for name in OBJECTIVES if name != self.study.objective]
        return (self.study.objective, *(name for name in others if name != "fair_gain" or self.study.reference))

    @cached_property
    def observations(self) -> dict[Objective, Trials]:
        """What the complete trials found of each measure."""
        return {measure: observations(self.study, self.complete, measure) for measure in self.measures}

    @cached_property
    def fits(self) -> dict[Objective, Fit]:
        """The model of each measure; for at least one complete trial."""
        return {measure: fit(found) for measure, found in self.observations.items()}

    @property
    def best(self) -> Fit:
        """The model of the objective; for at least one complete trial."""
        return self.fits[self.study.objective]

    @cached_property
    def choice(self) -> Choice | None:
        """What the study chooses; None where no trial is complete."""
        if not self.complete:
            return None
        return choose(self.study, self.complete, self.observations[self.study.objective], self.best)

    @property
    def levels(self) -> Ints:
        """(trials, parameters) the level of each searched parameter, from 0."""
        return self.observations[self.study.objective].levels

    @cached_property
    def running_estimate(self) -> tuple[Ints, Floats, Floats]:
        """After which trials, as places among the complete ones; the highest estimate then, and half its interval."""
        last = len(self.complete) - 1
        number = int(np.clip(FEW_TRIALS // (last + 1), *ESTIMATES))
        places = np.unique(np.linspace(min(last, FIRST_ESTIMATE), last, number).round().astype(int))
        found = [fit(self.observations[self.study.objective].first(place + 1)) for place in places]
        estimates, halves = ([getattr(each, name)[each.best] for each in found] for name in ("estimate", "half"))
        return places, np.array(estimates), np.array(halves)

    def values(self, column: str) -> Floats:
        """(trials,) a column of the table as numbers."""
        return np.asarray(self.table[column], float)

    def means(self, column: str) -> Floats:
        """(configs,) a column of the table, averaged over each config's trials."""
        return np.asarray(np.bincount(self.best.config_of, self.values(column)) / self.best.trials)


def examine(path: Path) -> Analysis:
    """Read a study's folder; nothing is written.

    Raises:
        FolderError: it holds no study, or something in it is damaged.
    """
    folder = Folder(named(path))
    study = folder.read_study()
    return Analysis(folder, study, folder.read_records(study))
