"""Which confirmation to go on with, or the plan of a new one. No torch, no Ray."""

import json
import math
import shlex
from collections.abc import Sequence
from pathlib import Path

from moe.arms import ARMS, DECISIVE
from moe.cli import refuse
from moe.config import Config
from moe.files import read_regular
from study import machine
from study.analyze.tables import best
from study.confirm import price
from study.confirm.options import MARGIN, MOST_SEEDS, PROGRAM, SEEDS, ConfirmOptions
from study.confirm.outcome import DEFAULT_GAIN, SECONDARY
from study.confirm.plan import (
    CHOICE,
    DEFAULT,
    Confirmation,
    Plan,
    Planned,
    Role,
    confirmations,
    digest,
    following,
    openings,
    plans,
)
from study.files import parse_json
from study.folder import Folder, FolderError
from study.select.choice import Choice, choose
from study.select.interval import ALPHA, FORMULA
from study.study import COMPLETE, CONFIRM_FROM, Record, Study, now


def planned(
    options: ConfirmOptions, folder: Folder, study: Study, records: Sequence[Record], command: str
) -> tuple[Confirmation, Plan]:
    """The confirmation to go on with, or a new one, and its plan; nothing is written.

    Options that do not fit a plan that there is exit with code 2.

    Raises:
        FolderError: best.json is not what the records give, or not what was planned for.
    """
    choice, earlier = _choice(options, folder.path, study, records), confirmations(folder)
    if earlier and not (options.again and earlier[-1].result.exists()):
        plan = earlier[-1].read_plan()
        _check_same(options, earlier[-1], plan)
        return earlier[-1], plan
    last = max((seed for plan, _ in plans(folder) for seed in plan.seeds), default=study.seed_of(CONFIRM_FROM - 1))
    used, seeds = last + 1 - study.seed_of(CONFIRM_FROM), options.seeds or SEEDS
    if used + seeds > MOST_SEEDS:
        refuse(PROGRAM, f"--seeds is {seeds}; expected at most {MOST_SEEDS - used}, as {used} of the study are used")
    return following(folder), _new(options, folder.path, study, choice, records, command, CONFIRM_FROM + used)


def _equal(one: object, other: object) -> bool:
    """Whether two values of JSON are equal but for rounding: a fit's last bits depend on the threads of its process."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(value, other[name]) for name, value in one.items())
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return one == other


def _choice(options: ConfirmOptions, folder: Path, study: Study, records: Sequence[Record]) -> Choice:
    """What the study chooses, if best.json is that choice."""
    choice = choose(study, [record for record in records if record.state == COMPLETE])
    if choice is None:
        raise FolderError(f"{folder} has no complete trial; there is nothing to confirm")
    try:
        written = parse_json(read_regular(folder / "best.json"))
    except (OSError, ValueError):
        written = None
    made = json.loads(json.dumps(best(study, choice)))
    aside = {name: made[name] for name in ("study", "why")}  # a copy has another name; why repeats the numbers
    if not isinstance(written, dict) or not _equal({**written, **aside}, made):
        resume = shlex.join(["--resume", "--name", study.name, "--results", options.results])
        raise FolderError(
            f"{folder / 'best.json'} is not what the study's records give: trials came later, or it was edited; "
            f"python -m study.run {resume} writes it again"
        )
    return choice


def _new(
    options: ConfirmOptions,
    folder: Path,
    study: Study,
    choice: Choice,
    records: Sequence[Record],
    command: str,
    first: int,
) -> Plan:
    """The plan of a confirmation whose first seed is that of replicate `first`."""
    chosen = choice.config.replace(seed=study.seed_of(first))
    default = study.config(study.space.default, first)
    configs: list[tuple[Role, Config]] = [(CHOICE, chosen), (DEFAULT, default)]
    if default == chosen:
        del configs[1]
    seeds = tuple(study.seed_of(first + number) for number in range(options.seeds or SEEDS))
    assert not {record.config.seed for record in records} & set(seeds)
    return Plan(
        study=study.name,
        choice=digest(folder / "best.json"),
        configs=tuple(
            Planned(role=role, config=config, screened=price.screened(records, config)) for role, config in configs
        ),
        seeds=seeds,
        margin=(options.margin or MARGIN) / 100,
        alpha=ALPHA,
        formula=FORMULA,
        contrasts=(
            *(f"mixture minus {ARMS[name].words}" for name in DECISIVE),
            *(words for words, *_ in SECONDARY),
            *([DEFAULT_GAIN] if len(configs) > 1 else []),
        ),
        data=study.data,
        earlier=openings(options.studies, study.data),
        commit=machine.commit(),
        versions=machine.versions(),
        command=command,
        planned=now(),
    )


def _check_same(options: ConfirmOptions, confirmation: Confirmation, plan: Plan) -> None:
    """Refuse options, or a choice, that differ from a plan."""
    advice = "a plan never changes: --again makes another once it is finished"
    if options.seeds not in (None, len(plan.seeds)):
        refuse(PROGRAM, f"--seeds is {options.seeds}; {confirmation.path} has {len(plan.seeds)}, and {advice}")
    if options.margin and options.margin / 100 != plan.margin:
        had = f"{100 * plan.margin:g}"
        refuse(PROGRAM, f"--margin is {options.margin:g}; {confirmation.path} has {had}, and {advice}")
    if not confirmation.result.exists() and plan.choice != digest(confirmation.folder.path / "best.json"):
        raise FolderError(
            f"best.json is another than when {confirmation.path} was planned; move that folder away to plan anew"
        )
