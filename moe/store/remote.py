"""A place that is a URL, through fsspec: S3 and what speaks like it, Google and Azure storage, memory."""

import uuid
from functools import cached_property
from typing import Any

from moe.store.place import as_place_errors


class Remote:
    """A URL that fsspec knows, such as s3://bucket/folder; credentials come from the environment."""

    def __init__(self, location: str) -> None:
        self.name = location

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        import fsspec

        files, root = fsspec.core.url_to_fs(self.name, use_listings_cache=False)
        return files, root.rstrip("/")

    def _at(self, path: str) -> tuple[Any, str]:
        files, root = self._opened
        return files, f"{root}/{path}" if path else root

    def exclusive(self) -> bool:
        """Try it: some services take a conditional write for a plain one."""
        probe = f"probe-{uuid.uuid4().hex}"
        self.create(probe, b"")
        try:
            return not self.create(probe, b"")
        finally:
            self.remove(probe)

    def read(self, path: str) -> bytes | None:
        """A file's content; None where there is no such file."""
        with as_place_errors(self.name):
            files, at = self._at(path)
            try:
                return bytes(files.cat_file(at))
            except FileNotFoundError:
                return None

    def create(self, path: str, content: bytes) -> bool:
        """Write a file unless there is one; whether it was written."""
        with as_place_errors(self.name):
            files, at = self._at(path)
            self._make_folder(files, at)
            try:
                files.pipe_file(at, content, mode="create")
            except FileExistsError:
                return False
            return True

    def replace(self, path: str, content: bytes) -> None:
        """Write a file, whether there is one or not."""
        with as_place_errors(self.name):
            files, at = self._at(path)
            self._make_folder(files, at)
            files.pipe_file(at, content)

    def _make_folder(self, files: Any, at: str) -> None:
        if "s3" not in files.protocol:  # where folders are only a way of speaking, asking for one costs a request
            files.makedirs(at.rsplit("/", 1)[0], exist_ok=True)

    def _listed(self, folder: str, kind: str) -> dict[str, int]:
        """What lies right in a folder: sizes by name."""
        with as_place_errors(self.name):
            files, at = self._at(folder)
            files.invalidate_cache(at)
            try:
                entries = files.ls(at, detail=True)
            except (FileNotFoundError, NotADirectoryError):
                return {}
            found = [entry for entry in entries if entry["type"] == kind and entry["name"].rstrip("/") != at]
            return {_last(entry): int(entry["size"] or 0) for entry in found}

    def files(self, folder: str) -> dict[str, int]:
        """The files right in a folder, with their sizes in bytes."""
        return self._listed(folder, "file")

    def folders(self, folder: str) -> list[str]:
        """The folders right in a folder."""
        return sorted(self._listed(folder, "directory"))

    def move(self, path: str, to: str) -> None:
        """Give a file another path; nothing happens where there is none."""
        if (content := self.read(path)) is not None:
            self.replace(to, content)
            self.remove(path)

    def remove(self, path: str) -> None:
        """Delete a file; nothing happens where there is none."""
        with as_place_errors(self.name):
            files, at = self._at(path)
            try:
                files.rm_file(at)
            except FileNotFoundError:
                return

    def prune(self, folder: str) -> None:
        """Do nothing: a folder is no more than the names of its files, and some services delete buckets for it."""


def _last(entry: dict[str, Any]) -> str:
    return str(entry["name"]).rstrip("/").rsplit("/", 1)[-1]
