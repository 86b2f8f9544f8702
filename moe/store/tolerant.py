"""A place whose failures cost time only: the first of each kind is a warning, and what is lacking is trained again."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from moe.store.files import Place, PlaceError

BACK_OFF = 10.0  # times as long as it took to fail: a slow service then costs a tenth of the time

Value = TypeVar("Value")
Default = TypeVar("Default")


class TolerantFiles:
    """A place whose failures cost time only: what cannot be read counts as absent, what cannot be written is dropped.

    The first failure to read and the first to write are warned of. After a failure that kind of operation is not
    tried for a while.

    Args:
        warn: called with a sentence.
        rest_s: the longest such while.
        name: of the place, for people.
        cost: what a failure brings, likewise.
    """

    def __init__(
        self,
        place: Place,
        warn: Callable[[str], None],
        rest_s: float,
        name: str = "the store",
        cost: str = "what it lacks is trained again",
    ) -> None:
        self.place = place
        self._name, self._cost = name, cost
        self._warn = warn
        self._rest_s = rest_s
        self._rests_until: dict[str, float] = {}  # by kind of operation
        self._warned: set[str] = set()
        self._lock = threading.Lock()

    def read(self, path: str) -> bytes | None:
        """A file's content; None if there is none or it cannot be read."""
        return self._try("read", lambda: self.place.read(path), None)

    def files(self, folder: str) -> Mapping[str, int]:
        """Names and sizes of the files directly in a folder; none if it cannot be read."""
        return self.listing(folder) or {}

    def listing(self, folder: str) -> Mapping[str, int] | None:
        """The same; None if it cannot be read."""
        return self._try("read", lambda: self.place.files(folder), None)

    def create(self, path: str, content: bytes) -> bool | None:
        """Whether the file was written and is the first; None if that is not known."""
        return self._try("written", lambda: self.place.create(path, content), None)

    def replace(self, path: str, content: bytes) -> bool:
        """Whether the file was written."""
        return self._try("written", lambda: self.place.replace(path, content), False) is None

    def remove(self, path: str) -> bool:
        """Whether the file is gone; one that another user may keep from being deleted only takes room."""
        return self._try("deleted", lambda: self.place.remove(path), False) is None

    def move(self, path: str, to: str) -> bool:
        """Whether the file is at its new path alone."""
        return self._try("written", lambda: self.place.move(path, to), False)

    def _try(self, kind: str, operation: Callable[[], Value], default: Default) -> Value | Default:
        began = time.monotonic()
        if began < self._rests_until.get(kind, 0):
            return default
        try:
            return operation()
        except PlaceError as error:
            ended = time.monotonic()
            self._rests_until[kind] = ended + min(self._rest_s, BACK_OFF * (ended - began))
            if kind != "deleted":
                self.warn_once(kind, f"{self._name} cannot be {kind} ({error}); {self._cost}")
            return default

    def warn_once(self, kind: str, sentence: str) -> None:
        """Warn, unless a warning of this kind was given before."""
        with self._lock:
            if kind in self._warned:
                return
            self._warned.add(kind)
        self._warn(sentence)
