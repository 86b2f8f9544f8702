"""A download with limits in time and bytes, which says what it got instead of the archive."""

import hashlib
import http.client
import queue
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import BinaryIO

from moe.data.dataset import DataError

TIMEOUT_S = 10  # to connect, and for the server to send the next bytes
LIMIT_S = 1800  # for all of it
MOST = 256 << 20  # bytes; the archive has 170,498,071
GZIP = b"\x1f\x8b"


def download(url: str, md5: str, path: Path) -> None:
    """Save the gzip archive at an address.

    Raises:
        DataError: no connection, an error, a web page, too few bytes, another md5, or it takes too long.
    """
    try:
        found = _in_time(url, path)
    except (OSError, ValueError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
        reason = error.reason if type(error) is urllib.error.URLError else error
        raise DataError(
            f"{url} could not be downloaded: {getattr(reason, 'strerror', None) or reason}; "
            "name a folder that holds CIFAR-10 in CIFAR10_DIR"
        ) from error
    if found != md5:
        raise DataError(f"{url} is damaged or not the official file: its md5 is {found}; expected {md5}")


def _in_time(url: str, path: Path) -> str:
    """Save what is at an address and return its md5; a header that never ends takes no longer than a body."""
    results: queue.SimpleQueue[str | Exception] = queue.SimpleQueue()

    def work() -> None:
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response, path.open("wb") as file:
                print(f"downloading CIFAR-10 (170 MB) from {url}", file=sys.stderr, flush=True)
                results.put(_receive(response, file))
        except Exception as error:  # raised below
            results.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        found = results.get(timeout=LIMIT_S)
    except queue.Empty:
        raise TimeoutError(f"it took longer than {LIMIT_S} s") from None
    if isinstance(found, Exception):
        raise found
    return found


def _receive(response: http.client.HTTPResponse, file: BinaryIO) -> str:
    """Save a response and return its md5."""
    if (length := response.length or 0) > MOST:
        raise ValueError(f"it has {length:,} bytes; expected at most {MOST:,}")
    expected, deadline, digest = response.length or 1, time.monotonic() + LIMIT_S, hashlib.md5(usedforsecurity=False)
    while chunk := response.read1(1 << 20):
        if not file.tell() and not chunk.startswith(GZIP):
            has = "a web page, of a proxy perhaps" if chunk.lstrip().startswith(b"<") else repr(chunk[:8])
            raise ValueError(f"it is {has}; expected a gzip archive")
        file.write(chunk)
        digest.update(chunk)
        if file.tell() > MOST:
            raise ValueError(f"it does not end after {MOST:,} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError(f"it took longer than {LIMIT_S} s")
    if file.tell() < expected:
        raise ValueError(f"it broke off after {file.tell()} bytes; expected {expected}")
    return digest.hexdigest()
