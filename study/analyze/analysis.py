"""A study's trials with all that is computed from them; everything that is shown is read off this."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from study.analyze.importance import importances
from study.analyze.tables import frame
from study.folder import Folder, named
from study.select.choice import Choice, choose, image_noise
from study.select.model import Fit, Floats, Ints, fit
from study.study import COMPLETE, OBJECTIVES, Record, Study


@dataclass(frozen=True)
class Analysis:
    """A study and what its trials say."""

    folder: Folder
    study: Study
    records: Sequence[Record]
    table: pd.DataFrame  # the complete trials, by number, with the columns of trials.csv
    choice: Choice | None  # None where no trial is complete

    @cached_property
    def complete(self) -> list[Record]:
        """The complete trials, by number."""
        return [record for record in self.records if record.state == COMPLETE]

    @property
    def measures(self) -> tuple[str, ...]:
        """What is analysed: gain and mixture accuracy, the objective first."""
        return (self.study.objective, *(name for name in OBJECTIVES if name != self.study.objective))

    def of(self, state: str) -> list[Record]:
        """The trials in a state, by number."""
        return [record for record in self.records if record.state == state]

    @cached_property
    def points(self) -> Ints:
        """(trials, parameters) the level of each searched parameter, from 0."""
        space = self.study.space
        points = [list(space.point(record.config).values()) for record in self.complete]
        return np.array(points, dtype=np.int64).reshape(len(points), len(space.grids))

    @cached_property
    def fits(self) -> dict[str, Fit]:
        """The model of each measure; for at least one complete trial."""
        return {measure: self.fit(measure, len(self.table)) for measure in self.measures}

    def fit(self, measure: str, trials: int) -> Fit:
        """The model of a measure over the first so many complete trials."""
        sizes = tuple(len(grid) for grid in self.study.space.grids.values())
        noise = math.sqrt(float((self._image_noises[measure][:trials] ** 2).mean()))
        return fit(self.points[:trials], self.values(measure)[:trials], sizes, noise)

    def values(self, column: str) -> Floats:
        """(trials,) a column of the table as numbers."""
        return np.asarray(self.table[column], float)

    @cached_property
    def _image_noises(self) -> dict[str, Floats]:
        """Per measure (trials,) the standard error of each value over its images."""
        results = [record.done for record in self.complete]
        return {measure: np.array([image_noise(result, measure) for result in results]) for measure in OBJECTIVES}

    @cached_property
    def importances(self) -> dict[str, dict[str, float] | str]:
        """Per measure each parameter's share, or why there are none."""
        measures = {measure: self.values(measure).tolist() for measure in self.measures}
        return importances(self.study.space.grids, [dict(record.config) for record in self.complete], measures)


def examine(path: Path) -> Analysis:
    """Read a study's folder and analyse it; nothing is written.

    Raises:
        FolderError: it holds no study, or something in it is damaged.
    """
    folder = Folder(named(path))
    study = folder.read_study()
    records = folder.read_records(study)
    complete = [record for record in records if record.state == COMPLETE]
    return Analysis(folder, study, records, frame(study, complete), choose(study, complete))
