"""How a study ends early: on a signal, when its hours are over, or when its folder cannot be written."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

from moe.console import Exit
from study.lock import FolderError
from study.search.ledger import Ledger

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE_S = 8.0  # for trials and Ray to end after a signal


@dataclass
class Stop:
    """Whether, and why, a study is to end now."""

    deadline: float | None = None  # of time.monotonic
    signalled: bool = False
    broken: OSError | FolderError | None = None  # a record could not be written
    started: bool = False  # trials run, or ran: a signal ends the study once they have stopped; before, at once
    conclude: Callable[[], int] | None = None  # set while trials run: writes the tables, should Ray not end
    panel: bool = False  # a live panel shows that a signal came; without one, a line does
    _timer: threading.Timer | None = None

    def launching_is_over(self, ledger: Ledger) -> bool:
        """Whether another trial would not end in time."""
        if self.now() or self.deadline is None:
            return self.now()
        return time.monotonic() + ledger.mean_seconds > self.deadline

    def now(self) -> bool:
        """Whether running trials are to stop too."""
        late = self.deadline is not None and time.monotonic() > self.deadline
        return self.signalled or late or self.broken is not None

    @contextmanager
    def while_trials_run(self, conclude: Callable[[], int]) -> Iterator[None]:
        """From here on, a signal ends the study once trials have stopped; or after a while, concluded, if Ray hangs."""
        self.conclude, self.started = conclude, True
        yield
        self.conclude = None
        if self._timer:
            self._timer.cancel()

    def exit_later(self, seconds: float) -> None:
        """End the process in a while, tables written, if Ray hangs: a signal to a whole group kills it first."""
        if self.conclude:  # else no trial runs any more, and what is left takes no longer
            if self._timer:
                self._timer.cancel()
            self._timer = threading.Timer(seconds, self._exit)
            self._timer.daemon = True
            self._timer.start()

    def _exit(self) -> None:
        try:
            if self.conclude:
                self.conclude()
        finally:
            sys.stdout.flush()
            os._exit(Exit.INTERRUPTED)


@contextmanager
def signals(stop: Stop) -> Iterator[None]:
    """Handle SIGINT, SIGTERM and SIGHUP while a study lasts.

    Raises:
        KeyboardInterrupt: one came before trials ran.
    """
    before = {number: signal.getsignal(number) for number in SIGNALS}
    _install_handlers(stop)
    try:
        yield
    except Exception:
        if stop.signalled and not stop.started:  # an import that a signal breaks half way may raise anything
            raise KeyboardInterrupt from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _install_handlers(stop: Stop) -> None:
    """Make the first signal end the study: once trials have stopped, or at once before any.

    A second one ends it at once, tables written; a third without them.
    """
    further = 0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal further
        if stop.signalled:
            further += 1
            if further > 1 or not stop.conclude:
                os._exit(Exit.INTERRUPTED)
            stop.exit_later(0)
            return
        stop.signalled = True
        if not stop.started:
            raise KeyboardInterrupt
        stop.exit_later(GRACE_S)
        if not stop.panel:
            with suppress(OSError):  # print is not safe in a handler
                os.write(2, b"Stopping; a second signal ends it at once.\n")

    for number in SIGNALS:
        if not (number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN):  # as nohup has it
            signal.signal(number, handle)
