"""`python -m study.reproduce results/NAME`: train its best trial again, from nothing, and compare number by number."""

import shlex
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from moe.cli import refuse
from moe.export import ExportError, Origin, how_to_predict, save
from study import machine
from study.console import say, tolerate
from study.folder import FolderError
from study.reproduce.circumstances import Circumstance, circumstances
from study.reproduce.options import PROGRAM, Options, parse
from study.reproduce.original import Original, find
from study.study import Study

if TYPE_CHECKING:
    import torch

    from moe.data import DataSet
    from moe.pipeline import TrainedMixture
    from moe.store.store import Store
    from study.reproduce.numbers import Comparison

IDENTICAL, ENVIRONMENT, DIFFERS, INTERRUPTED = 0, 4, 5, 130


def main() -> int:
    """Run the command; the exit code."""
    options = parse()
    tolerate()
    try:
        return _reproduce(options, _found(options))
    except (FolderError, ExportError) as error:
        return _cannot(str(error))
    except KeyboardInterrupt:
        return INTERRUPTED


def _cannot(sentence: str) -> int:
    print(f"{PROGRAM}: {sentence}", file=sys.stderr)
    return ENVIRONMENT


def _found(options: Options) -> Original:
    try:
        original = find(options.folder, options.trial)
    except OSError as error:
        raise FolderError(f"{error.filename or options.folder}: {error.strerror}") from None
    if original.study.dataset == "shapes" and options.data:
        refuse(PROGRAM, f"--data is {options.data}; expected none: the study is on shapes, which are drawn by code")
    return original


def _reproduce(options: Options, original: Original) -> int:
    from torch import OutOfMemoryError

    from moe.data import DataError
    from moe.training.loop import TrainingError

    try:
        data = _data(options.data, original.study)
        with _store(options.store) as store:
            return _again(options, original, data, store)
    except (DataError, TrainingError, OutOfMemoryError) as error:
        return _cannot(str(error))


def _data(folder: Path | None, study: Study) -> "DataSet":
    """The study's data: from --data, else from where it had them; if that was no folder, as `study.run` finds them.

    Raises:
        FolderError: they are not there, or are others.
    """
    from moe.data import load

    if not folder and study.data_folder and not Path(study.data_folder).is_dir():
        raise FolderError(
            f"study {study.name} had its data in {study.data_folder}, which is not here: name the folder that holds "
            "them in --data"
        )
    had = Path(study.data_folder) if study.data_folder else None
    data = load(study.dataset, folder or had)
    if data.fingerprint != study.data:
        raise FolderError(
            f"the data are {data.fingerprint[:12]} ({data.source}); study {study.name} was made on {study.data[:12]}: "
            "name the folder that holds those in --data"
        )
    return data


def _store(place: str | None) -> "AbstractContextManager[Store | None]":
    from moe.store.store import Store

    return Store(place, warn=lambda sentence: say(f"warning: {sentence}")) if place else nullcontext()


def _again(options: Options, original: Original, data: "DataSet", store: "Store | None") -> int:
    """Train, compare, say so and keep what is to be kept; the exit code."""
    from moe.pipeline import train_mixture
    from moe.progress import bars
    from study.reproduce.numbers import compare, numbers

    config = original.record.config
    devices = _devices(original)
    known = _settle(original, devices[0], data)
    with bars(config.epochs) as watch:
        wide = original.study.space.score_examples()
        finished = train_mixture(config, data, store, devices=devices, score_examples=wide, on_epoch=watch)
    comparison = compare(numbers(original.result), numbers(finished.result))
    _tell(known, comparison, finished)
    if options.save:
        _save(options.save, original, comparison, finished)
    return IDENTICAL if comparison.identical else DIFFERS


def _devices(original: Original) -> "tuple[torch.device, ...]":
    """The kind of device that the trial was trained on, where there is one."""
    import torch

    from moe.training.numerics import available_devices

    return (torch.device("cpu"),) if original.result.device == "cpu" else available_devices()


def _settle(original: Original, device: "torch.device", data: "DataSet") -> list[Circumstance]:
    """Make this process compute as the study did, and say how far that went."""
    import torch

    from moe.training.numerics import configure_numerics, device_name
    from study.reproduce.report import before, settings

    if device.type == "cpu":
        torch.set_num_threads(max(1, original.result.threads))
    threads, numerics = torch.get_num_threads(), configure_numerics(device, original.record.config.precision)
    known = circumstances(
        original,
        device=device_name(device),
        threads=threads,
        instructions=numerics.instructions,
        data=data.fingerprint,
    )
    say(f"Trial {original.record.trial} of study {original.study.name}: {settings(original.record.config)}")
    say(f"Data: {data.source}")
    say(before(known, machine.cpus(), threads))
    return known


def _tell(known: list[Circumstance], comparison: "Comparison", finished: "TrainedMixture") -> None:
    from study.reproduce.report import table, verdict, why

    found = finished.result
    say(f"\n{table(comparison)}\n\n{verdict(comparison)}")
    if not comparison.identical:
        say(why(comparison, known, found))
    if reused := found.totals.epochs_reused:
        say(f"{reused} of {reused + found.totals.epochs_trained} epochs came from the store and were not trained again")


def _save(file: Path, original: Original, comparison: "Comparison", finished: "TrainedMixture") -> None:
    from study.reproduce.report import verdict

    origin = Origin.here(
        shlex.join([*PROGRAM.split(), *sys.argv[1:]]),
        commit=machine.commit(),
        study=original.study.name,
        trial=original.record.trial,
        comparison=verdict(comparison),
    )
    save(file, finished.networks, finished.result, origin)
    say(how_to_predict(file))


if __name__ == "__main__":
    sys.exit(main())
