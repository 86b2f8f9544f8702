"""The console output of a running study: a live panel in a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.text import Text

from moe.console import duration, emit, printable
from study.search.ledger import Ledger
from study.search.trial import EpochReport
from study.select.choice import image_noise, shown
from study.study import COMPLETE, FAILED, SEARCH, Record

LINE_EVERY_S = 30.0  # between two plain lines on one trial's progress


@dataclass
class Progress:
    """Prints what happens to a study's trials."""

    ledger: Ledger
    terminal: bool
    emit: Callable[[str], None] = emit
    began: float = field(default_factory=time.monotonic)
    last_end: float = 0.0
    ended_here: int = 0
    at: dict[int, str] = field(default_factory=dict)  # the running trials: stage and epoch of each
    last_line: dict[int, float] = field(default_factory=dict)
    warnings: set[str] = field(default_factory=set)
    references: int = 0  # baselines still to be trained before the search

    def referring(self, left: int) -> None:
        """A reference baseline was launched, or has ended; so many are left."""
        self.references = left
        if not self.terminal and not left:
            self.emit(f"{len(self.ledger.study.reference)} reference baselines trained")

    def started(self, record: Record) -> None:
        """A trial was launched."""
        self.at[record.trial] = "starting"
        self.last_line[record.trial] = time.monotonic()
        if not self.terminal:
            phase = "" if record.phase == SEARCH else f" ({record.phase})"
            self.emit(f"trial {record.trial} started{phase}: {self._settings(record)}")

    def progressed(self, number: int, report: EpochReport) -> None:
        """A running trial has finished another epoch."""
        self.at[number] = f"{report.stage}, epoch {report.epoch} of at most {report.epochs}"
        if not self.terminal and time.monotonic() - self.last_line[number] >= LINE_EVERY_S:
            self.last_line[number] = time.monotonic()
            self.emit(f"trial {number}: {self.at[number]}")

    def warned(self, sentence: str) -> None:
        """A worker emitted a warning; other workers may emit the same."""
        if sentence not in self.warnings:
            self.warnings.add(sentence)
            self.emit(f"warning: {sentence}")

    def ended(self, record: Record) -> None:
        """A trial is complete or failed."""
        del self.at[record.trial]
        if record.state == FAILED:
            self.emit(f"trial {record.trial} failed: {record.error}")
            return
        self.ended_here += 1
        self.last_end = time.monotonic()
        study = "" if self.terminal else f" | {self.summary()}"
        self.emit(f"trial {record.trial}: {self._outcome(record)}{study}")

    def summary(self) -> str:
        """The study in one line: how far it is, its best trial, the time left."""
        if self.references:
            return f"phase reference: {self.references} baselines to train"
        done, missing = self.ledger.ended(COMPLETE), self.ledger.missing
        phase = "refine" if self.ledger.refining and self.ledger.study.refine else "search"
        parts = [f"phase {phase}: {done} of {done + missing} trials done"]
        if failed := self.ledger.ended(FAILED):
            parts.append(f"{failed} failed")
        if best := self.ledger.best:
            parts.append(f"best {self._objective(best)} (trial {best.trial})")
        if left := self._seconds_left():
            parts.append(f"about {duration(left)} left")
        return ", ".join(parts)

    def panel(self) -> str:
        """What a terminal shows: the summary and a line for each running trial."""
        lines = [self.summary()]
        for number, at in sorted(self.at.items()):
            lines.append(f"  trial {number}: {at} | {self._settings(self.ledger.records[number])}")
        return "\n".join(lines)

    def _seconds_left(self) -> float:
        """If the trials to come take as long as those that this run completed; 0 while none is complete."""
        if not self.ended_here:
            return 0.0
        missing = self.ledger.missing
        each = (self.last_end - self.began) / self.ended_here
        return max(0.0, missing * each - (time.monotonic() - self.last_end))

    def _settings(self, record: Record) -> str:
        named = [f"{name} {getattr(record.config, name)}" for name in self.ledger.study.space.grids]
        return ", ".join([*named, f"seed {record.config.seed}"])

    def _objective(self, record: Record) -> str:
        study, name = self.ledger.study, self.ledger.study.objective
        value, noise = shown(study.value(record, name), name, unit=False), 100 * image_noise(study, record, name)
        return f"{name.replace('_', ' ')} {value} ± {noise:.2f} points"

    def _outcome(self, record: Record) -> str:
        score, totals = record.done.score, record.done.totals
        reused, epochs = totals.epochs_reused, totals.epochs_reused + totals.epochs_trained
        return (
            f"{self._objective(record)}, mixture {score.mixture_accuracy:.1%}, "
            f"baseline {score.baseline_accuracy:.1%}, {duration(totals.seconds)}"
            + (f" ({reused} of {epochs} epochs from the store)" if reused else "")
        )


@contextmanager
def showing(progress: Progress) -> Iterator[None]:
    """Show the panel while the study runs; without a terminal, nothing is needed."""
    if not progress.terminal:
        yield
        return

    def panel() -> Text:  # made again at each refresh, so that the time left counts down
        return Text(printable(progress.panel()), no_wrap=True, overflow="ellipsis")

    with Live(get_renderable=panel, console=Console(file=sys.stdout), refresh_per_second=2) as live:
        progress.emit = lambda text: live.console.print(printable(text), markup=False, highlight=False)
        yield
