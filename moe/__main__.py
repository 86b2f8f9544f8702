"""One mixture: `python -m moe --epochs 5` trains its five stages and prints them as a table.

`python -m moe predict` is in `moe/predict.py`.
"""

import argparse
import json
import os
import shlex
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from moe.cli import AUTO, Parser, add_config, add_data, add_precision, add_store, config_from, refuse, store_of
from moe.config import Config
from moe.export import SavedError, how_to_ask, save, vacant

if TYPE_CHECKING:
    from moe.pipeline import Finished
    from moe.result import Result

PROGRAM = "python -m moe"
ENVIRONMENT = 4  # the exit code of missing data, a training that cannot go on and the like
INTERRUPTED = 130  # of Ctrl-C


def main() -> int:
    """Parse, train one mixture, print it; the exit code."""
    if sys.argv[1:2] == ["predict"]:
        from moe.predict import main as predict

        return predict(sys.argv[2:])
    parser = Parser(
        prog=PROGRAM,
        description="Train one mixture of experts and print its five stages.",
        epilog=f"{PROGRAM} predict DIR IMAGE... classifies pictures with a mixture that --save kept.",
    )
    add_config(parser)
    add_precision(parser)
    add_data(parser)
    add_store(parser)
    parser.add_argument("--describe", action="store_true", help="show the networks and leave")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there")
    parser.add_argument("--save", type=vacant, metavar="DIR", help="keep the trained mixture there")
    arguments = parser.parse_args()
    config = config_from(arguments, PROGRAM)
    target = arguments.json
    if target and (target.is_dir() or not os.access(target.parent, os.W_OK)):
        refuse(PROGRAM, f"--json is {target}; expected a file in a folder that can be written")
    if arguments.dataset == "shapes" and arguments.data:
        refuse(PROGRAM, f"--data is {arguments.data}; expected none with --dataset shapes, which is drawn by code")
    if arguments.describe:
        from moe.describe import describe

        print(describe(config))
        return 0
    return _train(config, arguments, store_of(arguments, PROGRAM))


def _train(config: Config, arguments: argparse.Namespace, place: str | None) -> int:
    from torch import OutOfMemoryError

    from moe.data import DataError, load
    from moe.pipeline import train_mixture
    from moe.progress import bars
    from moe.store.store import Store
    from moe.training.loop import TrainingError
    from moe.training.numerics import available_devices, fitting_precision

    if arguments.precision in (None, AUTO):
        arguments.precision = fitting_precision(available_devices()[0].type)
    config = config.replace(precision=arguments.precision)
    try:
        data = load(arguments.dataset or "auto", arguments.data)
        print(f"Data: {data.source}", flush=True)
        with Store(place, warn=_say) if place else nullcontext() as store:
            with bars(config.epochs) as watch:
                finished = train_mixture(config, data, store, watch=watch)
            print(table(finished.result))
            _write(finished, arguments.json, arguments.save)
    except (DataError, TrainingError, OutOfMemoryError, SavedError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return ENVIRONMENT
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _write(finished: "Finished", target: Path | None, folder: Path | None) -> None:
    """Keep what was asked for.

    Raises:
        SavedError: it cannot be written.
    """
    if target:
        try:
            target.write_text(json.dumps(finished.result.as_json(), indent=2, allow_nan=False) + "\n")
        except OSError as error:
            raise SavedError(f"--json is {target}; it cannot be written: {error.strerror}") from None
    if folder:
        command = shlex.join(["python", "-m", "moe", *sys.argv[1:]])
        save(folder, finished.networks, finished.result, {"command": command})
        print(how_to_ask(folder))


def _say(sentence: str) -> None:
    print(f"{PROGRAM}: {sentence}", file=sys.stderr)


def table(result: "Result") -> str:
    """The five stages of a result, one line each, and the gain."""
    score = result.score
    accuracies = {
        "baseline": score.baseline_accuracy,
        "gate": score.gate_accuracy,
        "artificial": score.artificial_accuracy,
        "natural": score.natural_accuracy,
        "mixture": score.mixture_accuracy,
    }
    lines = [
        f"{'stage':<12}{'accuracy':>9}{'epochs':>8}{'reused':>8}{'best':>6}{'stopped':>10}{'parameters':>12}{'seconds':>9}"
    ]
    for name, stage in result.stages.items():
        lines.append(
            f"{name:<12}{accuracies[name]:>9.2%}{len(stage.epochs):>8}{stage.epochs_reused:>8}{stage.best_epoch:>6}{stage.stopped:>10}"
            f"{stage.parameters:>12,}{stage.seconds:>9.1f}"
        )
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
