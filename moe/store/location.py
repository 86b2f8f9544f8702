"""Where a user's store is: a folder or a URL. Every location is checked here, before anything is opened."""

import os
import re
from pathlib import Path

from moe.files import user_cache
from moe.store.files import Local, Place, Remote

AZURE = ("abfs", "abfss", "az")  # where container@account is the normal form, and no secret
_USER = re.compile(r"://([^/?#]*)@")


def default_location() -> str:
    """`MOE_STORE`, or else the folder `stages` in the user's cache, which all studies of a user share."""
    return os.environ.get("MOE_STORE") or str(user_cache() / "stages")


def checked(location: str) -> str:
    """A location of a store; a path is made absolute.

    Raises:
        ValueError: it is no folder and no URL that fsspec supports; the sentence begins with the location.
    """
    if not location.strip():
        raise ValueError(f"{location!r}; expected a folder or a URL")
    if "://" not in location or location.startswith("file://"):
        if location.startswith("file://") and not location.startswith("file:///"):
            raise ValueError(f"{location}, which has a host; expected file:/// and a path, or a path alone")
        return _folder(location, location.removeprefix("file://"))
    scheme = location.split("://")[0]
    secret = any(scheme not in AZURE or ":" in user for user in _USER.findall(location))
    if secret or "?" in location:
        raise ValueError(
            f"{scheme}://..., with credentials or a query in it; expected a URL without them: put them in the "
            "environment (AWS_SECRET_ACCESS_KEY, AZURE_STORAGE_SAS_TOKEN, GOOGLE_APPLICATION_CREDENTIALS and the like) "
            "or in the service's own file"
        )
    path = location.removeprefix(f"{scheme}://").strip("/").split("/")
    if "#" in location or not all(part.strip(".") for part in path):
        raise ValueError(f"{location}; expected a URL with a name after each /, such as s3://bucket/folder")
    _check_scheme(location)
    return location


def _folder(location: str, path: str) -> str:
    try:
        folder = Path(path).expanduser().absolute()
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{location}, which is a file; expected a folder or a URL")
    except (OSError, RuntimeError) as error:  # a name that is too long, an unknown user
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{location}: {reason}; expected a folder or a URL") from None
    return str(folder)


def _check_scheme(location: str) -> None:
    import fsspec

    try:
        fsspec.get_filesystem_class(location.split("://")[0])
    except ValueError:
        known = "s3://, gs://, abfs://, memory://"
        raise ValueError(f"{location}; expected a folder, or a URL that fsspec supports, such as {known}") from None
    except ImportError as error:
        raise ValueError(f"{location}; it needs another package: {error}") from None


def place_at(location: str) -> Place:
    """The place at a location.

    Raises:
        ValueError: as `checked`.
    """
    location = checked(location)
    return Remote(location) if "://" in location else Local(Path(location))
