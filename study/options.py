"""The options of `python -m study.run`. Invalid ones exit with code 2, without torch or Ray."""

import argparse
import os
import re
import shlex
from pathlib import Path
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Gt, Le
from pydantic import Field, field_validator

from moe.cli import AUTO, Parser, SharedOptions, add_options, checked_location, from_options, option, refuse, whole
from moe.config import HOLDOUT, Protocol
from moe.files import expanded
from moe.schema import Model, fields
from study.rules import MOST_CPUS, gpu_share
from study.space import PRESETS, Sampler, Space, read
from study.study import CONFIRM_FROM, REFINE_FROM, Objective

PROGRAM = "python -m study.run"
RESUME_COMMAND = "STUDY_RESUME_COMMAND"  # environment variable: the command that resumes a study, if it is another
MOST_TRIALS = 100_000
MOST_PORT = 65_535
EVERY_POINT = 0  # what `--trials all` is read as
MOST_SEED = 2_000_000  # a study's seeds are 1,000 apart and fit 31 bits
RESOURCES = ("gpus_per_trial", "cpus_per_trial", "concurrency", "mixed", "stall_minutes", "address")
#: what a resume needs again, because study.json does not hold it
PER_RUN = ("results", *RESOURCES, "store", "no_store", "max_failures", "log", "worker")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")

#: what --log takes, and the package that each needs
LOG_PACKAGES = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}

#: what a new study gets if an option is not given
DEFAULTS: dict[str, Any] = {
    "trials": 50,
    "seeds": 1,
    "refine": 5,
    "refine_seeds": 4,
    "margin": 2.0,
    "space": "notebook",
    "sampler": AUTO,
    "objective": "gain",
    "seed": 0,
    "protocol": HOLDOUT,
}


def _default(name: str, meaning: str, **settings: Any) -> Any:
    """A field of an option with such a default, which its help names."""
    return Field(description=f"{meaning}, by default {DEFAULTS[name]}", **settings)


class RayOptions(SharedOptions):
    """What every command takes that trains under Ray; None where one is not given."""

    program: ClassVar[str] = PROGRAM
    results: Annotated[
        str, Field(title="DIR|URL", description="the folder of all studies, or where ./results is copied to")
    ] = "results"
    gpus_per_trial: Annotated[float | None, Field(title="G", description="by default 1 if there is a GPU, else 0")] = (
        None
    )
    cpus_per_trial: Annotated[
        int | None, Ge(1), Le(MOST_CPUS), Field(title="C", description="by default an equal share")
    ] = None
    concurrency: Annotated[int | None, Ge(1), Le(4096), Field(title="K", description="trials at a time")] = None
    mixed: Annotated[
        bool, Field(description="train on nodes of different CPUs or GPUs, whose results differ in their last digits")
    ] = False
    stall_minutes: Annotated[
        float, Gt(0), Le(100_000), Field(title="M", description="end a trial that reports nothing for so long")
    ] = 120.0
    address: Annotated[str, Field(title="ADDRESS", description="of a Ray cluster: local, auto or HOST:PORT")] = "local"

    @field_validator("gpus_per_trial", mode="before")
    @classmethod
    def _gpus(cls, gpus: float | None) -> float | None:
        return gpu_share("gpus_per_trial", gpus)

    @field_validator("results")
    @classmethod
    def _results(cls, results: str) -> str:
        return checked_location("results", results) if "://" in results else str(expanded(results or "."))

    @property
    def studies(self) -> Path:
        """The folder of all studies on this machine, whether they are copied to a URL or not."""
        return Path("results" if "://" in self.results else self.results)

    @field_validator("address")
    @classmethod
    def _address(cls, address: str) -> str:
        port = re.fullmatch(r"[^\s:/]+:(\d{1,5})", address)
        if address in ("local", "auto") or (port and int(port[1]) <= MOST_PORT):
            return address
        raise ValueError(f"address is {address!r}; expected local, auto or HOST:PORT")


class Options(RayOptions):
    """The command line; None where an option is not given."""

    trials: Annotated[int | None, Ge(EVERY_POINT), Le(MOST_TRIALS), Field(title="N|all")] = None
    seeds: Annotated[int | None, Ge(1), Le(REFINE_FROM), _default("seeds", "seeds of each point")] = None
    refine: Annotated[
        int | None, Ge(0), Le(50), _default("refine", "leaders that run on fresh seeds after the search, 0 for none")
    ] = None
    refine_seeds: Annotated[
        int | None, Ge(1), Le(CONFIRM_FROM - REFINE_FROM), _default("refine_seeds", "fresh seeds of each finalist")
    ] = None
    margin: Annotated[
        float | None, Ge(0), Le(100), _default("margin", "points that a baseline may lack to the best, in fair_gain")
    ] = None
    space: Annotated[str | None, _default("space", f"{' or '.join(PRESETS)}, or a YAML file", title="NAME|FILE")] = None
    sampler: Annotated[Sampler | None, _default("sampler", "how points are proposed")] = None
    objective: Annotated[Objective | None, _default("objective", "what is maximised")] = None
    seed: Annotated[int | None, Ge(0), Le(MOST_SEED), _default("seed", "of the study")] = None
    protocol: Annotated[Protocol | None, _default("protocol", "which images choose and score")] = None
    hours: Annotated[
        float | None, Gt(0), Le(10_000), Field(title="H", description="start no trial that would end after this time")
    ] = None
    max_failures: Annotated[
        int | None,
        Ge(1),
        Le(MOST_TRIALS),
        Field(description="failed trials that end the study, by default a fifth of those wanted, at least 3"),
    ] = None
    log: Annotated[
        str | None, Field(title="NAMES", description=f"also log trials to {', '.join(LOG_PACKAGES)}; with commas")
    ] = None
    dry_run: Annotated[bool, Field(description="print the plan and its cost, and exit")] = False
    print_json: bool = False
    worker: Annotated[
        bool, Field(description="run trials of a grid in this process, beside others with this command; without Ray")
    ] = False
    name: Annotated[str | None, Field(title="NAME", description="of the study, by default the next free one")] = None
    resume: Annotated[bool, Field(description="continue the study --name, or the newest one")] = False

    @field_validator("log")
    @classmethod
    def _log(cls, log: str | None) -> str | None:
        for name in log.split(",") if log is not None else ():
            if name not in LOG_PACKAGES:
                raise ValueError(f"log is {log!r}; expected {', '.join(LOG_PACKAGES)}, or some of them with commas")
        return log

    @property
    def loggers(self) -> tuple[str, ...]:
        """The names in `log`, each once."""
        return tuple(dict.fromkeys(self.log.split(","))) if self.log else ()

    @field_validator("name")
    @classmethod
    def _name(cls, name: str | None) -> str | None:
        try:
            return None if name is None else study_name(name)
        except argparse.ArgumentTypeError as error:
            raise ValueError(f"name {error}") from None


def parse(arguments: list[str] | None = None) -> Options:
    """Read the command line; invalid options exit with code 2."""
    options = from_options(Options, parser().parse_args(arguments), PROGRAM)
    if options.print_json and not options.dry_run:
        refuse(PROGRAM, "--json is given without --dry-run; expected both: a study writes its results into its folder")
    if options.worker:
        _check_worker(options)
    return options


def _check_worker(options: Options) -> None:
    """Refuse what a worker without Ray cannot have."""
    if not options.name:
        refuse(PROGRAM, "--worker is given without --name; expected the name that all workers of the study are given")
    unfit = {"no_store": "a store that all workers share", "log": "none: only the driver of a study logs"}
    unfit |= {"concurrency": "as many workers as trials at once", "address": "none: workers need no Ray"}
    if "://" in options.results:
        refuse(PROGRAM, f"--worker is given with --results {options.results}; expected a folder that all workers see")
    for name, expected in unfit.items():
        if getattr(options, name) != fields(Options)[name].default:
            refuse(PROGRAM, f"--worker is given with {option(name)}; expected {expected}")


def parser() -> Parser:
    """All options of the command."""
    command = Parser(
        prog=PROGRAM,
        description="Search for the config in which the mixture of experts beats its baseline by most.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit codes: 0 done, 1 a bug, 2 wrong usage, 3 too many trials failed, 4 data or machine, "
        "75 interrupted and resumable",
    )
    search = command.add_argument_group("search")
    meaning = f"points to complete, or all of the space, by default {DEFAULTS['trials']}"
    search.add_argument("--trials", type=_trials, metavar="N|all", help=meaning)
    add_options(search, Options, "space", "sampler", "objective", "margin", "seed", "seeds", "refine", "refine_seeds")
    add_options(search, Options, "protocol", "precision", "hours", "max_failures", "log", "dry_run")
    words = "print the plan and its cost as JSON, and all else to stderr"
    search.add_argument("--json", dest="print_json", action="store_true", help=f"with --dry-run: {words}")
    folder = command.add_argument_group("results and data")
    add_options(folder, Options, "name", "results", "resume", "data", "dataset")
    add_options(folder.add_mutually_exclusive_group(), Options, "store", "no_store")
    add_options(command.add_argument_group("resources"), Options, *RESOURCES, "worker")
    return command


def as_words(options: Model, *names: str) -> list[str]:
    """Options, all or those of these names, as a command line has them, without those that have their default."""
    words = []
    for name in names or fields(type(options)):
        value = getattr(options, name)
        if value is True:
            words += [option(name)]
        elif value != fields(type(options))[name].default:
            words += [option(name), "all" if (name, value) == ("trials", EVERY_POINT) else str(value)]
    return words


def resume_command(options: Options, name: str) -> str:
    """The command that continues a study."""
    words = [*PROGRAM.split(), "--resume", "--name", name, *as_words(options, *PER_RUN)]
    return os.environ.get(RESUME_COMMAND) or shlex.join(words)


def _trials(text: str) -> int:
    if text == "all":
        return EVERY_POINT
    try:
        return whole(1, MOST_TRIALS)(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, or all") from None


def study_name(text: str) -> str:
    """A study's name as it was given; anything else is refused."""
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"is {text!r}; expected 1 to 80 letters, digits, dots, dashes or underscores, the first a letter or digit"
        )
    return text


def space_of(name: str, protocol: Protocol) -> Space:
    """The search space of that name or file; an invalid one exits with code 2."""
    try:
        return read(name, protocol)
    except ValueError as error:
        refuse(PROGRAM, f"--space {str(error).removeprefix('space ')}")
