"""What `python -m moe` does once its options are checked: train one mixture, print it, write its files."""

import json
import shlex
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from torch import OutOfMemoryError

from moe.cli import AUTO, SharedOptions
from moe.config import Config
from moe.console import Exit, emit, fail, warn
from moe.data import DataError, load
from moe.export import ExportError, Origin, how_to_predict, save
from moe.pipeline import TrainedMixture, train_mixture
from moe.progress import bars
from moe.store import Store
from moe.training.loop import TrainingError
from moe.training.numerics import available_devices, best_precision


def train(
    program: str, config: Config, options: SharedOptions, *, json_file: Path | None, mixture_file: Path | None
) -> Exit:
    """Train the mixture of a config and print it; the exit code.

    Args:
        program: its name in messages.
        config: its precision is taken from the options.
        json_file: where the result is written.
        mixture_file: where the mixture is saved.
    """
    precision = options.precision or AUTO
    config = config.replace(
        precision=best_precision(available_devices()[0].type) if precision == AUTO else precision,
    )
    try:
        data = load(options.dataset or "auto", options.data)
        emit(f"Data: {data.source}")
        with Store(options.location, warn=partial(warn, program)) if options.location else nullcontext() as store:
            with bars(config.epochs) as on_epoch:
                trained = train_mixture(config, data, store, on_epoch=on_epoch)
            emit(str(trained.result))
            _write(program, trained, json_file, mixture_file)
    except (DataError, TrainingError, OutOfMemoryError, ExportError) as error:
        return fail(program, str(error))
    except KeyboardInterrupt:
        return Exit.CTRL_C
    return Exit.DONE


def _write(program: str, trained: TrainedMixture, json_file: Path | None, mixture_file: Path | None) -> None:
    """Write the files that the options name.

    Raises:
        ExportError: one cannot be written.
    """
    if json_file:
        try:
            json_file.write_text(json.dumps(trained.result.as_json(), indent=2, allow_nan=False) + "\n")
        except OSError as error:
            raise ExportError(f"--json is {json_file}; it cannot be written: {error.strerror}") from None
    if mixture_file:
        command = shlex.join([*program.split(), *sys.argv[1:]])
        save(mixture_file, trained.networks, trained.result, Origin.here(command))
        emit(how_to_predict(mixture_file))
