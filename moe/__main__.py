"""One mixture: `python -m moe --epochs 5` trains its five stages and prints them as a table."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from moe.config import Config
from moe.options import Parser, add_config, add_data, config_from, refuse

if TYPE_CHECKING:
    from moe.data import DataSet
    from moe.result import Result

PROGRAM = "python -m moe"
ENVIRONMENT = 4  # the exit code of missing data, a training that cannot go on and the like
INTERRUPTED = 130  # of Ctrl-C


def main() -> int:
    """Parse, train one mixture, print it; the exit code."""
    parser = Parser(prog=PROGRAM, description="Train one mixture of experts and print its five stages.")
    add_config(parser)
    add_data(parser)
    parser.add_argument("--describe", action="store_true", help="show the networks and leave")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there")
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
    return _train(config, arguments.dataset or "auto", arguments.data, target)


def _train(config: Config, dataset: str, folder: Path | None, target: Path | None) -> int:
    from torch import OutOfMemoryError

    from moe.data import DataError, load
    from moe.training import TrainingError

    try:
        data = load(dataset, folder)
        print(f"Data: {data.source}", flush=True)
        result = _run_with_progress(config, data)
    except (DataError, TrainingError, OutOfMemoryError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return ENVIRONMENT
    except KeyboardInterrupt:
        return INTERRUPTED
    print(table(result))
    if target:
        try:
            target.write_text(json.dumps(result.as_dict(), indent=2, allow_nan=False) + "\n")
        except OSError as error:
            print(f"{PROGRAM}: --json is {target}; it cannot be written: {error.strerror}", file=sys.stderr)
            return ENVIRONMENT
    return 0


def _run_with_progress(config: Config, data: "DataSet") -> "Result":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from moe.pipeline import run
    from moe.stages import STAGES
    from moe.training import Epoch

    columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[news]}"), console=Console(stderr=True)) as progress:
        bars = {name: progress.add_task(name, total=config.epochs, start=False, news="") for name in STAGES}

        def watch(stage: str, epoch: int, epochs: int, came_to: Epoch) -> None:
            progress.start_task(bars[stage])
            progress.update(bars[stage], completed=epoch, news=f"validation loss {came_to.validation_loss:.4f}")

        return run(config, data, watch=watch)


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
    lines = [f"{'stage':<12}{'accuracy':>9}{'epochs':>8}{'best':>6}{'stopped':>10}{'parameters':>12}{'seconds':>9}"]
    for name, stage in result.stages.items():
        lines.append(
            f"{name:<12}{accuracies[name]:>9.2%}{len(stage.epochs):>8}{stage.best_epoch:>6}{stage.stopped:>10}"
            f"{stage.parameters:>12,}{stage.seconds:>9.1f}"
        )
    images = "validation" if result.config.protocol == "holdout" else "test"
    lines.append(
        f"mixture - baseline: {100 * score.gain:+.2f} points on {result.scored_examples} {images} images of "
        f"{result.dataset} (protocol {result.config.protocol}, seed {result.config.seed}, "
        f"{result.seconds:.0f} s on {result.device})"
    )
    lines.append(
        f"controls: oracle gate {score.oracle_gate_accuracy:.2%}, plain average of baseline and expert "
        f"{score.average_accuracy:.2%}; exactly one of mixture and baseline is right on {score.discordance:.2%}"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
