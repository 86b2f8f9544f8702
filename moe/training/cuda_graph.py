"""Training steps as CUDA graphs: captured once, then replayed, which saves the time of launching their kernels.

With 50 images a batch, a GPU finishes a kernel before Python has launched the next one. A CPU runs its steps directly.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Generator, Tensor

Step = Callable[[Tensor], Any]
Capture = Callable[[Callable[[], Any], Generator], Callable[[], Any]]  # runs nothing; returns the replay

# A capture begins by waiting for the whole device, which breaks any other capture in progress; and a first batch makes
# the handles of CUDA's libraries, which may wait for the device, too.
_ONE_AT_A_TIME = threading.Lock()


def captured(step: Step, generator: Generator, device: torch.device) -> Step:
    """The step itself on a CPU; on a GPU one that is captured as a CUDA graph.

    Args:
        step: a function of the rows of a batch that changes tensors in place and returns nothing.
        generator: source of all its random numbers.
        device: where it runs, on the current stream.
    """
    return CapturedStep(step, generator, capture_graph) if device.type == "cuda" else step


class CapturedStep:
    """A step that is captured for each batch size.

    The first batch of a size runs directly, which warms up libraries; the second is captured; it and all later ones are
    replayed.
    """

    def __init__(self, step: Step, generator: Generator, capture: Capture) -> None:
        self._step, self._generator, self._capture = step, generator, capture
        self._rows: dict[int, Tensor] = {}  # by size: the memory that a replay reads its batch from
        self._replay: dict[int, Callable[[], Any]] = {}

    def __call__(self, rows: Tensor) -> None:
        """Run the step on these rows, (size,) int64."""
        size = len(rows)
        if size not in self._rows:
            self._rows[size] = rows.clone()
            with _ONE_AT_A_TIME:
                self._step(rows)
            return
        self._rows[size].copy_(rows)
        if size not in self._replay:
            with _ONE_AT_A_TIME:
                self._replay[size] = self._capture(lambda: self._step(self._rows[size]), self._generator)
        self._replay[size]()


def capture_graph(work: Callable[[], Any], generator: Generator) -> Callable[[], Any]:
    """Capture work on the current stream, which must not be the default one, as a CUDA graph; return its replay."""
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream(), capture_error_mode="thread_local"):
        work()
    replay: Callable[[], Any] = graph.replay
    return replay


@contextmanager
def own_stream(device: torch.device) -> Iterator[None]:
    """On a GPU, a stream for this thread, whose work runs beside that of other threads.

    It starts after all that the thread launched before, and is synchronized at the end.
    """
    if device.type != "cuda":
        yield
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        yield
    stream.synchronize()


def synchronize(device: torch.device) -> None:
    """Wait for what this thread has launched; after that, other threads may read its tensors."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
