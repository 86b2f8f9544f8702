"""Where a store keeps its files: a folder, or an object store behind a URL.

Nine operations are all that a store asks of it. What is written appears whole, and `create` replaces nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class PlaceError(Exception):
    """A place that did not do what it was asked; the sentence says why."""


class Place(Protocol):
    """Files by their path, with / between its parts."""

    name: str  # as a user would name it

    def exclusive(self) -> bool:
        """Whether of two that create one file at once, one is told that it was too late."""

    def read(self, path: str) -> bytes | None:
        """A file's content; None where there is no such file."""

    def create(self, path: str, content: bytes) -> bool:
        """Write a file unless there is one; whether it was written."""

    def replace(self, path: str, content: bytes) -> None:
        """Write a file, whether there is one or not."""

    def files(self, folder: str) -> dict[str, int]:
        """The files right in a folder, with their sizes in bytes."""

    def folders(self, folder: str) -> list[str]:
        """The folders right in a folder."""

    def move(self, path: str, to: str) -> None:
        """Give a file another path; nothing happens where there is none."""

    def remove(self, path: str) -> None:
        """Delete a file; nothing happens where there is none."""

    def prune(self, folder: str) -> None:
        """Delete a folder that holds nothing, and those above it that then hold nothing, where folders are things."""


@contextmanager
def as_place_errors(name: str) -> Iterator[None]:
    """Whatever a file system or a service's client raises, as one kind of error."""
    try:
        yield
    except PlaceError:
        raise
    except OSError as error:
        raise PlaceError(f"{name}: {error.strerror or error or type(error).__name__}") from error
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise PlaceError(f"{name}: {type(error).__name__}: {reason}") from error
