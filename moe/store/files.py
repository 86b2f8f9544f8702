"""Files by their path, in a local folder or behind a URL: what a store needs of the place where it is.

    Place: Local, Remote     read, create, replace, remove, move, files, irregular, folders; a failure raises PlaceError

A file appears whole, and `create` never replaces one. Links to folders are neither listed nor written through: nothing
outside the root is written or deleted.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from moe.files import NotRegularError, create_file, irregular, is_plain, permit, read_regular, replace_file

MOST = {True: 2 << 30, False: 16 << 20}  # bytes of a file of tensors, and of any other


class PlaceError(Exception):
    """A place cannot be read or written; the sentence begins with its name."""


@contextmanager
def _place_errors(name: str) -> Iterator[None]:
    """Raise every error of a file system or of a service's client as a PlaceError."""
    try:
        yield
    except PlaceError:
        raise
    except OSError as error:
        where = error.filename2 or error.filename
        at = f": {where}" if where else ""
        raise PlaceError(f"{name}: {error.strerror or error or type(error).__name__}{at}") from error
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise PlaceError(f"{name}: {type(error).__name__}: {reason}") from error


class Local:
    """A folder on this machine or on a network file system."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.name = str(root)

    def read(self, path: str) -> bytes | None:
        """A file's content, empty for what is no regular file or too large; None if there is nothing."""
        with _place_errors(self.name), suppress(FileNotFoundError, NotADirectoryError):
            try:
                return read_regular(self._at(path), MOST[path.endswith(".safetensors")])
            except NotRegularError:
                return b""  # which matches no hash
        return None

    def create(self, path: str, content: bytes) -> bool:
        """Write a file unless it exists; whether it was written."""
        with _place_errors(self.name):
            target, mode = self._at(path), self._make_folders(path)
            created = create_file(target, content, mode)
            if not created and (kind := irregular(target)):
                raise NotRegularError(0, f"it is {kind}; expected a file", str(target))
            return created

    def replace(self, path: str, content: bytes) -> None:
        """Write a file, whether it exists or not."""
        with _place_errors(self.name):
            replace_file(self._at(path), content, self._make_folders(path))

    def _at(self, path: str) -> Path:
        """A path below the root, all of whose folders are in it."""
        at = self.root
        *folders, name = path.split("/")
        for folder in folders:
            at /= folder
            if not is_plain(folder) or at.is_symlink():
                raise PlaceError(f"{at} is a link; expected a folder of the store, outside of which nothing is touched")
        if not is_plain(name):
            raise PlaceError(f"{self.name}: {path!r} is not a file's path; expected plain names")
        return at / name

    def _make_folders(self, path: str) -> int:
        """Make the folders of a path with the root's permissions, so that who may write the root may write them too.

        Returns the permissions of a file in them.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        root, at = self.root.stat(), self.root
        for folder in path.split("/")[:-1]:
            at /= folder
            with suppress(FileExistsError):
                at.mkdir()
                with suppress(OSError, AttributeError):  # Windows has no groups
                    os.chown(at, -1, root.st_gid)
                permit(at, stat.S_IMODE(root.st_mode))
        return root.st_mode & 0o666

    def files(self, folder: str) -> dict[str, int]:
        """Names and sizes in bytes of the regular files directly in a folder."""
        sizes = {}
        with _place_errors(self.name):
            for entry in self._scan(folder):
                with suppress(OSError):  # it was removed meanwhile, or is a link in a circle
                    if entry.is_file():
                        sizes[entry.name] = entry.stat().st_size
        return sizes

    def irregular(self, folder: str) -> dict[str, str]:
        """Names of what is directly in a folder and is no regular file, and what each is."""
        with _place_errors(self.name):
            return {entry.name: kind for entry in self._scan(folder) if (kind := irregular(Path(entry.path)))}

    def folders(self, folder: str) -> list[str]:
        """Names of the folders directly in a folder; links are none."""
        with _place_errors(self.name):
            return sorted(entry.name for entry in self._scan(folder) if entry.is_dir(follow_symlinks=False))

    def _scan(self, folder: str) -> list["os.DirEntry[str]"]:
        at = self._at(f"{folder}/x").parent if folder else self.root
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(at) as entries:
            return list(entries)
        return []

    def remove(self, path: str) -> None:
        """Delete a file, if it exists."""
        with _place_errors(self.name):
            self._at(path).unlink(missing_ok=True)

    def move(self, path: str, to: str) -> bool:
        """Give a file, or what stands in its place, another path; whether there was one."""
        with _place_errors(self.name), suppress(FileNotFoundError):
            source = self._at(path)
            source.lstat()
            self._make_folders(to)
            source.rename(self._at(to))
            return True
        return False


class Remote:
    """A URL that fsspec supports, such as s3://bucket/folder; credentials come from the environment."""

    def __init__(self, url: str) -> None:
        self.name = url

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        import fsspec

        system, root = fsspec.core.url_to_fs(self.name, use_listings_cache=False)
        return system, root.rstrip("/")

    def _at(self, path: str) -> tuple[Any, str]:
        system, root = self._opened
        return system, f"{root}/{path}".rstrip("/")

    def read(self, path: str) -> bytes | None:
        """A file's content, empty for one that is too large; None if there is no such file."""
        with _place_errors(self.name), suppress(FileNotFoundError):
            system, at = self._at(path)
            most = MOST[path.endswith(".safetensors")]
            try:
                content = bytes(system.cat_file(at, start=0, end=most + 1))
            except FileNotFoundError:
                raise
            except OSError:
                if system.size(at):
                    raise
                content = b""  # of which S3 has no range
            return content if len(content) <= most else b""  # which matches no hash
        return None

    def create(self, path: str, content: bytes) -> bool:
        """Write a file unless it exists; whether it was written."""
        with _place_errors(self.name), suppress(FileExistsError):
            self._write(path, content, mode="create")
            return True
        return False

    def replace(self, path: str, content: bytes) -> None:
        """Write a file, whether it exists or not."""
        with _place_errors(self.name):
            self._write(path, content)

    def _write(self, path: str, content: bytes, **mode: str) -> None:
        system, at = self._at(path)
        if "s3" not in system.protocol:  # which has no folders: making one only costs a request
            system.makedirs(at.rsplit("/", 1)[0], exist_ok=True)
        system.pipe_file(at, content, **mode)

    def files(self, folder: str) -> dict[str, int]:
        """Names and sizes in bytes of the files directly in a folder."""
        return self._list(folder, "file")

    def folders(self, folder: str) -> list[str]:
        """Names of the folders directly in a folder."""
        return sorted(self._list(folder, "directory"))

    def _list(self, folder: str, kind: str) -> dict[str, int]:
        with _place_errors(self.name), suppress(FileNotFoundError, NotADirectoryError):
            system, at = self._at(folder)
            system.invalidate_cache(at)
            listed = ((entry["name"].rstrip("/"), entry) for entry in system.ls(at, detail=True))
            return {
                path.rsplit("/", 1)[-1]: int(entry["size"] or 0)
                for path, entry in listed
                if entry["type"] == kind and path != at
            }
        return {}

    def irregular(self, folder: str) -> dict[str, str]:
        """Nothing: a service has files only."""
        return {}

    def remove(self, path: str) -> None:
        """Delete a file, if it exists."""
        with _place_errors(self.name), suppress(FileNotFoundError):
            system, at = self._at(path)
            system.rm_file(at)

    def move(self, path: str, to: str) -> bool:
        """Give a file another path; whether there was one."""
        if (content := self.read(path)) is None:
            return False
        self.replace(to, content)
        self.remove(path)
        return True


Place = Local | Remote
