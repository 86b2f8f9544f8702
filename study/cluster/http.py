"""Requests to one server: no redirects, no proxy for this machine, and on every exchange a limit in time and bytes.

    server = Server("http://localhost:8265", {"Authorization": "Bearer ..."})
    server.send("GET", "/api/version")        the body, or a ClusterError in one sentence

Neither Ray nor requests is needed.
"""

import http.client
import ipaddress
import os
import queue
import re
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, TypeAdapter, ValidationError

from moe.files import irregular
from study.machine import ClusterError

PATIENCE_S = 30.0  # for an answer
LEAST_RATE = 50_000  # bytes a second, by which a large answer may take longer
MOST_BYTES = 96 * 2**20  # of an answer
ERROR_BYTES = 64 * 2**10  # of one that is an error
PORT_ADVICE = "expected the dashboard of a Ray cluster, by default on port 8265, not 6379 or 10001"
BUNDLE = "REQUESTS_CA_BUNDLE"  # the variable of requests, and so of Ray, with certificates to trust
HEADERS = "RAY_JOB_HEADERS"  # Ray's variable with headers for a gateway in front of the cluster
_HEADERS = TypeAdapter(
    dict[Annotated[str, Field(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")], Annotated[str, Field(pattern="^[ -~]*$")]]
)

Pieces = queue.Queue[bytes | Exception | None]  # of an answer; None or an exception is the last one


class StatusError(ClusterError):
    """The server answered with an error."""

    def __init__(self, sentence: str, code: int, text: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.text = text


@dataclass(frozen=True)
class Server:
    """A server and what every request to it carries."""

    address: str  # http://host:port/path
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    authority: Path | None = None  # certificates to trust, in PEM, instead of the system's

    def send(self, method: str, path: str, content: bytes | None = None) -> bytes:
        """The body of the answer to a request.

        Raises:
            StatusError: it is an error, or sends elsewhere.
            ClusterError: there is none, it comes too slowly, or it is too large.
        """
        headers = {"Content-Type": "application/octet-stream" if method == "PUT" else "application/json"}
        request = urllib.request.Request(f"{self.address}{path}", content, {**self.headers, **headers}, method=method)
        pieces: Pieces = queue.Queue(maxsize=8)
        threading.Thread(target=self._receive, args=(request, pieces), daemon=True).start()
        began, received = time.monotonic(), bytearray()
        while True:
            limit = PATIENCE_S + (len(content or b"") + len(received)) / LEAST_RATE
            try:
                piece = pieces.get(timeout=max(0.0, began + limit - time.monotonic()))
            except queue.Empty:
                raise ClusterError(f"{self.address}: no complete answer within {limit:.0f} s") from None
            if piece is None:
                return bytes(received)
            if isinstance(piece, Exception):
                raise self._sentence(piece) from piece
            received += piece
            if len(received) > MOST_BYTES:
                raise ClusterError(f"{self.address}: the answer has more than {MOST_BYTES // 2**20} MiB")

    def _receive(self, request: urllib.request.Request, pieces: Pieces) -> None:
        """Put an answer into a queue, in a thread that `send` leaves behind at its limit, held by the full queue."""
        try:
            with self._opener().open(request, timeout=2 * PATIENCE_S) as answer:
                while piece := answer.read1(2**16):
                    pieces.put(piece)
                if answer.length:  # read1 does not notice that the connection broke
                    raise http.client.IncompleteRead(b"", answer.length)
            pieces.put(None)
        except Exception as error:  # `send` raises it
            if isinstance(error, urllib.error.HTTPError):
                with error, suppress(Exception):  # of a body in pieces of a senseless size, a ValueError
                    error.msg = error.read(ERROR_BYTES).decode(errors="replace")
            pieces.put(error)

    def _opener(self) -> urllib.request.OpenerDirector:
        proxies = {urlsplit(self.address).scheme: proxy} if (proxy := self.proxy) else {}
        handlers: list[urllib.request.BaseHandler] = [_NoRedirects(), urllib.request.ProxyHandler(proxies)]
        if self.address.startswith("https:"):
            handlers.append(urllib.request.HTTPSHandler(context=self._trusted()))
        return urllib.request.build_opener(*handlers)

    def _trusted(self) -> ssl.SSLContext:
        """The certificates to trust: --ca, or else those of the environment, or else the system's."""
        bundle = str(self.authority or os.environ.get(BUNDLE) or "")
        folder = os.path.isdir(bundle)
        try:
            if bundle and not folder and irregular(Path(bundle)):
                raise OSError(0, "it is no file")
            return ssl.create_default_context(
                cafile=None if folder else bundle or None, capath=bundle if folder else None
            )
        except OSError as error:  # ssl.SSLError too
            reason = "it has no certificate in PEM" if isinstance(error, ssl.SSLError) else error.strerror
            name = "--ca" if self.authority else BUNDLE
            raise ClusterError(f"{name} is {bundle}: {reason}; expected certificates in PEM") from None

    @property
    def proxy(self) -> str | None:
        """The proxy of the environment that requests go through; None for this machine, the end of a tunnel say."""
        parts = urlsplit(self.address)
        host = parts.hostname or ""
        if is_loopback(host) or urllib.request.proxy_bypass(parts.netloc) or urllib.request.proxy_bypass(host):
            return None
        found = urllib.request.getproxies()
        proxy = found.get(parts.scheme) or found.get("all")
        if proxy and "://" in proxy and not re.match("https?://", proxy):
            kind = proxy.partition(":")[0]
            raise ClusterError(f"the proxy for {self.address} is {kind}://...; expected one for http, or a tunnel")
        return proxy

    @property
    def readable_by(self) -> str | None:
        """Who can read a token on the way, in words; None where it is encrypted or does not leave this machine."""
        if self.address.startswith("https:") or is_loopback(urlsplit(self.address).hostname or ""):
            return None
        if proxy := self.proxy:
            parts = urlsplit(proxy if "://" in proxy else f"//{proxy}")
            return f"the proxy {parts.netloc.rpartition('@')[2]} and all who are on the way"
        return "all who are on the way"

    def _sentence(self, error: Exception) -> ClusterError:
        """An error of a request as a sentence that begins with the address."""
        place = self.address
        if isinstance(error, urllib.error.HTTPError):
            text = str(error.reason)
            if 300 <= error.code < 400:
                elsewhere = one_line(error.headers.get("Location", ""))
                text = f"it sends to another address, {elsewhere}, which is not followed"
            return StatusError(f"{place}: status code {error.code}: {one_line(text)}", error.code, text)
        if isinstance(error, ClusterError):  # of what is here
            return error
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, ssl.SSLCertVerificationError):
            advice = "expected --ca FILE with the certificate of who signed it"
            return ClusterError(f"{place}: its certificate is not trusted ({reason.verify_message}); {advice}")
        if isinstance(reason, http.client.IncompleteRead):
            return ClusterError(f"{place}: the connection broke before the answer was complete")
        if isinstance(reason, http.client.HTTPException | ssl.SSLError):
            return ClusterError(f"{place} does not answer in {urlsplit(place).scheme}; {PORT_ADVICE}")
        text = reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason)
        return ClusterError(f"{place} does not answer: {one_line(text or type(reason).__name__)}")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Another address must not get the token."""

    def redirect_request(self, *_: Any) -> None:
        """No request at all: the answer is an error."""


def is_loopback(host: str) -> bool:
    """Whether a host, by any way to write it, is this machine."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    with suppress(OSError, ValueError):
        legacy = "" if ":" in name else socket.inet_ntoa(socket.inet_aton(name))  # 127.1 is an address too
        found = ipaddress.ip_address(legacy or name)
        return any(
            form.is_loopback or form.is_unspecified for form in (found, getattr(found, "ipv4_mapped", None)) if form
        )
    return False


def gateway_headers() -> dict[str, str]:
    """The headers in RAY_JOB_HEADERS, for a gateway before the cluster; raises a `ClusterError` if they are none."""
    try:
        return _HEADERS.validate_json(os.environ.get(HEADERS, "").strip() or "{}")
    except ValidationError:  # which shows the text, and that may be a secret
        sentence = f'{HEADERS} has no headers; expected a JSON object of texts, such as {{"X-Team": "vision"}}'
        raise ClusterError(sentence) from None


def one_line(text: str) -> str:
    """An error in a line; of a traceback, which a server may send, the error at its end."""
    text = text[-ERROR_BYTES:]
    named = [line for line in text.splitlines() if re.match(r"\s*[\w.]+Error: ", line)]
    return " ".join((named or [text])[-1].split())[:300]
