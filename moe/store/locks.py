"""Leases: one process at a time trains a chain, and another takes over when it dies.

    lease-0003.json     created once, never replaced: which process holds generation 3
    lease-0003.beat     replaced every ten seconds: a count, the epochs so far, whether the lease is released

The highest generation holds. To take over is to create the next one; none is deleted while a chain is in use. A
waiter counts a holder as dead if its beat has not changed for a minute by the waiter's own clock, so clocks are never
compared; on the same machine it also sees that the process has ended. A holder that was paused finds the next
generation and stops. Leases only save work: two processes that train one chain get the same bits.
"""

import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeVar

from moe.machine import boot_id
from moe.schema import Model, decode
from moe.store.files import Place
from moe.store.tolerant import TolerantFiles

_LEASE = re.compile(r"lease-(\d{4,})\.json")

Value = TypeVar("Value", bound=Model)


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Intervals of a store, in seconds."""

    commit_every_s: float = 30.0  # the most training that is lost with a process, besides the epoch it was in
    beat_s: float = 10.0
    ttl_s: float = 60.0  # a holder without a beat for so long is dead
    stuck_s: float = 900.0  # a holder without another epoch for so long is not waited for
    poll_s: float = 0.5  # between two attempts at a stage that another process trains
    rest_s: float = 600.0  # after a failure of the store, at most


class Owner(Model):
    """The process that holds a lease."""

    token: str  # another one for each lease
    host: str
    machine: str  # this boot of the machine and, for containers, its process namespace; "" if unknown
    pid: int
    started: str | None  # in ticks since boot: process ids are used again

    @classmethod
    def of(cls, pid: int) -> Self:
        """A process of this machine, with a new token."""
        host = socket.gethostname()
        return cls(token=uuid.uuid4().hex, host=host, machine=_machine(), pid=pid, started=_start_of(pid))

    def has_ended(self) -> bool:
        """Whether the process ran on this machine and is known to have ended."""
        if not self.machine or self.machine != _machine():
            return False
        started = _start_of(self.pid)
        return _is_unused(self.pid) if started is None else started != self.started


def _machine() -> str:
    with suppress(OSError):
        return f"{boot} {os.readlink('/proc/self/ns/pid')}" if (boot := boot_id()) else ""
    return ""


def _start_of(pid: int) -> str | None:
    """When a process started, "" if it has ended and is a zombie; None if /proc does not show it."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    return None


def _is_unused(pid: int) -> bool:
    """Whether no process has this number: /proc may hide those of other users."""
    try:
        os.kill(pid, 0)  # not on Windows, where this is Ctrl-C: an owner has no machine there
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:
        pass
    return False


class Beat(Model):
    """The heartbeat of a lease."""

    beats: int = 0
    epochs: int = 0
    released: bool = False


@dataclass(eq=False)
class Lease:
    """The right to train a chain until another process takes over.

    Generation 0 stands for none: the store cannot give leases, and another process may train the same chain.
    """

    files: TolerantFiles
    folder: str
    generation: int
    epochs: int = 0  # trained so far: a sign of progress
    over: bool = False  # released or lost
    _beats: int = 0
    _checked: float = field(default_factory=lambda: time.monotonic())  # looked up then: tests have a clock of their own
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def holds(self, most_age_s: float) -> bool:
        """Whether no other process has taken over, looked up unless that was done in the last `most_age_s`."""
        if self.generation and not self.over and time.monotonic() - self._checked >= most_age_s:
            self._checked = time.monotonic()
            if newest(self.files, self.folder) > self.generation:
                self.over = True  # and never False again: it may be released meanwhile
        return not self.over

    def deaths(self) -> int:
        """How many earlier holders have not released it."""
        earlier = (each for each in _generations(self.files, self.folder) if each < self.generation)
        beats = (_read(self.files, _path(self.folder, each, "beat"), Beat) for each in earlier)
        return sum(not (beat and beat.released) for beat in beats)

    def beat(self, released: bool = False) -> None:
        """Write that the holder is alive, or that it has released the lease."""
        with self._lock:
            if self.generation and not self.over:
                self.over = released
                self._beats += 1
                beat = Beat(beats=self._beats, epochs=self.epochs, released=released)
                self.files.replace(_path(self.folder, self.generation, "beat"), beat.model_dump_json().encode())


@dataclass
class _LeaseState:
    """What a waiter has seen of another's lease, by its own clock."""

    beat: bytes | None
    epochs: int
    changed: float
    advanced: float


class Leases:
    """The leases that this process holds or waits for. One thread writes the beats of all of them."""

    def __init__(self, files: TolerantFiles, timing: Timing, on_beat: Callable[[], object] = lambda: None) -> None:
        self._files = files
        self._timing = timing
        self._on_beat = on_beat
        self._exclusive: bool | None = None  # unknown until the first lease
        self._held: list[Lease] = []
        self._seen: dict[tuple[str, int], _LeaseState] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self, folder: str) -> Lease | None:
        """The lease of a chain's folder; None if another process holds it."""
        if self._exclusive is False:
            return Lease(self._files, folder, 0)
        last = newest(self._files, folder)
        if last and not self._is_free(folder, last):
            return None
        path, owner = _path(folder, last + 1, "json"), Owner.of(os.getpid())
        content = owner.model_dump_json().encode()
        created = self._files.create(path, content)
        if not created:
            found = self._files.read(path)
            holder = _decoded(found, Owner)
            if holder is None and (created is None or found is None):
                return Lease(self._files, folder, 0)
            if holder is None or holder.token != owner.token:  # with our token in it, only the answer was lost
                return None
        lease = Lease(self._files, folder, last + 1 if self._is_exclusive(path, content) else 0)
        with self._lock:
            self._held.append(lease)
            if self._thread is None:
                self._thread = threading.Thread(target=self._keep_beating, name="store-leases", daemon=True)
                self._thread.start()
        return lease

    def _is_exclusive(self, path: str, content: bytes) -> bool:
        """Try once to create a file that exists: some services take an exclusive write for a plain one."""
        if self._exclusive is None:
            created = self._files.create(path, content)
            self._exclusive = None if created is None else not created
            if created:
                self._files.remove(path)
                where = self._files.place.name
                self._files.warn_once("lease", f"two trials may train one stage: {where} creates no file exclusively")
        return self._exclusive is not False

    def _is_free(self, folder: str, generation: int) -> bool:
        """Whether the holder has released the lease, has died, or is stuck."""
        asked = time.monotonic()  # before it reads: a waiter that is paused in between has seen no silence
        content = self._files.read(_path(folder, generation, "beat"))
        beat = _decoded(content, Beat) or Beat()
        owner = _read(self._files, _path(folder, generation, "json"), Owner)
        if beat.released or (owner and owner.has_ended()):
            return True
        now = time.monotonic()
        state = self._seen.setdefault((folder, generation), _LeaseState(content, beat.epochs, now, now))
        if content != state.beat:
            state.beat, state.changed = content, now
        if beat.epochs != state.epochs:
            state.epochs, state.advanced = beat.epochs, now
        return asked - state.changed > self._timing.ttl_s or asked - state.advanced > self._timing.stuck_s

    def _keep_beating(self) -> None:
        while not self._closed.wait(self._timing.beat_s):
            self.beat()

    def beat(self) -> None:
        """Write the beats of all leases that are held."""
        self._on_beat()
        with self._lock:
            self._held = held = [lease for lease in self._held if not lease.over]
        for lease in held:
            if lease.holds(self._timing.beat_s):
                lease.beat()

    def close(self) -> None:
        """Stop the beats."""
        self._closed.set()
        if self._thread:
            self._thread.join()


def _path(folder: str, generation: int, kind: str) -> str:
    return f"{folder}/lease-{generation:04d}.{kind}"


def sign_of_life(place: Place, folder: str) -> tuple[int, bytes | None] | None:
    """What a living holder of the newest lease changes; None if there is none, or it is known to have ended.

    Raises:
        PlaceError: that cannot be read.
    """
    if not (generation := newest(place, folder)):
        return None
    content = place.read(_path(folder, generation, "beat"))
    beat, owner = _decoded(content, Beat), _read(place, _path(folder, generation, "json"), Owner)
    ended = owner is None or owner.has_ended() or (beat and beat.released)
    return None if ended else (generation, content)


def newest(files: TolerantFiles | Place, folder: str) -> int:
    """The highest generation of a lease; 0 if there is none."""
    return max(_generations(files, folder), default=0)


def _generations(files: TolerantFiles | Place, folder: str) -> list[int]:
    """Those of all leases that there are."""
    return [int(found[1]) for name in files.files(folder) if (found := _LEASE.fullmatch(name))]


def _read(files: TolerantFiles | Place, path: str, model: type[Value]) -> Value | None:
    return _decoded(files.read(path), model)


def _decoded(content: bytes | None, model: type[Value]) -> Value | None:
    """What a file holds; None if it is damaged or absent."""
    with suppress(ValueError):
        return decode(model, content or b"")
    return None
