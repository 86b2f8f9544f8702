"""The console output of a running study: a live panel in a terminal, lines with the time elsewhere."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions, ConsoleRenderable, Group, RenderHook, RenderResult
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType, Segment, SegmentLines
from rich.text import Text

from moe.config import Config
from moe.console import duration, emit, printable
from study.search.ledger import Ledger
from study.search.trial import EpochReport
from study.select.choice import image_noise, points, shown
from study.space import Space
from study.study import COMPLETE, FAILED, SEARCH, Record, Reference

LINE_EVERY_S = 30.0  # between two plain lines on one trial's progress
RECENT = 20  # trials that the time left is estimated from: as the store fills, trials become shorter
REFRESHES = 4  # of the panel in a second
STOPPING = "Stopping: a resume starts the running trials again. A second signal ends it at once."
SHORT = {"epochs": "e", "train_examples": "n", "test_examples": "t", "batch_size": "b"}  # fields of a config
FLAGS = {
    "use_large_experts": "experts",
    "use_large_gating_mlp": "gate",
    "use_large_baseline_classifier": "baseline",
}


def short(config: Config, space: Space, replicate: int = 0) -> str:
    """The searched fields of a config in few characters, and the seed of a replicate: e=4 n=5000 large: experts."""
    parts = [f"{SHORT.get(name, name)}={getattr(config, name)}" for name in space.grids if name not in FLAGS]
    large = [word for name, word in FLAGS.items() if name in space.grids and getattr(config, name)]
    parts += [f"seed={config.seed}"] * (replicate > 0) + [f"large: {', '.join(large)}"] * bool(large)
    return " ".join(parts) or ("nothing large" if space.grids else "the fixed config")


@dataclass
class Running:
    """A trial under way."""

    config: str
    began: float = field(default_factory=time.monotonic)
    line: float = field(default_factory=time.monotonic)  # when the last plain line was printed
    report: EpochReport | None = None  # the last one

    @property
    def row(self) -> tuple[str, ...]:
        """Stage and epoch, validation accuracy, the config, and whether another run trained that epoch."""
        if not (last := self.report):
            return ("starting", "", self.config, "")
        where = f"{last.stage} {last.epoch}/{last.epochs}"
        return (where, f"val {last.validation_accuracy:.1%}", self.config, "(reused)" * last.reused)


@dataclass
class Progress:
    """Prints what happens to a study's trials."""

    ledger: Ledger
    terminal: bool
    emit: Callable[[str], None] = emit
    stopping: Callable[[], bool] = lambda: False
    running: dict[int, Running] = field(default_factory=dict)
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))  # of the last trials, as they took
    at_once: int = 1  # the most trials that ran beside each other
    begun: bool = False  # a worker was requested
    warnings: set[str] = field(default_factory=set)
    references: int = 0  # baselines still to be trained

    def referring(self, left: int) -> None:
        """A reference baseline was launched, or has ended; so many are left."""
        if not self.terminal and left > self.references:
            self._line(f"phase reference: {left} to train")
        self.references, self.begun = left, True

    def referred(self, reference: Reference) -> None:
        """A reference baseline is trained."""
        name = short(reference.config, self.ledger.study.space)
        self._line(f"reference {len(self.ledger.study.reference)}: baseline {reference.accuracy:.1%} | {name}")

    def started(self, record: Record) -> None:
        """A trial was launched."""
        self.begun = True
        self.running[record.trial] = Running(short(record.config, self.ledger.study.space, record.replicate))
        self.at_once = max(self.at_once, len(self.running))
        if not self.terminal:
            phase = "" if record.phase == SEARCH else f" ({record.phase})"
            self._line(f"trial {record.trial} started{phase}: {self.running[record.trial].config}")

    def progressed(self, number: int, report: EpochReport) -> None:
        """A running trial has finished another epoch."""
        trial = self.running[number]
        trial.report = report
        if not self.terminal and time.monotonic() - trial.line >= LINE_EVERY_S:
            trial.line = time.monotonic()
            self._line(f"trial {number}: {' | '.join(filter(None, trial.row))}")

    def warned(self, sentence: str) -> None:
        """A worker emitted a warning; other workers may emit the same."""
        if sentence not in self.warnings:
            self.warnings.add(sentence)
            self._line(f"warning: {sentence}")

    def ended(self, record: Record) -> None:
        """A trial is complete or failed."""
        trial = self.running.pop(record.trial)
        if record.state == FAILED:
            self._line(f"trial {record.trial} failed: {record.error} | {trial.config}")
            return
        self.seconds.append(time.monotonic() - trial.began)
        study = "" if self.terminal else f" | {self.summary()}"
        self._line(f"trial {record.trial}: {self._outcome(record)} | {trial.config}{study}")

    def _line(self, text: str) -> None:
        self.emit(text if self.terminal else f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}")

    def summary(self) -> str:
        """How far the study is, its best trial, the time left."""
        if not self.begun:
            return "Ray starts"
        if self.references and not self.running:
            return f"phase reference: {self.references} to train"
        done, missing = self.ledger.ended(COMPLETE), self.ledger.missing
        parts = [f"phase {self.ledger.phase}: {done} of {done + missing} trials done"]
        if self.references:
            parts.append(f"references to train: {self.references}")
        if failed := self.ledger.ended(FAILED):
            parts.append(f"{failed} failed")
        if best := self.ledger.best:
            parts.append(f"best {self._best(best)}")
        if left := self._seconds_left():
            parts.append(f"about {duration(left)} left")
        return ", ".join(parts)

    def panel(self) -> Group:
        """What a terminal shows: the summary, and a row for each running trial that fits the width."""
        rows = [(f"{number:4}", *trial.row) for number, trial in sorted(self.running.items())]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        stopping = [Text(STOPPING, style="bold")] if self.stopping() else []
        trials = Text(printable("\n".join(lines)), no_wrap=True, overflow="ellipsis")
        return Group(*stopping, Text(printable(self.summary())), trials)

    def _seconds_left(self) -> float:
        """If the trials to come take as long as the last ones did, stored stages included; 0 while none has ended."""
        if not self.seconds:
            return 0.0
        each = sum(self.seconds) / len(self.seconds)
        spent = sum(min(each, time.monotonic() - trial.began) for trial in list(self.running.values()))
        return max(0.0, self.ledger.missing * each - spent) / self.at_once

    def _best(self, best: Record) -> str:
        reference, over = self.ledger.study.reference_accuracy(best.config), ""
        if reference is not None:
            over = f", {points(best.done.score.mixture_accuracy - reference)} over the reference"
        return f"{self._objective(best)} (trial {best.trial}{over})"

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


class _Panel(RenderHook):
    """The panel as drawn. It clears the lines that a terminal has wrapped since, because it was made narrower."""

    def __init__(self, progress: Progress, console: Console) -> None:
        self._progress, self._console = progress, console
        self._lengths: list[int] = []  # of the lines that are on the screen

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # made again at each refresh, so that the time left counts down
        lines = console.render_lines(self._progress.panel(), options, pad=False)
        self._lengths = [Segment.get_line_length(line) for line in lines[: options.size.height]]
        yield SegmentLines(lines, new_lines=True)

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """What is printed next, after the move to the panel's start, for which Live counts each line as one."""
        more = sum(max(0, length - 1) // self._console.width for length in self._lengths)
        return [Control(*((ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2)) * more), *renderables]


@contextmanager
def showing(progress: Progress) -> Iterator[Callable[[], None]]:
    """Show the panel while the study runs; yields what ends that earlier. Without a terminal, nothing is needed."""
    if not progress.terminal:
        yield lambda: None
        return
    console = Console(file=sys.stdout)
    panel = _Panel(progress, console)
    console.push_render_hook(panel)
    progress.emit = lambda text: console.print(printable(text), markup=False, highlight=False)
    with Live(panel, console=console, refresh_per_second=REFRESHES) as live:
        yield live.stop
