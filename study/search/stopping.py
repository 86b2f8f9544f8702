"""How a study ends before its time: on a signal, or when the hours it was given are over."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from ray import tune

from study.ledger import Ledger
from study.records import COMPLETE


@dataclass
class Stop(tune.Stopper):  # type: ignore[misc]
    """When a study ends before its time: on a signal, or when the hours it was given are over."""

    deadline: float | None = None  # of time.monotonic
    signalled: bool = False

    def launching_is_over(self, ledger: Ledger) -> bool:
        """Whether another trial would not end in time."""
        if self.signalled or self.deadline is None:
            return self.signalled
        seconds = [float(r.result["seconds"]) for r in ledger.of(COMPLETE) if r.result]
        return time.monotonic() + (sum(seconds) / len(seconds) if seconds else 0) > self.deadline

    def stop_all(self) -> bool:
        """Whether running trials are to stop too."""
        return self.signalled or (self.deadline is not None and time.monotonic() > self.deadline)

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No trial is stopped for what it reports."""
        return False


@contextmanager
def signals(stop: Stop) -> Iterator[None]:
    """The first SIGINT or SIGTERM ends the study in order; a second one at once. After ray.init, which sets its own."""

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.signalled:
            os._exit(75)
        stop.signalled = True
        os.write(2, b"Stopping; a second signal ends it at once.\n")  # print is not safe in a handler

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
