"""What a study is, and what it records of each trial: typed values that JSON holds too. No torch, no Ray.

A field with a description is a column of the results table, under its own name.
"""

import datetime
from functools import cached_property
from typing import Annotated, Any, Final, Literal, Self, get_args

from annotated_types import Ge
from pydantic import AwareDatetime, Field, model_validator

from moe.config import Config, Precision, Protocol
from moe.result import Count, Positive, Result, Share
from moe.schema import Model
from study.space import Sampler, Space

SCHEMA: Final = 2  # version of study.json and of the records
Objective = Literal["gain", "mixture_accuracy", "fair_gain"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
State = Literal["running", "complete", "failed"]
RUNNING: Final = "running"
COMPLETE: Final = "complete"
FAILED: Final = "failed"
SEARCH: Final = "search"
REFINE: Final = "refine"
ASK: Final = "ask"
Phase = Literal["search", "refine", "ask"]
LOST = "the worker process ended without a report: killed, out of memory, or its node was lost"
NOT_RUN = "the trial could not be run:"  # begins the error
STALLED = "the worker process has reported nothing for"  # begins the error
SEED_STRIDE = 1000  # between the seeds of two studies
REFINE_FROM = 250  # the first replicate of the phase refine: no seed of the search is below it by chance
CONFIRM_FROM = 500  # the first replicate of a confirmation
DEFAULTS = dict(Config())


#: a time that every calendar and table has
Moment = Annotated[AwareDatetime, Ge(datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC))]


class Reference(Model):
    """A baseline at the end of its chain: what gains are held against."""

    config: Config
    accuracy: Share


class Study(Model):
    """What a study searches, and how. Two runs of one study agree in all of this but the budgets and the references.

    Budgets are `trials`, `refine` and `refine_seeds`. The references are empty until their phase has ended.
    """

    name: str
    space: Space
    objective: Objective  # the score that the study maximises
    sampler: Sampler
    seed: Count
    protocol: Protocol
    precision: Precision
    dataset: str
    data: str  # the data set's fingerprint
    source: str  # where the data were read, and why these
    data_folder: str | None  # as given
    trials: Count  # points of the search to complete
    seeds: Positive = 1  # that the search runs each point on
    refine: Count = 0  # leaders of the search that run on fresh seeds after it
    refine_seeds: Positive = 4  # fresh seeds of each finalist
    margin: Share = 0.02  # by which a baseline may lack to the reference in fair_gain
    reference: tuple[Reference, ...] = ()

    def seed_of(self, replicate: int) -> int:
        """The seed of a config's trials, by how many came before; the same for all configs."""
        return SEED_STRIDE * self.seed + replicate

    def config(self, point: dict[str, int], replicate: int) -> Config:
        """The config of a point of the space with the seed of a replicate."""
        return Config(**self.space.values(point), **self.common(replicate))

    @property
    def search_trials(self) -> int:
        """Complete trials that the search takes: each point on every seed."""
        return self.trials * self.seeds

    def reference_accuracy(self, config: Config) -> float | None:
        """The best reference with as many training examples; None before the phase reference."""
        return self._best_references.get(config.train_examples)

    @cached_property
    def _best_references(self) -> dict[int, float]:
        """The accuracy of the best reference by its training examples."""
        best: dict[int, float] = {}
        for config, accuracy in ((each.config, each.accuracy) for each in self.reference):
            best[config.train_examples] = max(accuracy, best.get(config.train_examples, accuracy))
        return best

    def value(self, record: "Record", objective: Objective) -> float:
        """An objective of a complete trial.

        A fair gain is over the trial's baseline or, where that is higher, over the reference less the margin.
        """
        score = record.done.score
        if objective != "fair_gain":
            return float(getattr(score, objective))
        return score.mixture_accuracy - max(score.baseline_accuracy, self.fair_baseline(record.config))

    def fair_baseline(self, config: Config) -> float:
        """The accuracy that a fair gain is over at least: the reference less the margin."""
        reference = self.reference_accuracy(config)
        return 0.0 if reference is None else reference - self.margin

    def common(self, replicate: int) -> dict[str, Any]:
        """The fields of a config that are the study's, not the space's."""
        return {"protocol": self.protocol, "precision": self.precision, "seed": self.seed_of(replicate)}


class Run(Model):
    """One start of the driver that added to a study."""

    started: Moment
    command: str
    commit: str | None
    versions: dict[str, str]
    store: str
    machine: dict[str, str] = Field(default_factory=dict)  # of the driver: host, os and cpu; empty where not recorded


class Record(Model):
    """One trial: a config trained once with one seed."""

    schema_version: Literal[2] = SCHEMA
    trial: Annotated[Positive, Field(description="number in the study, from 1")]
    phase: Annotated[Phase, Field(description="search, refine, or ask: by study.ask --run")] = SEARCH
    state: Annotated[
        State,
        Field(description="complete, failed, or running: under way, or left by an interruption for a resume"),
    ] = RUNNING
    replicate: Annotated[Count, Field(description="trials of this config that came before; it decides the seed")]
    config: Config
    result: Result | None = None
    started: Annotated[Moment, Field(description="when a worker was requested")]
    ended: Annotated[Moment | None, Field(description="when the trial was complete or failed")] = None
    error: Annotated[str | None, Field(description="why it failed")] = None
    traceback: str | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for name, state in (("result", COMPLETE), ("error", FAILED)):
            if (getattr(self, name) is not None) != (self.state == state):
                here = "missing" if self.state == state else "present"
                raise ValueError(f"state is {self.state} and {name} is {here}; expected a record of one outcome")
        if self.result and self.result.config != self.config:
            raise ValueError("config of the result is another; expected the config of the trial")
        return self

    def check(self, study: Study) -> None:
        """Raise a ValueError with the reason if this is not a trial of the study."""
        values = study.space.values(study.space.point(self.config))
        for name, value in {**DEFAULTS, **values, **study.common(self.replicate)}.items():
            if (found := getattr(self.config, name)) != value:
                raise ValueError(f"{name} of its config is {found!r}; expected {value!r}")
        if self.result and self.result.data != study.data:
            raise ValueError("its data are not those of its study")

    def ended_as(self, state: Literal["complete", "failed"], **fields: Any) -> "Record":
        """The record of the same trial at its end."""
        return self.replace(state=state, ended=now(), **fields)

    @property
    def done(self) -> Result:
        """The result of a complete trial."""
        assert self.result is not None, f"trial {self.trial} is {self.state}"
        return self.result

    @property
    def repeatable(self) -> bool:
        """Whether another trial with this config and seed may end otherwise: it was not its own failure."""
        return self.state == FAILED and str(self.error).startswith((LOST, NOT_RUN, STALLED))


class StudyFile(Model):
    """What study.json holds."""

    schema_version: Literal[2] = SCHEMA
    study: Study
    seeds: str = f"{SEED_STRIDE} * seed + replicate; the first trial of a config is replicate 0"
    runs: tuple[Run, ...]


def now() -> datetime.datetime:
    """This moment with its time zone, to the second."""
    return datetime.datetime.now().astimezone().replace(microsecond=0)
