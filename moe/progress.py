"""Progress of one training: a bar per stage, on stderr."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from moe.result import Epoch
from moe.scheduler import OnEpoch
from moe.stages import PIPELINE


@contextmanager
def bars(epochs: int) -> Iterator[OnEpoch]:
    """Show a bar of so many epochs for each stage; yields the callback that updates them after each epoch."""
    columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[loss]}"), console=Console(stderr=True)) as progress:
        tasks = {name: progress.add_task(name, total=epochs, start=False, loss="") for name in PIPELINE}

        def on_epoch(stage: str, epoch: int, epochs: int, result: Epoch, reused: bool) -> None:
            progress.start_task(tasks[stage])
            progress.update(tasks[stage], completed=epoch, loss=f"validation loss {result.validation_loss:.4f}")

        yield on_epoch
