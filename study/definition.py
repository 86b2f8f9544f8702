"""From options to a study: a new one, or that of a folder that is resumed. No torch, no Ray.

A study never changes but for its number of trials; a resume that asks for anything else is refused with the
difference.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from moe.cli import AUTO, option, refuse
from moe.config import HOLDOUT, Precision, Protocol
from study.folder import Folder, free_name, study_folders
from study.options import PROGRAM, Options, space_of
from study.space import Sampler, Space
from study.study import Objective, Study

if TYPE_CHECKING:
    from moe.data import DataSet

DEFAULT_TRIALS = 50


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is asked of the study, with every default filled in; which data it gets is not known yet."""

    results: Path
    name: str | None  # None: the next free one, once the data are known
    before: Study | None  # what the folder holds, if it is resumed
    space: Space
    sampler: Sampler
    objective: Objective
    seed: int
    protocol: Protocol
    precision: Precision | Literal["auto"]
    dataset: str
    data_folder: str | None
    trials: int


def wanted(options: Options) -> Wanted:
    """What the options ask for; what contradicts a folder is refused with exit code 2.

    Raises:
        FolderError: the folder to resume is damaged.
    """
    folder = _folder(options)
    before = folder.read_study() if folder and options.resume else None
    protocol: Protocol = options.protocol or (before.protocol if before else HOLDOUT)
    asked = Wanted(
        results=options.results,
        name=folder.path.name if folder else None,
        before=before,
        space=_space(options, before, protocol),
        sampler=options.sampler or (before.sampler if before else "auto"),
        objective=options.objective or (before.objective if before else "gain"),
        seed=options.seed if options.seed is not None else (before.seed if before else 0),
        protocol=protocol,
        precision=options.precision or (before.precision if before else AUTO),
        dataset=options.dataset or (before.dataset if before else "auto"),
        data_folder=_data_folder(options, before),
        trials=options.trials or (before.trials if before else DEFAULT_TRIALS),
    )
    if before:
        _check_same(asked, before)
        if before.dataset == "shapes" and options.data:
            _refuse_change(before, "--data", options.data, "shapes, which are drawn by code")
    return asked


def _folder(options: Options) -> Folder | None:
    """The folder that is named, or the newest where a resume names none; None for a new study without a name."""
    if options.name:
        folder = Folder(options.results / options.name)
        if folder.exists() and not options.resume:
            refuse(
                PROGRAM,
                f"--name is {options.name}; {folder.path} holds a study already: add --resume to go on with it, "
                "or choose another name",
            )
        if options.resume and not folder.exists():
            known = ", ".join(path.name for path in study_folders(options.results)) or "none"
            refuse(PROGRAM, f"--name is {options.name}; expected a study in {options.results}: {known}")
        return folder
    if not options.resume:
        return None
    found = study_folders(options.results)
    if not found:
        refuse(PROGRAM, f"--resume finds no study in {options.results}; expected one, or --results elsewhere")
    return Folder(found[-1])


def _space(options: Options, before: Study | None, protocol: Protocol) -> Space:
    if options.space is None and before:
        return before.space
    return space_of(options.space or "notebook", protocol)


def _data_folder(options: Options, before: Study | None) -> str | None:
    """--data, else where the study had its data, else CIFAR10_DIR; the built-in shapes need none."""
    if "shapes" in (options.dataset, before and before.dataset):
        return None
    if options.data:
        return str(options.data)
    return (before and before.data_folder) or os.environ.get("CIFAR10_DIR")


def _check_same(asked: Wanted, before: Study) -> None:
    for name in ("sampler", "objective", "seed", "protocol", "precision", "dataset"):
        given, had = getattr(asked, name), getattr(before, name)
        if given not in (had, AUTO):
            _refuse_change(before, option(name), given, had)
    ours, theirs = asked.space.as_json(), before.space.as_json()
    for kind in ("grids", "fixed"):
        for name in {**ours[kind], **theirs[kind]}:
            if ours[kind].get(name) != theirs[kind].get(name):
                change = (
                    f"{name} {ours[kind].get(name, 'absent')}",
                    f"{name} {theirs[kind].get(name, 'absent')}",
                )
                _refuse_change(before, "--space", *change)


def _refuse_change(before: Study, what: str, given: object, had: object) -> None:
    refuse(
        PROGRAM,
        f"{what} is {given}; study {before.name} has {had}, and a study never changes: choose a new --name",
    )


def define(asked: Wanted, data: "DataSet", sampler: Sampler, precision: Precision) -> Study:
    """The study, now that its data are known; other data than a resumed study's are refused with exit code 2.

    Args:
        asked: what the options ask for.
        data: the data set that it comes to.
        sampler: the one that `asked.sampler` resolves to.
        precision: the one that `asked.precision` resolves to.
    """
    before = asked.before
    if before and before.data != data.fingerprint:
        ours, theirs = f"{data.name} {data.fingerprint[:12]}", f"{before.dataset} {before.data[:12]}"
        _refuse_change(before, "--data", ours, theirs)
    if before:
        return before.replace(trials=asked.trials, data_folder=asked.data_folder)
    return Study(
        name=asked.name or free_name(asked.results, f"{data.name}-{asked.space.name}"),
        space=asked.space,
        objective=asked.objective,
        sampler=sampler,
        seed=asked.seed,
        protocol=asked.protocol,
        precision=precision,
        dataset=data.name,
        data=data.fingerprint,
        source=data.source,
        data_folder=asked.data_folder,
        trials=asked.trials,
    )
