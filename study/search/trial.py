"""What the driver and a worker exchange: a job, and the rows that a trial reports to Tune. No Ray, no torch.

EpochReport, EpochReport, ... and last {"result": JSON} or {"error": ..., "traceback": ...}
"""

import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moe.result import Epoch
from study.search.resources import Resources

Row = dict[str, Any]  # what Tune sends to the driver: numbers, texts, lists of texts

REPORT_EVERY_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """What all trials of a study have in common. Small, and sent to every worker."""

    dataset: str
    folder: Path | None
    data: str  # the fingerprint that the data must have
    resources: Resources
    store: str | None  # where trained stages are saved and loaded; None: train every stage


class EpochReport(Epoch):
    """The row that a trial reports after an epoch: the epoch's metrics and which one it is."""

    stage: str
    epoch: int  # from 1
    epochs: int  # at most
    reused: bool  # another run trained it


class Reporter:
    """Sends rows to Tune: epochs no more often than once a second, and warnings with the next row.

    Args:
        send: waits for the driver.
        warnings: of this process; any thread may add one.
    """

    def __init__(self, send: Callable[[Row], None], warnings: deque[str]) -> None:
        self._send = send
        self._warnings = warnings
        self._last = -REPORT_EVERY_S

    def send(self, row: Row) -> None:
        """Send a row."""
        if self._warnings:
            row = {**row, "warnings": [self._warnings.popleft() for _ in range(len(self._warnings))]}
        self._send(row)

    def on_epoch(self, stage: str, epoch: int, epochs: int, metrics: Epoch, reused: bool) -> None:
        """Report an epoch, unless one was reported just now."""
        if time.monotonic() - self._last >= REPORT_EVERY_S:
            self._last = time.monotonic()
            report = EpochReport(**dict(metrics), stage=stage, epoch=epoch, epochs=epochs, reused=reused)
            self.send(report.as_json())

    def fail(self, sentence: str) -> None:
        """Report the exception that is being handled as the end of the trial."""
        self.send({"error": " ".join(sentence.split()), "traceback": traceback.format_exc()})
