"""Train the trial again and compare. The only module here that loads torch."""

import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from functools import partial
from pathlib import Path

import torch

from moe.console import Exit, emit, warn
from moe.data import DataError
from moe.export import ExportError, Origin, how_to_predict, save
from moe.pipeline import train_mixture
from moe.progress import bars
from moe.result import Result
from moe.store.store import Store
from moe.training.loop import TrainingError
from moe.training.numerics import available_cpus, available_devices, configure_numerics, device_name
from study import machine
from study.data import load_data
from study.folder import FolderError
from study.reproduce.compare import Condition, Number, compare, conditions
from study.reproduce.original import Original
from study.reproduce.report import as_json, comparison_table, describe_conditions, explanation, verdict

#: why a trial cannot be trained again or saved; each has a sentence for people
ERRORS = (FolderError, DataError, TrainingError, ExportError, torch.OutOfMemoryError)


def reproduce(
    original: Original, folder: Path | None, location: str | None, file: Path | None, command: str, print_json: bool
) -> Exit:
    """Train a trial again, print the comparison, and save the mixture if a file is named.

    Args:
        folder: with the data; by default the study's.
        location: of a store to take stages from; by default everything is trained.
        file: to save the mixture as.
        command: for the origin of a saved mixture.
        print_json: the comparison as JSON on stdout, and all else on stderr.

    Raises:
        ERRORS: data or machine do not allow it, or the mixture cannot be saved.
    """
    with redirect_stdout(sys.stderr) if print_json else nullcontext():
        result, numbers, known = _reproduce(original, folder, location, file, command)
    if print_json:
        emit(json.dumps(as_json(original, result, numbers, known), indent=2))
    return Exit.DIFFERS if any(number.differs for number in numbers) else Exit.DONE


def _reproduce(
    original: Original, folder: Path | None, location: str | None, file: Path | None, command: str
) -> tuple[Result, list[Number], list[Condition]]:
    study, record = original.study, original.record
    data = load_data(folder, study)
    devices = available_cpus() if original.result.device == "cpu" else available_devices()
    instructions = configure_numerics(devices[0], record.config.precision).instructions  # as the study's, if possible
    here = {"device": device_name(devices[0]), "instructions": instructions, "data": data.fingerprint}
    known = conditions(original, **here)
    emit(f"Trial {record.trial} of study {study.name}: {', '.join(f'{name} {value}' for name, value in record.config)}")
    emit(f"Data: {data.source}")
    emit(describe_conditions(known))
    with Store(location, warn=partial(warn, "warning")) if location else nullcontext() as store:
        with bars(record.config.epochs) as on_epoch:
            trained = train_mixture(record.config, data, store, devices=devices, on_epoch=on_epoch)
        numbers = compare(original.result, trained.result)
        _print_comparison(original.result, trained.result, numbers, known)
        if file:
            origin = Origin.here(
                command, commit=machine.commit(), study=study.name, trial=record.trial, comparison=verdict(numbers)
            )
            save(file, trained.networks, trained.result, origin)
            emit(how_to_predict(file))
    return trained.result, numbers, known


def _print_comparison(then: Result, now: Result, numbers: Sequence[Number], known: Sequence[Condition]) -> None:
    emit(f"\n{comparison_table(numbers)}\n\n{verdict(numbers)}")
    if any(number.differs for number in numbers):
        emit(explanation(then, now, known))
    if reused := now.totals.epochs_reused:
        emit(f"{reused} of {reused + now.totals.epochs_trained} epochs are from the store and were not trained again")
