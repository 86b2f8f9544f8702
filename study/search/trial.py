"""One trial in its worker: a config is trained, and rows are reported to Tune. No Ray here.

config --evaluate--> EpochReport, EpochReport, ... and last {"result": JSON} or {"error": ..., "traceback": ...}
"""

import socket
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moe.config import Config
from moe.result import Epoch

Row = dict[str, Any]  # what Tune sends to the driver: numbers, texts, lists of texts

REPORT_EVERY_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """What all trials of a study have in common. Small, and sent to every worker."""

    dataset: str
    folder: Path | None
    data: str  # the fingerprint that the data must have
    score_examples: int
    cpus: int
    gpus: float
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


def evaluate(job: Job, config: Config, send: Callable[[Row], None]) -> None:
    """Train a config, and send a row after epochs and a last one with the result or an error.

    An error caused by the config or its data is reported. Any other is reported and raised, because the process may
    not be able to run another trial after it.
    """
    from study.search import worker  # torch: here, so that a node without it fails the trial and not the worker

    reporter = Reporter(send, worker.warnings)
    try:
        result = worker.train(job, config, reporter.on_epoch)
    except worker.CAUSED_BY_CONFIG as error:
        reporter.fail(str(error))
    except Exception as error:
        reporter.fail(f"{type(error).__name__} on {socket.gethostname()}: {error}")
        raise
    else:
        reporter.send({"result": result.model_dump_json()})
