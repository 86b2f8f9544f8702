"""`python -m study.ask results/NAME epochs=6 use_large_experts=true`: what the model expects of a config, tried or not.

What is not named is as in the chosen config. It also prints what one more trial of the config would train now, and
`--run` runs it.
"""

from study.early import hold_signals

if __name__ == "__main__":
    hold_signals()  # before the rest is imported

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from moe.cli import Parser, add_options, from_options, refuse
from moe.config import Config
from moe.console import Exit, duration, emit, fail, warn
from moe.schema import fields
from study.definition import Request, data_folder, refuse_data_for_shapes
from study.folder import named
from study.guard import guarded
from study.options import RESOURCES, Options
from study.search.resources import Resources, local
from study.search.stopping import Stop
from study.space import read_value
from study.study import Study

if TYPE_CHECKING:
    from study.results import Results

PROGRAM = "python -m study.ask"


class AskOptions(Options):
    """The command line."""

    program: ClassVar[str] = PROGRAM
    folder: Path
    values: dict[str, Any]  # by field of the config
    run: bool
    concurrency: int | None = 1  # so that the trial gets more than one CPU


def parser() -> Parser:
    """All options of the command."""
    command = Parser(
        prog=PROGRAM,
        description="Print what the model of a study's trials expects of a config of its space, tried or not, and "
        "what one more trial of it would train now.",
        epilog="exit codes: 0 done, 1 a bug, 2 wrong usage, 3 the trial failed, 4 no study, a damaged one, no complete "
        "trial, data or machine, 75 interrupted",
    )
    command.add_argument("folder", type=Path, metavar="results/NAME", help="the study's folder")
    command.add_argument(
        "fields", type=_field, nargs="*", metavar="FIELD=VALUE", help="by default as the choice has it"
    )
    command.add_argument("--run", action="store_true", help="run it as one more trial of the study, on its next seed")
    add_options(command, AskOptions, "data")
    add_options(command.add_mutually_exclusive_group(), AskOptions, "store", "no_store")
    resources = command.add_argument_group("resources")
    add_options(resources, AskOptions, *(name for name in RESOURCES if name != "concurrency"))
    return command


def parse(arguments: list[str] | None = None) -> AskOptions:
    """Read the command line; invalid options exit with code 2."""
    given = parser().parse_intermixed_args(arguments)
    folder, names = named(given.folder), [name for name, _ in given.fields]
    if twice := next((name for name in names if names.count(name) > 1), None):
        refuse(PROGRAM, f"{twice} is given twice; expected each field once")
    return from_options(
        AskOptions, given, PROGRAM, folder=folder, results=str(folder.parent), values=dict(given.fields)
    )


def _field(text: str) -> tuple[str, Any]:
    name, _, word = text.partition("=")
    if name not in fields(Config) or not word:
        raise argparse.ArgumentTypeError(f"is {text!r}; expected a field of a config and its value, as epochs=6")
    try:
        return name, read_value(name, word)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"is {text!r}: {error}") from None


def main(arguments: Sequence[str] | None = None) -> Exit:
    """Run the command; the exit code."""
    return guarded(PROGRAM, parse, _ask, arguments)


def _ask(options: AskOptions, command: str, stop: Stop) -> Exit:
    from study.results import load  # pandas and Optuna, once the options are checked

    found = load(options.folder)
    study = found.study
    resources = local(options, study.space.resources) if options.address == "local" else None
    refuse_data_for_shapes(PROGRAM, study, options.data)
    if not found.best:
        return fail(PROGRAM, f"{study.name} has no complete trial; expected one at least")
    try:
        config = found.best.config.replace(**options.values)
        point = study.space.point(config)
        _check_fixed(config, point, study)
    except ValueError as error:
        refuse(PROGRAM, str(error))
    emit(_expected(found, config))
    if resources:
        emit(_needed(found, point, options.location, resources))
    if not options.run:
        return Exit.DONE
    from study.driver import drive  # torch and Ray

    request = Request(
        options=options,
        command=command,
        study=study.replace(data_folder=data_folder(options, study)),
        before=study,
        asked=point,
    )
    code = drive(request, resources, stop)
    if code == Exit.DONE:
        emit(_expected(load(options.folder), config))
    return code


def _check_fixed(config: Config, point: dict[str, int], study: Study) -> None:
    """Raise a ValueError if a field that the space does not name is not as in the study's trials."""
    trained = study.config(point, 0).replace(seed=config.seed)
    for name, value in config:
        if value != (had := getattr(trained, name)):
            raise ValueError(f"{name} is {value}; expected {had}, with which study {study.name} trains every config")


def _expected(results: "Results", config: Config) -> str:
    """A config and the model's estimate of it."""
    from study.analyze.tables import settings
    from study.select.choice import shown

    found, objective = results.estimate(config), results.study.objective
    interval = "no interval: too few configs have further seeds"
    if found.low is not None and found.high is not None:
        interval = f"95 % interval {shown(found.low, objective)} to {shown(found.high, objective)}"
    tried = f"{found.trials} trial{'s' * (found.trials > 1)}" if found.trials else "never tried"
    return (
        f"{settings(config, results.study.space)} ({tried})\n"
        f"estimated {objective.replace('_', ' ')} {shown(found.value, objective)}; {interval}"
    )


def _needed(results: "Results", point: dict[str, int], location: str | None, resources: Resources) -> str:
    """What one more trial at a point would train now."""
    from study.search.ledger import Ledger
    from study.search.remaining import remaining
    from study.search.worker import devices

    study = results.study
    replicate = Ledger(study, results.records, save=lambda record: None).next_replicate(point)
    config, device = study.config(point, replicate), devices(resources)[0]
    found = remaining(config, study.data, results.records, location, device, partial(warn, PROGRAM))
    left = "no trial shows how long the others take"
    if found.seconds is not None:
        left = f"the others take about {duration(found.seconds)} of training"
    return (
        f"one more trial, with seed {config.seed}, takes {found.epochs} epochs at most; {found.stored} of them are "
        f"stored; {left}"
    )


if __name__ == "__main__":
    sys.exit(main())
