"""A place that may fail: unreachable, read-only, full. It never raises; it warns once and is left alone for a while.

What could not be read is not there, and what could not be written is not there next time: a store can slow a study
down, and nothing more.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from moe.store.place import Place, PlaceError

REST_SHARE = 10.0

Value = TypeVar("Value")


@dataclass
class Care:
    """A place whose failures cost time only.

    Args:
        place: where the files are.
        warn: told in a sentence of the first failure to read, the first to write, and each damaged entry.
        rest_s: how long, at most, a failed kind of operation is left alone: ten times as long as it took to fail,
            so that a service that is slow to say no costs a tenth of the time.
    """

    place: Place
    warn: Callable[[str], None]
    rest_s: float
    _exclusive: bool | None = None  # not known yet
    _resting: dict[str, float] = field(default_factory=dict)  # until when, by kind of operation
    _warned: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, path: str) -> bytes | None:
        """A file's content; None where there is none or it cannot be read."""
        return self._try("read", lambda: self.place.read(path), None)

    def files(self, folder: str) -> Mapping[str, int]:
        """The files right in a folder, with their sizes; none where that cannot be read."""
        return self._try("read", lambda: self.place.files(folder), {})

    def create(self, path: str, content: bytes) -> bool | None:
        """Whether the file was written, being the first; None where that cannot be known."""
        return self._try("written", lambda: self.place.create(path, content), None)

    def replace(self, path: str, content: bytes) -> bool:
        """Whether the file was written."""
        return self._done(lambda: self.place.replace(path, content))

    def remove(self, path: str) -> bool:
        """Whether the file is gone."""
        return self._done(lambda: self.place.remove(path))

    def move(self, path: str, to: str) -> bool:
        """Whether the file is gone from its path."""
        return self._done(lambda: self.place.move(path, to))

    def exclusive(self) -> bool:
        """Whether leases can be had here."""
        if self._exclusive is None:
            self._exclusive = self._try("written", self.place.exclusive, None)
        if self._exclusive is False:
            self._warn_once(
                "exclusive", f"two trials may train one stage: {self.place.name} creates no file exclusively"
            )
        return bool(self._exclusive)

    def _done(self, operation: Callable[[], None]) -> bool:
        def do() -> bool:
            operation()
            return True

        return self._try("written", do, False)

    def _try(self, kind: str, operation: Callable[[], Value], failed: Value) -> Value:
        if time.monotonic() < self._resting.get(kind, 0):
            return failed
        began = time.monotonic()
        try:
            return operation()
        except PlaceError as error:
            ended = time.monotonic()
            self._resting[kind] = ended + min(self.rest_s, REST_SHARE * (ended - began))
            self._warn_once(kind, f"the store cannot be {kind} ({error}); what it lacks is trained again")
            return failed

    def _warn_once(self, kind: str, sentence: str) -> None:
        with self._lock:
            if kind in self._warned:
                return
            self._warned.add(kind)
        self.warn(sentence)
