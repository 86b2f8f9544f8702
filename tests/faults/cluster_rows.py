"""Faults of servers and of the way to them: what a server on loopback does, and what a command must do then.

A row is a name, what the server sends, and what the one line on stderr has; the exit code is 4.
"""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

VERSION = b'{"ray_version": "2.60.0"}'
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
Send = Callable[[bytes], object]


class Row(NamedTuple):
    """What a server does once it has a request for `path`, and what the command then prints."""

    what: str
    act: Callable[[Send], object]
    says: str
    path: str = "/api/version"  # every other request is answered as a cluster without jobs does


def body(content: bytes) -> Callable[[Send], object]:
    """A whole answer with this body."""
    return lambda send: send(OK + f"Content-Length: {len(content)}\r\n\r\n".encode() + content)


def raw(content: bytes) -> Callable[[Send], object]:
    """These bytes, and then the end of the connection."""
    return lambda send: send(content)


def silence(_: Send) -> None:
    """Nothing, for longer than a command waits."""
    time.sleep(20)


def drip(first: bytes, piece: bytes) -> Callable[[Send], object]:
    """A piece again and again, slower than any network but faster than a time-out between packets."""

    def act(send: Send) -> None:
        send(first)
        while True:
            send(piece)
            time.sleep(0.1)

    return act


def flood(first: bytes, piece: bytes) -> Callable[[Send], object]:
    """A piece again and again, as fast as it goes."""

    def act(send: Send) -> None:
        send(first)
        while True:
            send(piece)

    return act


def job(**changes: object) -> bytes:
    """A list of one job that is a study, but for these fields."""
    details = {"submission_id": "study-x-1", "status": "RUNNING", "entrypoint": "", "start_time": 1000}
    return json.dumps([{**details, "metadata": {"study": "x", "results": "/r"}, **changes}]).encode()


JOBS = "/api/jobs/"
LIMIT, RAY, LARGE = "no complete answer within", "as Ray does", "has more than"
OTHER = "does not answer in http; expected the dashboard of a Ray cluster, by default on port 8265"
ROWS = (
    Row("nothing is sent", silence, LIMIT),
    Row("headers drip", drip(OK, b"X-A: 1"), LIMIT),
    Row("a body drips", drip(OK + b"\r\n", b" "), LIMIT),
    Row("a chunked body drips", drip(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"), LIMIT),
    Row("a job list drips", drip(OK + b"\r\n", b" "), LIMIT, JOBS),
    Row("an error drips", drip(b"HTTP/1.1 500 No\r\n\r\n", b" "), LIMIT),
    Row("a body never ends", flood(OK + b"\r\n", b" " * 65536), LARGE),
    Row("a job list never ends", flood(OK + b"\r\n", b" " * 65536), LARGE, JOBS),
    Row("headers never end", flood(OK, b"X-A: 1\r\n"), OTHER),
    Row("a status line never ends", flood(b"", b"H" * 65536), OTHER),
    Row("a body is cut", raw(OK + b"Content-Length: 99\r\n\r\n" + VERSION), "the connection broke"),
    Row("the connection is closed", raw(b""), OTHER),
    Row("port 6379: gRPC", raw(b"\x00\x00\x18\x04\x00\x00\x00\x00\x00\x00\x04\x00\x3f\xff\xff"), OTHER),
    Row("a terminal's escapes for a status", raw(b"\x1b]0;owned\x07\r\n"), OTHER),
    Row("HTML", body(b"<html>sign in</html>"), RAY),
    Row("nothing for a body", body(b""), RAY),
    Row("no UTF-8", body(b"\xff\xfe{"), RAY),
    Row("another JSON", body(b"[]"), RAY),
    Row("a version that is none", body(b'{"ray_version": {}}'), RAY),
    Row("JSON too deep", body(b"[" * 100_000), RAY),
    Row("a redirect", raw(b"HTTP/1.1 302 Found\r\nLocation: http://example.com/\r\n\r\n"), "status code 302"),
    Row("an error with escapes", raw(b"HTTP/1.1 500 No\r\n\r\n\x1b[2J\x07"), r"status code 500: \x1b[2J\x07"),
    Row("a job list that is an object", body(b'{"jobs": 1}'), RAY, JOBS),
    Row("a job list of numbers", body(b"[1, 2]"), RAY, JOBS),
    Row("a job list that is none", body(b"null"), RAY, JOBS),
    Row("a job that started at a number of 400 digits", body(job(start_time=10**400)), RAY, JOBS),
    Row("a job that ended with a number of 400 digits", body(job(driver_exit_code=10**400)), RAY, JOBS),
    Row("a job of no status", body(job(status="DANCING")), RAY, JOBS),
    Row("a job whose metadata are a list", body(job(metadata=["x"])), RAY, JOBS),
    Row("a job whose exit code is text", body(job(driver_exit_code="0")), RAY, JOBS),
    Row("a log that is a number", body(b'{"logs": 1}'), RAY, "/api/jobs/study-x-1/logs"),
    Row("a log that drips", drip(OK + b"\r\n", b" "), LIMIT, "/api/jobs/study-x-1/logs"),
)  # fmt: skip


@contextlib.contextmanager
def server(row: Row) -> Iterator[str]:
    """A server on loopback that does what a row says; its address."""
    listening = socket.create_server(("127.0.0.1", 0))

    def answer(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            path = connection.recv(65536).split(b" ")[1].decode()
            others = {"/api/version": VERSION, JOBS: job()}
            (row.act if path == row.path else body(others.get(path, b"{}")))(connection.sendall)

    def listen() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listening.accept()[0],), daemon=True).start()

    threading.Thread(target=listen, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
