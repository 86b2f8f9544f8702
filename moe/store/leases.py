"""Single flight: who trains a chain, told by files in the store, and known to be alive by their heartbeat.

    lease-0003.json     created, never replaced: who holds the third generation
    lease-0003.beat     replaced every ten seconds: a count, the epochs so far, whether it is released

The highest generation holds; taking over is creating the next one, and none is deleted while a chain is in use. A
waiter calls a holder dead when its beat has not changed for a minute of the waiter's own clock, so clocks are never
compared; on one machine it also sees that the process is gone. A holder that was paused finds the next generation
and stops. None of this decides what is stored: it saves work.
"""

import json
import os
import re
import socket
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from moe.store.care import Care

_LEASE = re.compile(r"lease-(\d{4,})\.json")


class TakenError(Exception):
    """Another holds the lease."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How long things take and last, in seconds."""

    commit_every_s: float = 30.0  # at most so much training is lost with a process
    beat_s: float = 10.0
    ttl_s: float = 60.0  # without a beat for so long, a holder is dead
    stuck_s: float = 900.0  # without another epoch for so long, a holder is not waited for
    poll_s: float = 0.5  # between two looks at a stage that another trains
    rest_s: float = 600.0  # after a failure of the store, at most


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A process that holds a lease."""

    token: str
    host: str
    boot: str  # this start of the machine, "" where that is not known
    processes: str  # the namespace that its number belongs to: containers of one machine have their own
    pid: int
    born: str  # when the process started, in the kernel's ticks: numbers are used again

    @classmethod
    def me(cls) -> "Owner":
        """This process, under a new token."""
        born = _born(os.getpid()) or ""
        return cls(
            token=uuid.uuid4().hex,
            host=socket.gethostname(),
            boot=_boot(),
            processes=_processes(),
            pid=os.getpid(),
            born=born,
        )

    def gone(self) -> bool:
        """Whether this process is known to have ended: it was of this machine and is not there any more."""
        if not (self.boot and self.processes) or (self.boot, self.processes) != (_boot(), _processes()):
            return False
        return _born(self.pid) != self.born


@cache
def _boot() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


@cache
def _processes() -> str:
    with suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return ""


def _born(pid: int) -> str | None:
    """The start time of a living process; None where there is none. A zombie has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


@dataclass
class Lease:
    """The right to train a chain, until someone takes over."""

    folder: str
    generation: int
    owner: Owner
    epochs: int = 0  # trained so far: a sign of progress
    lost: bool = False
    beats: int = 0
    checked: float = field(default_factory=time.monotonic)

    @property
    def beat_file(self) -> str:
        """The file that says it is alive."""
        return f"{self.folder}/lease-{self.generation:04d}.beat"


@dataclass
class _Sight:
    """What a waiter has seen of a lease, by its own clock."""

    beat: bytes | None
    epochs: int | None
    changed: float
    advanced: float


class Leases:
    """The leases that this process holds or waits for. One thread beats for all of them."""

    def __init__(self, care: Care, timing: Timing) -> None:
        self._care = care
        self._timing = timing
        self._held: list[Lease] = []
        self._seen: dict[tuple[str, int], _Sight] = {}
        self._lock = threading.Lock()

    def acquire(self, folder: str) -> Lease | None:
        """The lease of a chain's folder; None where the store cannot give one.

        Raises:
            TakenError: another holds it.
        """
        generation = max(self._generations(folder), default=0)
        if generation and not self._free(folder, generation):
            raise TakenError
        lease = Lease(folder, generation + 1, Owner.me())
        path = f"{folder}/lease-{lease.generation:04d}.json"
        created = self._care.create(path, json.dumps(asdict(lease.owner)).encode())
        if not created:  # with our token in it, only the answer was lost
            holder = _json(self._care.read(path)).get("token")
            if holder is None:
                return None
            if holder != lease.owner.token:
                raise TakenError
        with self._lock:
            self._held.append(lease)
        return lease

    def _generations(self, folder: str) -> list[int]:
        return [int(found[1]) for name in self._care.files(folder) if (found := _LEASE.fullmatch(name))]

    def _free(self, folder: str, generation: int) -> bool:
        """Whether the holder of a generation has released it, has died, or is stuck."""
        beat = self._care.read(f"{folder}/lease-{generation:04d}.beat")
        says = _json(beat)
        if says.get("released"):
            return True
        owner = _json(self._care.read(f"{folder}/lease-{generation:04d}.json"))
        if gone(owner):
            return True
        now = time.monotonic()
        sight = self._seen.setdefault((folder, generation), _Sight(beat, says.get("epochs"), now, now))
        if beat != sight.beat:
            sight.beat, sight.changed = beat, now
        if says.get("epochs") != sight.epochs:
            sight.epochs, sight.advanced = says.get("epochs"), now
        return now - sight.changed > self._timing.ttl_s or now - sight.advanced > self._timing.stuck_s

    def mine(self, lease: Lease, now: bool = False) -> bool:
        """Whether a lease still holds; looked up when `now`, or when the last look is a beat ago."""
        if not lease.lost and (now or time.monotonic() - lease.checked >= self._timing.beat_s):
            lease.lost = max(self._generations(lease.folder), default=0) > lease.generation
            lease.checked = time.monotonic()
        return not lease.lost

    def release(self, lease: Lease) -> None:
        """Let others have it at once."""
        with self._lock:
            self._held.remove(lease)
            self._write_beat(lease, released=True)

    def beat(self) -> None:
        """Say of every lease that its holder is alive."""
        for lease in list(self._held):
            if self.mine(lease):
                lease.beats += 1
                with self._lock:
                    if lease in self._held:  # not released meanwhile
                        self._write_beat(lease, released=False)

    def _write_beat(self, lease: Lease, *, released: bool) -> None:
        says = {"beats": lease.beats, "epochs": lease.epochs, "released": released}
        self._care.replace(lease.beat_file, json.dumps(says).encode())


def _json(content: bytes | None) -> dict[str, Any]:
    """What a file says; nothing where it is damaged or not there."""
    with suppress(ValueError):
        says = json.loads(content or b"")
        return says if isinstance(says, dict) else {}
    return {}


def gone(owner: dict[str, Any]) -> bool:
    """Whether the owner that a file names is known to have ended."""
    try:
        return Owner(**owner).gone()
    except TypeError:  # damaged: only its beat can tell
        return False
