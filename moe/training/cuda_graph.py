"""A step of training without the cost of launching it: recorded once as a CUDA graph, then replayed.

At 50 images a batch a GPU is done with a kernel sooner than Python has launched the next one. A CPU waits for no
launch, and runs its steps as they are.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Generator, Tensor

Step = Callable[[Tensor], Any]
Record = Callable[[Callable[[], Any], Generator], Callable[[], Any]]

# A recording begins by waiting for the whole device, which no recording beside it survives; and a first batch makes
# the handles of CUDA's libraries, which may wait for it, too.
_ONE_AT_A_TIME = threading.Lock()


def recorded(step: Step, generator: Generator, device: torch.device) -> Step:
    """The step itself on a CPU; on a GPU one that is recorded.

    Args:
        step: a function of the rows of a batch that reads and changes tensors in place, and returns nothing.
        generator: of all its noise.
        device: where it runs, on the current stream.
    """
    return Recorded(step, generator, as_graph) if device.type == "cuda" else step


class Recorded:
    """A step that is recorded for each size of batch.

    The first batch of a size runs as it is, which warms up libraries and makes the optimizer's state; the second is
    recorded; it and all others are replayed.

    Args:
        step: as for `recorded`.
        generator: of all its noise.
        record: makes a function that does again what its argument does, without running it.
    """

    def __init__(self, step: Step, generator: Generator, record: Record) -> None:
        self._step, self._generator, self._record = step, generator, record
        self._rows: dict[int, Tensor] = {}  # by size: where a replay reads its batch
        self._replay: dict[int, Callable[[], Any]] = {}

    def __call__(self, rows: Tensor) -> None:
        """Do the step on these rows, (size,) int64."""
        size = len(rows)
        if size not in self._rows:
            self._rows[size] = rows.clone()
            with _ONE_AT_A_TIME:
                self._step(rows)
            return
        self._rows[size].copy_(rows)
        if size not in self._replay:
            with _ONE_AT_A_TIME:
                self._replay[size] = self._record(lambda: self._step(self._rows[size]), self._generator)
        self._replay[size]()


def as_graph(work: Callable[[], Any], generator: Generator) -> Callable[[], Any]:
    """Record work on the current stream, which must not be the default one, as a CUDA graph; its replay."""
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream(), capture_error_mode="thread_local"):
        work()
    replay: Callable[[], Any] = graph.replay
    return replay


@contextmanager
def own_stream(device: torch.device) -> Iterator[None]:
    """On a GPU, a stream of this thread's own, so that what it launches runs beside what others do.

    It begins after all that the thread had launched before, and its work is done at the end.
    """
    if device.type != "cuda":
        yield
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        yield
    stream.synchronize()


def finish(device: torch.device) -> None:
    """Wait for what this thread has launched: other threads may read its tensors then."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
