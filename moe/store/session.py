"""A process at work in a store: one thread that beats for its leases, and a file that says since when it needs what.

sessions/<id>.json      {"since": 1790000000.0, "beat": 1790000100.0, "host": ..., "pid": ...}
"""

import json
import threading
import time
import uuid
from dataclasses import asdict

from moe.store.care import Care
from moe.store.leases import Leases, Owner, Timing

EVERY_S = 60.0
DEAD_S = 10 * EVERY_S  # without a beat for so long, a session has ended


class Session:
    """Begins with the first `begin` and ends with `close` or the process.

    Args:
        since: what was used since then is needed, in seconds since 1970.
    """

    def __init__(self, care: Care, leases: Leases, timing: Timing, since: float) -> None:
        self._care = care
        self._leases = leases
        self._timing = timing
        self._since = since
        self._owner = Owner.me()
        self._file = f"sessions/{uuid.uuid4().hex}.json"
        self._used: set[str] = set()
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Start beating, the first time."""
        with self._lock:
            if self._thread is None and not self._closed.is_set():
                self._write()
                self._thread = threading.Thread(target=self._beat, name="store-session", daemon=True)
                self._thread.start()

    def _beat(self) -> None:
        written = time.monotonic()
        while not self._closed.wait(self._timing.beat_s):
            self._leases.beat()
            if time.monotonic() - written >= EVERY_S:
                written = time.monotonic()
                self._write()

    def _write(self) -> None:
        says = {"since": self._since, "beat": time.time(), "owner": asdict(self._owner)}
        self._care.replace(self._file, json.dumps(says).encode())

    def first_use(self, folder: str) -> bool:
        """Whether this session uses a chain for the first time."""
        with self._lock:
            first = folder not in self._used
            self._used.add(folder)
            return first

    def forget(self, folder: str) -> None:
        """Take the next use of a chain for the first."""
        with self._lock:
            self._used.discard(folder)

    def close(self) -> None:
        """Stop beating and say so."""
        self._closed.set()
        with self._lock:
            if self._thread is None:
                return
            self._thread.join()
        self._care.remove(self._file)
