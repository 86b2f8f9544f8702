"""The official archive from the network.

It is held in memory (170 MB) until it has been decoded, so a download that fails leaves nothing behind.
"""

import http.client
import io
import sys
import urllib.error
import urllib.request

from moe.data.arrays import DataError

TIMEOUT_S = 10  # to connect, and for the server to send the next bytes
CHUNK = 1 << 20
LIMIT = 1 << 29  # three times what is expected
GZIP = b"\x1f\x8b"


def fetch(url: str) -> io.BytesIO:
    """What the address holds, a gzip archive of the announced length.

    Raises:
        DataError: no answer, an error, a web page, or fewer bytes than announced.
    """
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
            return _receive(response, url)
    except (OSError, http.client.HTTPException) as error:
        raise DataError(
            f"{url} could not be downloaded: {_reason(error)}; name a folder that holds CIFAR-10 in CIFAR10_DIR"
        ) from error


def _receive(response: http.client.HTTPResponse, url: str) -> io.BytesIO:
    length = response.length or 0
    received = io.BytesIO()
    while chunk := response.read(CHUNK):
        if not received.tell():
            _check_start(chunk, url)
            print(f"downloading CIFAR-10 from {url}", file=sys.stderr)
        received.write(chunk)
        if received.tell() > LIMIT:
            raise DataError(f"{url} sends more than {LIMIT} bytes; expected the archive of CIFAR-10")
    if received.tell() < length or not received.tell():
        raise DataError(f"{url} broke off after {received.tell()} bytes; expected {length}")
    received.seek(0)
    return received


def _check_start(chunk: bytes, url: str) -> None:
    if chunk.lstrip().startswith(b"<"):
        raise DataError(f"{url} answered with a web page (a proxy, perhaps); expected a gzip archive")
    if not chunk.startswith(GZIP):
        raise DataError(f"{url} answered with {chunk[:8]!r}; expected a gzip archive")


def _reason(error: Exception) -> object:
    if isinstance(error, urllib.error.HTTPError):
        error.close()  # it is also the answer, and holds a connection
        return error
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    return getattr(cause, "strerror", None) or cause
