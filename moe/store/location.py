"""Where a user's store is: a folder or a URL, checked before anything is opened."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from moe.store.local import Local
from moe.store.place import Place
from moe.store.remote import Remote


def default_location() -> str:
    """`MOE_STORE`, or else `stages` in the folder where data are cached: one store for all studies of a user."""
    import platformdirs

    cache = Path(os.environ.get("MOE_CACHE") or platformdirs.user_cache_dir("moe"))
    return os.environ.get("MOE_STORE") or str(cache / "stages")


def checked(location: str) -> str:
    """A location that a store can be opened at, a path made absolute.

    Raises:
        ValueError: it is none; the sentence begins with the location.
    """
    if not location.strip():
        raise ValueError(f"{location!r}; expected a folder or a URL")
    if "://" not in location:
        return _folder(location, location)
    if location.startswith("file://"):
        return _folder(location, location.removeprefix("file://"))
    if "@" in urlsplit(location).netloc:
        raise ValueError(
            f"{location.split('://')[0]}://...@..., with credentials in it; expected a URL without them: "
            "give them in the environment or the service's own file"
        )
    _filesystem_class(location)
    return location


def _folder(location: str, path: str) -> str:
    try:
        folder = Path(path).expanduser().absolute()
        is_file = folder.exists() and not folder.is_dir()
    except (OSError, RuntimeError) as error:  # a name that is too long, a user that there is not
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{location}: {reason}; expected a folder or a URL") from None
    if is_file:
        raise ValueError(f"{location}, which is a file; expected a folder or a URL")
    return str(folder)


def _filesystem_class(location: str) -> Any:
    import fsspec

    scheme = location.split("://")[0]
    try:
        return fsspec.get_filesystem_class(scheme)
    except ValueError:
        known = ", ".join(f"{name}://" for name in ("s3", "gs", "abfs", "memory"))
        raise ValueError(f"{location}; expected a folder, or a URL that fsspec knows, such as {known}") from None
    except ImportError as error:
        raise ValueError(f"{location}; it needs another package: {error}") from None


def place_at(location: str) -> Place:
    """The place of a location."""
    location = checked(location)
    return Remote(location) if "://" in location else Local(Path(location))
