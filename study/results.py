"""A study's results in Python: `from study import load`. Nothing is written, and the study may be running."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import optuna
import pandas as pd
from matplotlib.figure import Figure
from rich.markdown import Markdown

from moe.config import Config
from study.analyze.analysis import Analysis, examine
from study.analyze.database import in_memory
from study.analyze.drawing import figures
from study.analyze.tables import curves, epochs, frame, summary
from study.select.choice import Choice
from study.select.model import predict
from study.study import COMPLETE, FAILED, RUNNING, Record, Study


class Estimate(NamedTuple):
    """What the model expects of a config's objective, as a fraction."""

    value: float
    low: float | None  # 95 %, for new seeds and new images; None where too few replicates show the noise
    high: float | None
    trials: int  # complete ones of the config


class Results:
    """A study and its trials. A terminal with rich, and a notebook, show it as summary.md."""

    def __init__(self, analysis: Analysis) -> None:
        self.analysis = analysis

    @property
    def study(self) -> Study:
        """What is searched, and how."""
        return self.analysis.study

    @property
    def records(self) -> list[Record]:
        """All that is recorded of each trial, by number."""
        return list(self.analysis.records)

    @cached_property
    def trials(self) -> pd.DataFrame:
        """trials.csv: one row per trial, running and failed ones included. Accuracies and gain are fractions."""
        return frame(self.study, self.analysis.records)

    @cached_property
    def epochs(self) -> pd.DataFrame:
        """epochs.csv: one row per trial, stage and epoch. Accuracies are fractions, losses nats per image."""
        return epochs(self.analysis.records)

    @cached_property
    def curves(self) -> pd.DataFrame:
        """One row per complete trial: the columns of `trials`, and in NAME_epochs what each stage's epochs came to.

        `study.curves.to_parquet("curves.parquet")` keeps it in one file.
        """
        return curves(self.study, self.analysis.records)

    @property
    def best(self) -> Choice | None:
        """The chosen config with its estimate; None while no trial is complete."""
        return self.analysis.choice

    def estimate(self, config: Config) -> Estimate:
        """What the model expects of a config of the space, tried or not, whatever its seed.

        Raises:
            ValueError: the config is not of the space, or no trial is complete.
        """
        point = self.study.space.point(config)
        if not self.analysis.complete:
            raise ValueError(f"{self.study.name} has no complete trial; expected one at least")
        value, half = predict(self.analysis.observations[self.study.objective], list(point.values()))
        count = sum(self.study.space.point(record.config) == point for record in self.analysis.complete)
        return (
            Estimate(value, None, None, count) if half is None else Estimate(value, value - half, value + half, count)
        )

    def optuna(self) -> optuna.Study:
        """The trials as an Optuna study in memory, for Optuna's plots and importances."""
        return in_memory(self.study, self.records)

    @cached_property
    def figures(self) -> Mapping[str, Figure]:
        """The figures that the trials allow, by name: `study.figures["effects"].savefig("effects.pdf")`."""
        return figures(self.analysis)

    def __repr__(self) -> str:
        counts = {state: len(self.analysis.of(state)) for state in (COMPLETE, FAILED, RUNNING)}
        states = ", ".join(f"{number} {state}" for state, number in counts.items() if number) or "no trials"
        return f"<study {self.study.name}: {states}. {self.best.why if self.best else ''}".rstrip(" .") + ">"

    def _repr_markdown_(self) -> str:
        return summary(self.study, self.analysis.records, self.best)

    def __rich__(self) -> Markdown:
        return Markdown(self._repr_markdown_())


def load(path: str | Path) -> Results:
    """The results of a study's folder; raises a FolderError if it holds none, or something in it is damaged."""
    return Results(examine(Path(path)))
