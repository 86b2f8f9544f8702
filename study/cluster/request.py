"""What `python -m study.submit` is asked for, and which options each kind of cluster and each action has."""

import re
import shlex
from pathlib import Path
from typing import Annotated, Literal, Self

from annotated_types import Ge, Le
from pydantic import Field, field_validator, model_validator

from moe.schema import Model
from study.options import Options, as_words

PROGRAM = "python -m study.submit"
Kind = Literal["ray", "slurm", "kubernetes"]
Action = Literal["submit", "status", "logs", "stop", "fetch", "resume"]
#: for each action a sentence
ACTIONS: dict[Action, str] = {
    "submit": "Submit a study and follow it, or write the file that a scheduler runs.",
    "status": "List the studies of the cluster, or print how one of them is.",
    "logs": "Print what a study has printed.",
    "stop": "Let a study save and end, as Ctrl-C does.",
    "fetch": "Copy a study's records, tables and figures here.",
    "resume": "Continue a study.",
}
SENDS = ("submit", "resume")  # the actions that options of study.run may follow
#: which cluster it is: options of every action, and of every command that is printed
PLACE: dict[Kind, tuple[str, ...]] = {
    "ray": ("address", "ca", "without_authentication"), "slurm": (), "kubernetes": ("namespace",),
}  # fmt: skip
#: what a job gets there: options of submit and resume
JOB: dict[Kind, tuple[str, ...]] = {
    "ray": ("detach", "dry_run"),
    "slurm": ("nodes", "time", "partition", "account", "exclusive"),
    "kubernetes": ("nodes", "image", "claim", "queue"),
}
#: the options of the other actions
OTHERS: dict[Kind, dict[Action, tuple[str, ...]]] = {
    "ray": {"logs": ("follow",), "fetch": ("results",)},
    "slurm": {"logs": ("follow", "results"), "fetch": ("results",)},
    "kubernetes": {"logs": ("follow",), "fetch": ("results", "image", "claim")},
}

NOT_GIVEN = "/dev/null/results"  # in place of --results where it is not given: no folder can be there
_TIME = re.compile(r"\d+(:\d\d){0,2}|\d+-\d+(:\d\d){0,2}", re.ASCII)  # as sbatch takes it
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._,@:/-]*")  # safe in a shell and in YAML


class Request(Model):
    """What the command line asks for."""

    action: Action
    on: Annotated[Kind, Field(description="what runs the study")] = "ray"
    name: str | None = None
    run: Options | None = None  # of study.run
    env: Annotated[dict[str, str], Field(default_factory=dict)]
    follow: Annotated[bool, Field(description="continue until the study ends; Ctrl-C leaves it running")] = False
    results: Annotated[Path, Field(title="DIR", description="the results folder on this machine")] = Path("results")
    source: str | None = None  # the results folder on the cluster, or behind a URL, for fetch
    send: bool = False  # to the scheduler, instead of printing the file

    address: str = ""  # of the dashboard, a URL
    ca: Annotated[
        Path | None, Field(title="FILE", description="certificates to trust, in PEM, for an address with https")
    ] = None
    without_authentication: Annotated[bool, Field(description="use a cluster that lets everybody run code")] = False
    detach: Annotated[bool, Field(description="return once the study is submitted")] = False
    dry_run: Annotated[bool, Field(description="check every node in a job, run no study")] = False

    nodes: Annotated[int, Ge(1), Le(10_000), Field(description="machines for trials")] = 1
    time: Annotated[str | None, Field(title="TIME", description="limit of the job, such as 12:00:00")] = None
    partition: Annotated[str | None, Field(title="NAME", description="of Slurm")] = None
    account: Annotated[str | None, Field(title="NAME", description="of Slurm")] = None
    exclusive: Annotated[bool, Field(description="take whole nodes, and start Ray by `ray symmetric-run`")] = False

    namespace: Annotated[str | None, Field(title="NAME", description="of Kubernetes")] = None
    image: Annotated[str | None, Field(title="IMAGE", description="that has this project installed")] = None
    claim: Annotated[str | None, Field(title="NAME", description="a persistent volume claim that all pods share")] = (
        None
    )
    queue: Annotated[str | None, Field(title="NAME", description="a local queue of Kueue")] = None

    @field_validator("results")
    @classmethod
    def _results(cls, results: Path) -> Path:
        if re.match(r"[a-z0-9]+:/", str(results)):  # a URL, as Path writes it
            raise ValueError(f"results is {results}; expected a folder on this machine")
        return results

    @field_validator("time")
    @classmethod
    def _time(cls, time: str | None) -> str | None:
        if time is None or _TIME.fullmatch(time):
            return time
        raise ValueError(f"time is {time!r}; expected minutes, HH:MM:SS or D-HH:MM:SS")

    @model_validator(mode="after")
    def _words(self) -> Self:
        for name in ("partition", "account", "namespace", "image", "claim", "queue"):
            if (word := getattr(self, name)) is not None and not _WORD.fullmatch(word):
                raise ValueError(f"{name} is {word!r}; expected letters, digits and . _ , @ : / -")
        return self

    @property
    def results_given(self) -> bool:
        """Whether the options of study.run have --results."""
        return self.run is not None and self.run.results != NOT_GIVEN

    def command(self, action: Action, name: str, *words: str) -> str:
        """Another command about a study on the same cluster."""
        place = as_words(self, "on", *PLACE[self.on])
        if action in SENDS and self.on != "ray":  # a Ray cluster knows what its jobs had
            place += as_words(self, *JOB[self.on])
            for variable in self.env.items():
                place += ["--env", "=".join(variable)]
        return shlex.join([*PROGRAM.split(), action, *place, name, *words])
