"""What a terminal shows while one mixture is trained: a bar per stage, on stderr."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from moe.result import Epoch
from moe.scheduler import Watch
from moe.stages import STAGES


@contextmanager
def bars(epochs: int) -> Iterator[Watch]:
    """Show the five stages for as long as this lasts; what it gives is to be told of each epoch.

    Args:
        epochs: of each stage, at most.
    """
    columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[news]}"), console=Console(stderr=True)) as progress:
        shown = {name: progress.add_task(name, total=epochs, start=False, news="") for name in STAGES}

        def watch(stage: str, epoch: int, epochs: int, came_to: Epoch) -> None:
            progress.start_task(shown[stage])
            progress.update(shown[stage], completed=epoch, news=f"validation loss {came_to.validation_loss:.4f}")

        yield watch
