"""One mixture: `python -m moe --epochs 5` trains its five stages and prints them as a table.

`python -m moe predict` is in `moe/predict.py`.
"""

import argparse
import json
import os
import shlex
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from moe.cli import AUTO, Parser, add_config, add_data, add_precision, add_store, config_from, refuse, store_of
from moe.config import Config
from moe.console import Exit, emit, fail, tolerate_encoding, warn
from moe.console import table as as_table
from moe.export import ExportError, Origin, how_to_predict, new_file, save

if TYPE_CHECKING:
    from moe.pipeline import TrainedMixture
    from moe.result import Result

PROGRAM = "python -m moe"


def main() -> Exit:
    """Parse, train one mixture, print it; the exit code."""
    if sys.argv[1:2] == ["predict"]:
        from moe.predict import main as predict

        return predict(sys.argv[2:])
    parser = Parser(
        prog=PROGRAM,
        description="Train one mixture of experts and print its five stages.",
        epilog=f"{PROGRAM} predict FILE IMAGE... classifies pictures with a mixture that --save wrote.",
    )
    add_config(parser)
    add_precision(parser)
    add_data(parser)
    add_store(parser)
    parser.add_argument("--describe", action="store_true", help="print the networks, and train nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there")
    parser.add_argument("--save", type=new_file, metavar="FILE.safetensors", help="save the trained mixture there")
    arguments = parser.parse_args()
    tolerate_encoding()
    config = config_from(arguments, PROGRAM)
    target = arguments.json
    if target and (target.is_dir() or not os.access(target.parent, os.W_OK)):
        refuse(PROGRAM, f"--json is {target}; expected a file in a folder that can be written")
    if arguments.dataset == "shapes" and arguments.data:
        refuse(PROGRAM, f"--data is {arguments.data}; expected none with --dataset shapes, which is drawn by code")
    if arguments.describe:
        from moe.describe import describe

        emit(describe(config))
        return Exit.DONE
    return _train(config, arguments, store_of(arguments, PROGRAM))


def _train(config: Config, arguments: argparse.Namespace, place: str | None) -> Exit:
    from torch import OutOfMemoryError

    from moe.data import DataError, load
    from moe.pipeline import train_mixture
    from moe.progress import bars
    from moe.store.store import Store
    from moe.training.loop import TrainingError
    from moe.training.numerics import available_devices, best_precision

    if arguments.precision in (None, AUTO):
        arguments.precision = best_precision(available_devices()[0].type)
    config = config.replace(precision=arguments.precision)
    try:
        data = load(arguments.dataset or "auto", arguments.data)
        emit(f"Data: {data.source}")
        with Store(place, warn=partial(warn, PROGRAM)) if place else nullcontext() as store:
            with bars(config.epochs) as watch:
                finished = train_mixture(config, data, store, on_epoch=watch)
            emit(table(finished.result))
            _write(finished, arguments.json, arguments.save)
    except (DataError, TrainingError, OutOfMemoryError, ExportError) as error:
        return fail(PROGRAM, str(error))
    except KeyboardInterrupt:
        return Exit.CTRL_C
    return Exit.DONE


def _write(finished: "TrainedMixture", json_file: Path | None, mixture_file: Path | None) -> None:
    """Write the files that the options name.

    Raises:
        ExportError: one cannot be written.
    """
    if json_file:
        try:
            json_file.write_text(json.dumps(finished.result.as_json(), indent=2, allow_nan=False) + "\n")
        except OSError as error:
            raise ExportError(f"--json is {json_file}; it cannot be written: {error.strerror}") from None
    if mixture_file:
        command = shlex.join([*PROGRAM.split(), *sys.argv[1:]])
        save(mixture_file, finished.networks, finished.result, Origin.here(command))
        emit(how_to_predict(mixture_file))


def table(result: "Result") -> str:
    """The five stages of a result, one line each, and the gain."""
    score = result.score
    rows = [
        (
            name,
            f"{getattr(score, f'{name}_accuracy'):.2%}",
            str(len(stage.epochs)),
            str(stage.epochs_reused),
            str(stage.best_epoch),
            stage.stopped,
            f"{stage.parameters:,}",
            f"{stage.seconds:.1f}",
        )
        for name, stage in result.stages.items()
    ]
    headings = ("stage", "accuracy", "epochs", "reused", "best", "stopped", "parameters", "seconds")
    lines = [as_table(headings, rows)]
    images = "validation" if result.config.protocol == "holdout" else "test"
    lines.append(
        f"mixture - baseline: {100 * score.gain:+.2f} points on {result.scored_examples} {images} images of "
        f"{result.dataset} (protocol {result.config.protocol}, {result.config.precision}, seed {result.config.seed}, "
        f"{result.totals.seconds:.0f} s on {result.device})"
    )
    lines.append(
        f"controls: oracle gate {score.oracle_gate_accuracy:.2%}, plain average of baseline and expert "
        f"{score.average_accuracy:.2%}; exactly one of mixture and baseline is right on {score.discordance:.2%}"
    )
    if saved := result.totals.seconds_reused:
        lines.append(f"the stage store had what took {saved:.0f} s to train")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
