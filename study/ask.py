"""`python -m study.ask results/NAME epochs=6 use_large_experts=true`: what the model expects of a config, tried or not.

What is not named is as in the chosen config.
"""

import argparse
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from moe.cli import Parser, refuse
from moe.config import Config
from moe.console import Exit, emit, fail, tolerate_lost_output
from study.folder import FolderError
from study.study import Study

PROGRAM = "python -m study.ask"


def parser() -> Parser:
    """All options of the command."""
    command = Parser(
        prog=PROGRAM,
        description="Print what the model of a study's trials expects of a config of its space, tried or not.",
        epilog="exit codes: 0 done, 2 wrong usage, 4 no study, a damaged one, or no complete trial, 130 Ctrl-C",
    )
    command.add_argument("folder", type=Path, metavar="results/NAME", help="the study's folder")
    command.add_argument(
        "fields", type=_field, nargs="*", metavar="FIELD=VALUE", help="by default as the choice has it"
    )
    return command


def _field(text: str) -> tuple[str, Any]:
    name, _, word = text.partition("=")
    try:
        value = yaml.safe_load(word)
    except (yaml.YAMLError, ValueError):
        value = None
    if not name or value is None:
        raise argparse.ArgumentTypeError(f"is {text!r}; expected as epochs=6")
    if isinstance(value, str):
        with suppress(ValueError):
            value = float(value)  # YAML 1.1 reads 1e-3 as a word
    return name, value


def main() -> int:
    """Run the command; the exit code."""
    tolerate_lost_output()
    try:
        return _ask(parser().parse_args())
    except FolderError as error:
        return fail(PROGRAM, str(error))
    except KeyboardInterrupt:
        return Exit.CTRL_C


def _ask(options: argparse.Namespace) -> int:
    from study.analyze.tables import settings
    from study.results import load
    from study.select.choice import shown

    study = load(options.folder)
    if not study.best:
        return fail(PROGRAM, f"{study.study.name} has no complete trial; expected one at least")
    try:
        config = study.best.config.replace(**dict(options.fields))
        found = study.estimate(config)
        _check_fixed(config, study.study)
    except ValueError as error:
        refuse(PROGRAM, str(error))
    objective = study.study.objective
    interval = "no interval: too few configs have further seeds"
    if found.low is not None and found.high is not None:
        interval = f"95 % interval {shown(found.low, objective)} to {shown(found.high, objective)}"
    tried = f"{found.trials} trials" if found.trials else "never tried"
    emit(f"{settings(config, study.study.space)} ({tried})")
    emit(f"estimated {objective.replace('_', ' ')} {shown(found.value, objective)}; {interval}")
    return Exit.DONE


def _check_fixed(config: Config, study: Study) -> None:
    """Raise a ValueError if a field that the space does not name is not as in the study's trials."""
    trained = study.config(study.space.point(config), 0).replace(seed=config.seed)
    for name, value in config:
        if value != (had := getattr(trained, name)):
            raise ValueError(f"{name} is {value}; expected {had}, with which study {study.name} trains every config")


if __name__ == "__main__":
    sys.exit(main())
