"""How a study ends early: on a signal, when its hours are over, its folder cannot be written, or its Ray is gone.

A thread of its own waits for signals, which all other threads block: no handler that Ray installs, in Python or in C++,
is ever called, and a signal is received while Ray starts or hangs. macOS and Windows cannot wait for a signal: there
the main thread handles it.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING

from moe.console import Exit
from study.lock import FolderError

if TYPE_CHECKING:
    from study.search.ledger import Ledger  # numpy, whose threads must not start before `signals`

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
CAN_WAIT = hasattr(signal, "sigtimedwait")
GRACE_S = 8.0  # for trials and Ray to end after a signal


@dataclass
class Stop:
    """Whether, and why, a study is to end now."""

    deadline: float | None = None  # of time.monotonic
    signalled: bool = False
    broken: OSError | FolderError | None = None  # a record could not be written
    lost: str | None = None  # why trials cannot go on without another Ray
    is_lost: Callable[[], bool] = lambda: False  # looks now; set while Ray is watched
    started: bool = False  # trials run, or ran: a signal ends the study once they have stopped; before, at once
    conclude: Callable[[], int] | None = None  # set while trials run: writes the tables, and gives the exit code
    before_exit: Callable[[int], int] = lambda code: code  # its code goes through it, where the process ends there
    resume: str = ""  # how to go on, for the end without tables
    panel: bool = False  # a live panel shows that a signal came; without one, a line does
    _timer: threading.Timer | None = None
    _ending: threading.Lock = field(default_factory=threading.Lock)

    def launching_is_over(self, ledger: "Ledger") -> bool:
        """Whether another trial would not end in time."""
        if self.now() or self.deadline is None:
            return self.now()
        return time.monotonic() + ledger.mean_seconds > self.deadline

    def now(self) -> bool:
        """Whether running trials are to stop too."""
        late = self.deadline is not None and time.monotonic() > self.deadline
        return self.signalled or late or self.broken is not None or self.lost is not None

    def ray_is_gone(self, within_s: float = 0.0) -> bool:
        """Whether there is no Ray any more, or is none after so many seconds; looks now."""
        end = time.monotonic() + within_s
        while self.lost is None:
            if self.is_lost():
                self.lost = "Ray is gone: it refuses connections"
            elif time.monotonic() >= end:
                break
            else:
                time.sleep(0.1)
        return self.lost is not None

    @contextmanager
    def while_trials_run(self, conclude: Callable[[], int]) -> Iterator[None]:
        """From here on, a signal ends the study once trials have stopped; or after a while, concluded, if Ray hangs."""
        self.conclude, self.started = conclude, True
        try:
            yield
        finally:
            with self._ending:  # if another thread concludes, the process ends there
                self.conclude = None
            if self._timer:
                self._timer.cancel()

    def lose(self, reason: str) -> None:
        """End the process with its tables, because trials cannot go on."""
        self.lost = reason
        self.end_now()

    def end_later(self) -> None:
        """End the process in a while, tables written, if Ray hangs: a signal to a whole group kills it first."""
        if self.conclude:  # else no trial runs any more, and what is left takes no longer
            self._timer = threading.Timer(GRACE_S, self.end_now)
            self._timer.daemon = True
            self._timer.start()

    def end_now(self) -> None:
        """End the process with its tables, unless no trial runs any more and the main thread writes them."""
        with self._ending:
            if not self.conclude:
                return
            if self.lost:
                _write(self.lost)
            code: int = Exit.INTERRUPTED
            try:
                code = self.before_exit(self.conclude())
            finally:
                _exit(code)

    def received(self) -> None:
        """A signal came. The first one ends the study once trials have stopped; a second one at once."""
        if not self.signalled:
            self.signalled = True
            if self.started:
                self.end_later()
                if not self.panel:
                    _write("Stopping; a second signal ends it at once.")
            elif CAN_WAIT:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR2)
            else:
                raise KeyboardInterrupt
        elif self.conclude and not self._ending.locked():
            threading.Thread(target=self.end_now, daemon=True).start()  # a third signal is received meanwhile
        else:
            _write(self.resume)
            _exit(Exit.INTERRUPTED)


def _write(line: str) -> None:
    """Print a line to stderr, whatever other threads do with it."""
    with suppress(OSError):
        os.write(2, f"{line}\n".encode(errors="replace") if line else b"")


def _exit(code: int) -> None:
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(code)


@contextmanager
def signals(stop: Stop) -> Iterator[None]:
    """Receive SIGINT, SIGTERM and SIGHUP while a study lasts; entered before any thread is started.

    Raises:
        KeyboardInterrupt: one came before trials ran.
    """
    awaited = {number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN}  # as nohup has it
    # a thread that was there before, such as a test's, may be given a signal, and then the main thread handles it
    handlers = {number: signal.signal(number, lambda number, frame: stop.received()) for number in awaited}
    try:
        with _in_a_thread(stop, awaited) if CAN_WAIT else nullcontext():
            yield
    except Exception:
        if stop.signalled and not stop.started:  # an import that a signal breaks half way may raise anything
            raise KeyboardInterrupt from None
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def _in_a_thread(stop: Stop, awaited: set[signal.Signals]) -> Iterator[None]:
    """Receive signals in a thread of their own, which wakes the main thread with another one."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        if not stop.signalled:
            return  # another process sent it
        if not stop.started:
            raise KeyboardInterrupt
        stop.end_later()

    handler = signal.signal(signal.SIGUSR2, interrupt)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    ended = threading.Event()
    thread = threading.Thread(target=_receive, args=(stop, awaited, ended), name="signals", daemon=True)
    thread.start()
    _blocking.update(awaited)
    try:
        yield
    finally:
        ended.set()
        thread.join()
        _blocking.clear()
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked - awaited)  # `study.early` had them wait
        signal.signal(signal.SIGUSR2, handler)


def _receive(stop: Stop, awaited: set[signal.Signals], ended: threading.Event) -> None:
    while not ended.is_set():
        found = signal.sigtimedwait(awaited, 0.2)
        # where another signal interrupts it as its time is up, Python returns what happened to be in memory
        if found and found.si_signo in awaited:
            stop.received()


_blocking: set[signal.Signals] = set()


# a process that is forked must not inherit what is blocked here: Ray's would not end on SIGTERM
if CAN_WAIT:
    os.register_at_fork(after_in_child=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, _blocking))
