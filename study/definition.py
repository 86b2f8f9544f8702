"""From options to a study: a new one, or that of a folder that is resumed. No torch, no Ray.

A study never changes except for its budgets, `trials`, `refine` and `refine_seeds`, and the resources in its space; a
resume with other options exits with code 2.
"""

import os
import socket
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from moe.cli import AUTO, option, refuse
from moe.config import FLOAT32, NOTEBOOK
from moe.files import expanded
from study.folder import Folder, study_folders
from study.options import DEFAULTS, EVERY_POINT, LOG_PACKAGES, PROGRAM, Options, space_of
from study.space import Space
from study.study import REFINE_FROM, Study

BUDGETS = ("trials", "refine", "refine_seeds")  # what may change on a resume


@dataclass(frozen=True, kw_only=True)
class Request:
    """A command line that was checked as far as that needs no data."""

    options: Options
    command: str  # as it was typed
    study: Study  # as the options define it; a new one still lacks its data, and what depends on them
    before: Study | None  # what the folder holds, if it is resumed
    asked: dict[str, int] | None = None  # the point of the one trial to run, in place of those that are missing


def define(options: Options, command: str) -> Request:
    """The study that the options define; raises a FolderError if the folder to resume is damaged."""
    _check_installed(options)
    if folder := _folder(options):
        before = folder.read_study()
        space = before.space.replace(resources=_check_same(options, before).resources)
        budgets = {name: value for name in BUDGETS if (value := getattr(options, name)) is not None}
        study = _sized(options, before.replace(**budgets, space=space, data_folder=data_folder(options, before)))
        return Request(options=options, command=command, study=study, before=before)
    chosen = DEFAULTS | {name: value for name in DEFAULTS if (value := getattr(options, name)) is not None}
    if chosen["trials"] == EVERY_POINT and chosen["sampler"] == AUTO:
        chosen["sampler"] = "grid"
    chosen["margin"] /= 100
    study = Study(
        name=options.name or "",
        precision=FLOAT32 if options.precision is None or options.precision == AUTO else options.precision,
        dataset=options.dataset or AUTO,
        data="",
        source="",
        data_folder=data_folder(options),
        **{**chosen, "space": space_of(chosen["space"], chosen["protocol"])},
    )
    return Request(options=options, command=command, study=_sized(options, study), before=None)


def _check_installed(options: Options) -> None:
    """Refuse loggers that this machine lacks: a submitted study logs where it runs, not where it was submitted."""
    for name in options.loggers:
        if find_spec(LOG_PACKAGES[name]) is None:
            there = f"expected what is installed on {socket.gethostname()}: pip install 'moe-study[{name}]'"
            refuse(PROGRAM, f"--log is {options.log}; {there}")


def _sized(options: Options, study: Study) -> Study:
    """A study of every point has as many trials.

    Too many seeds of a point, images that differ, or workers without Ray that do not run a grid exit with code 2.
    """
    size = study.space.size
    if study.protocol == NOTEBOOK and "test_examples" in study.space.grids:
        refuse(
            PROGRAM,
            "--space searches test_examples under protocol notebook, where each value scores on other images; "
            "expected one value",
        )
    study = study.replace(trials=study.trials or size)
    sampler = "grid" if study.sampler == AUTO and study.trials >= size else study.sampler
    if options.worker and sampler != "grid":
        refuse(PROGRAM, f"--worker is given for sampler {sampler}; expected --trials all, or --sampler grid")
    if study.search_trials > (most := REFINE_FROM * size):
        refuse(
            PROGRAM,
            f"--trials is {study.trials} on {study.seeds} seeds; expected at most {most} in all, "
            f"{REFINE_FROM} seeds of each point",
        )
    return study


def _folder(options: Options) -> Folder | None:
    """The folder to resume: the one that is named, or the newest if none is; None for a new study."""
    if not options.name:
        found = study_folders(options.studies) if options.resume else []
        if options.resume and not found:
            refuse(PROGRAM, f"--resume finds no study in {options.studies}; expected one, or --results elsewhere")
        return Folder(found[-1]) if found else None
    folder = Folder(options.studies / options.name)
    if folder.exists() and not (options.resume or options.worker):
        advice = "add --resume to continue it, or choose another name"
        refuse(PROGRAM, f"--name is {options.name}; {folder.path} holds a study already: {advice}")
    if options.resume and not folder.exists():
        names = ", ".join(path.name for path in study_folders(options.studies)) or "none"
        refuse(PROGRAM, f"--name is {options.name}; expected a study in {options.studies}: {names}")
    return folder if folder.exists() else None


def refuse_data_for_shapes(program: str, study: Study, data: Path | None) -> None:
    """Exit with code 2 if a folder with data is named for a study that has none."""
    if study.dataset == "shapes" and data:
        refuse(program, f"--data is {data}; expected none: the study is on shapes, which are drawn by code")


def data_folder(options: Options, before: Study | None = None) -> str | None:
    """--data, else where the study had its data, else CIFAR10_DIR; the built-in shapes need none."""
    if "shapes" in (options.dataset, before and before.dataset):
        return None
    if options.data:
        return str(options.data)
    named = (before and before.data_folder) or os.environ.get("CIFAR10_DIR")
    return str(expanded(named)) if named else None


def _check_same(options: Options, before: Study) -> Space:
    """Refuse options that differ from the study that is resumed; its space, as it is given now."""
    space = space_of(options.space, options.protocol or before.protocol) if options.space else before.space
    for name in ("sampler", "objective", "seed", "seeds", "protocol", "precision", "dataset"):
        given, had = getattr(options, name), getattr(before, name)
        if given not in (None, AUTO, had):
            refuse_change(before, option(name), given, had)
    if options.margin is not None and options.margin / 100 != before.margin:
        refuse_change(before, "--margin", f"{options.margin:g}", f"{100 * before.margin:g}")
    ours, theirs = ({**each.grids, **each.fixed} for each in (space, before.space))
    for name in {**ours, **theirs}:
        given, had = (entries.get(name, "absent") for entries in (ours, theirs))
        if given != had:
            refuse_change(before, "--space", f"{name} {_shown(given)}", f"{name} {_shown(had)}")
    if before.dataset == "shapes" and options.data:
        refuse_change(before, "--data", options.data, "shapes, which are drawn by code")
    return space


def _shown(entry: object) -> object:
    return list(entry) if isinstance(entry, tuple) else entry


def refuse_change(before: Study, what: str, given: object, had: object) -> NoReturn:
    """Exit with code 2, because an option differs from the study that is resumed."""
    advice = "a study never changes: choose a new --name"
    refuse(PROGRAM, f"{what} is {given}; study {before.name} has {had}, and {advice}")
