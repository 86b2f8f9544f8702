"""The options of `python -m study.run`, and how wrong ones are refused: at once, without torch or Ray."""

import argparse
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from moe.cli import Parser, add_data, add_precision, add_store, number, refuse, store_of, whole
from moe.config import IMAGES, Precision, Protocol
from study.space import PRESETS, SAMPLERS, Sampler, Space, read
from study.study import OBJECTIVES, Objective

PROGRAM = "python -m study.run"
MOST_TRIALS = 100_000
MOST_SEED = 2_000_000  # a study's seeds are 1,000 apart and fit 31 bits
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What was asked for; None where an option was not given."""

    trials: int | None
    name: str | None
    results: Path
    data: Path | None
    dataset: str | None
    space: str | None
    sampler: Sampler | None
    objective: Objective | None
    seed: int | None
    protocol: Protocol | None
    precision: Precision | Literal["auto"] | None
    gpus_per_trial: float | None
    cpus_per_trial: int | None
    concurrency: int | None
    address: str
    store: str | None
    no_store: bool
    resume: bool
    hours: float | None
    dry_run: bool

    def location(self) -> str | None:
        """Where trained stages are kept; None for --no-store. A wrong MOE_STORE is refused with exit code 2."""
        return store_of(self, PROGRAM)


def parse(arguments: list[str] | None = None) -> Options:
    """Read the command line; what is wrong on its face is refused with exit code 2."""
    options = Options(**vars(_parser().parse_args(arguments)))
    if options.dataset == "shapes" and options.data:
        refuse(PROGRAM, f"--data is {options.data}; expected none with --dataset shapes, which is drawn by code")
    options.location()
    return options


def _parser() -> Parser:
    parser = Parser(
        prog=PROGRAM,
        description="Search for the config in which the mixture of experts beats its baseline by most.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit codes: 0 done, 1 a bug, 2 wrong usage, 3 too many trials failed, 4 data or machine, "
        "75 interrupted and resumable",
    )
    search = parser.add_argument_group("search")
    search.add_argument(
        "--trials", type=whole(1, MOST_TRIALS), metavar="N", help="complete trials to reach (default: 50)"
    )
    search.add_argument("--space", metavar="NAME|FILE", help=f"{' or '.join(PRESETS)}, or a YAML file (notebook)")
    search.add_argument("--sampler", choices=SAMPLERS, help="how points are proposed (auto)")
    search.add_argument("--objective", choices=OBJECTIVES, help="what is improved (gain)")
    search.add_argument("--seed", type=whole(0, MOST_SEED), metavar="N", help="of the study (0)")
    search.add_argument("--protocol", choices=tuple(IMAGES), help="which images choose and score (holdout)")
    add_precision(search)
    search.add_argument("--hours", type=_hours, metavar="H", help="stop launching trials in time for this")
    search.add_argument("--dry-run", action="store_true", help="print the plan and its cost, and leave")
    folder = parser.add_argument_group("results and data")
    folder.add_argument("--name", type=study_name, help="of the study (default: the next free one)")
    folder.add_argument(
        "--results",
        type=Path,
        default=Path("results"),
        metavar="DIR",
        help="where studies are kept (results)",
    )
    folder.add_argument("--resume", action="store_true", help="go on with --name, or with the newest study")
    add_data(folder)
    add_store(folder)
    resources = parser.add_argument_group("resources")
    resources.add_argument("--gpus-per-trial", type=_gpus, metavar="G", help="1 where there is a GPU, else 0")
    resources.add_argument("--cpus-per-trial", type=whole(1, 4096), metavar="C", help="default: a fair share")
    resources.add_argument("--concurrency", type=whole(1, 4096), metavar="K", help="trials at once")
    resources.add_argument(
        "--address",
        type=_address,
        default="local",
        help="of a Ray cluster: local (default), auto or HOST:PORT",
    )
    return parser


def study_name(text: str) -> str:
    """A study's name as it was given; anything else is refused."""
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"is {text!r}; expected 1 to 80 letters, digits, dots, dashes or underscores, the first a letter or digit"
        )
    return text


def _gpus(text: str) -> float:
    value = number(text)
    if not (value == 0 or 0.01 <= value <= 1 or (math.isfinite(value) and value > 1 and value == int(value))):
        raise argparse.ArgumentTypeError(f"is {text}; expected 0, a fraction from 0.01 to 1 or a whole number")
    return value


def _hours(text: str) -> float:
    value = number(text)
    if not 0 < value <= 10_000:
        raise argparse.ArgumentTypeError(f"is {text}; expected a number above 0, at most 10000")
    return value


def _address(text: str) -> str:
    if text not in ("local", "auto") and not re.fullmatch(r"[^\s:/]+:\d{1,5}", text):
        raise argparse.ArgumentTypeError(f"is {text!r}; expected local, auto or HOST:PORT")
    return text


def space_of(name: str, protocol: Protocol) -> Space:
    """The search space of that name or file; a wrong one is refused with exit code 2."""
    try:
        return read(name, protocol)
    except ValueError as error:
        refuse(PROGRAM, f"--space {str(error).removeprefix('space ')}")
