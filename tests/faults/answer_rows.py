"""Faults of a cluster's server: what it answers, and what a command must do then."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.faults.cluster_scene import JOBS, SENTENCE, VERSION, run
from tests.faults.table import Fault

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
Send = Callable[[bytes], object]
over = threading.Event()  # of the server that answers: its threads end with it


class Row(NamedTuple):
    """What a server does once it has a request for `path`, and what a command then prints in its one line."""

    kind: str
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
    over.wait(20)


def drip(first: bytes, piece: bytes) -> Callable[[Send], object]:
    """A piece again and again, slower than any network but faster than a time-out between packets."""

    def act(send: Send) -> None:
        send(first)
        while not over.wait(0.1):
            send(piece)

    return act


def flood(first: bytes, piece: bytes) -> Callable[[Send], object]:
    """A piece again and again, as fast as it goes."""

    def act(send: Send) -> None:
        send(first)
        while not over.is_set():
            send(piece)

    return act


def job(**changes: object) -> bytes:
    """A list of one job that is a study, but for these fields."""
    details = {"submission_id": "study-x-1", "status": "RUNNING", "entrypoint": "", "start_time": 1000}
    return json.dumps([{**details, "metadata": {"study": "x", "results": "/r"}, **changes}]).encode()


LIMIT, RAY, LARGE = "no complete answer within", "as Ray does", "has more than"
OTHER = "does not answer in http; expected the dashboard of a Ray cluster, by default on port 8265"
CHUNKED_ERROR = b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n"
ROWS = (
    Row("B10", "nothing is sent", silence, LIMIT),
    Row("B10", "headers drip", drip(OK, b"X-A: 1"), LIMIT),
    Row("B10", "a body drips", drip(OK + b"\r\n", b" "), LIMIT),
    Row("B10", "a chunked body drips", drip(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"), LIMIT),
    Row("B10", "a job list drips", drip(OK + b"\r\n", b" "), LIMIT, JOBS),
    Row("B10", "an error drips", drip(b"HTTP/1.1 500 No\r\n\r\n", b" "), LIMIT),
    Row("B10", "a body never ends", flood(OK + b"\r\n", b" " * 65536), LARGE),
    Row("B10", "a job list never ends", flood(OK + b"\r\n", b" " * 65536), LARGE, JOBS),
    Row("C13", "headers never end", flood(OK, b"X-A: 1\r\n"), OTHER),
    Row("B10", "a status line never ends", flood(b"", b"H" * 65536), OTHER),
    Row("B10", "a body is cut", raw(OK + b"Content-Length: 99\r\n\r\n" + VERSION), "the connection broke"),
    Row("F26", "the connection is closed", raw(b""), OTHER),
    Row("F26", "port 6379: gRPC", raw(b"\x00\x00\x18\x04\x00\x00\x00\x00\x00\x00\x04\x00\x3f\xff\xff"), OTHER),
    Row("D20", "a terminal's escapes for a status", raw(b"\x1b]0;owned\x07\r\n"), OTHER),
    Row("F26", "HTML", body(b"<html>sign in</html>"), RAY),
    Row("F26", "nothing for a body", body(b""), RAY),
    Row("C13", "no UTF-8", body(b"\xff\xfe{"), RAY),
    Row("C13", "another JSON", body(b"[]"), RAY),
    Row("C13", "a version that is none", body(b'{"ray_version": {}}'), RAY),
    Row("C13", "JSON too deep", body(b"[" * 100_000), RAY),
    Row("F26", "a redirect", raw(b"HTTP/1.1 302 Found\r\nLocation: http://example.com/\r\n\r\n"), "status code 302"),
    Row("D20", "an error with escapes", raw(b"HTTP/1.1 500 No\r\n\r\n\x1b[2J\x07"), r"status code 500: \x1b[2J\x07"),
    Row("C13", "an error in pieces of a negative size", raw(CHUNKED_ERROR + b"-5\r\n"), "status code 500"),
    Row("B10", "an error of empty lines", raw(b"HTTP/1.1 500 No\r\n\r\n" + b"\n" * 60_000), "status code 500"),
    Row("C15", "a job list that is an object", body(b'{"jobs": 1}'), RAY, JOBS),
    Row("C15", "a job list of numbers", body(b"[1, 2]"), RAY, JOBS),
    Row("C15", "a job list that is none", body(b"null"), RAY, JOBS),
    Row("C13", "a job that started at a number of 400 digits", body(job(start_time=10**400)), RAY, JOBS),
    Row("C13", "a job that ended with a number of 400 digits", body(job(driver_exit_code=10**400)), RAY, JOBS),
    Row("F26", "a job of no status", body(job(status="DANCING")), RAY, JOBS),
    Row("C13", "a job whose metadata are a list", body(job(metadata=["x"])), RAY, JOBS),
    Row("C13", "a job whose exit code is text", body(job(driver_exit_code="0")), RAY, JOBS),
    Row("C13", "a log that is a number", body(b'{"logs": 1}'), RAY, "/api/jobs/study-x-1/logs"),
    Row("B10", "a log that drips", drip(OK + b"\r\n", b" "), LIMIT, "/api/jobs/study-x-1/logs"),
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

    over.clear()
    threading.Thread(target=listen, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        over.set()
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def status(row: Row, folder: Path) -> None:
    """One line, exit code 4, soon."""
    began = time.monotonic()
    with server(row) as url:
        code, _, printed = run(folder, "status", "--address", url, "--without-authentication")
    assert (code, len(printed.splitlines())) == (4, 1), printed
    assert row.says in printed, printed
    assert printed.strip().isprintable()
    assert time.monotonic() - began < 3


def foreign_id(identity: str | None, folder: Path) -> None:
    """The job is no study, and no request has its id."""
    with server(Row("", "", body(job(submission_id=identity)), "", JOBS)) as url:
        code, _, printed = run(folder, "stop", "x", "--address", url, "--without-authentication")
    assert (code, "has no study" in printed) == (2, True)


def log_with_escapes(folder: Path) -> None:
    """They are shown, and colours are not."""
    log = json.dumps({"logs": "one\x1b[36m two\x1b[0m\n\x1b]0;owned\x07\x9b\u202e±\tthree\n"}).encode()
    with server(Row("", "", body(log), "", "/api/jobs/study-x-1/logs")) as url:
        code, printed, _ = run(folder, "logs", "x", "--address", url, "--without-authentication")
    assert (code, printed) == (0, "one two\n\\x1b]0;owned\\x07\\x9b\\u202e±\tthree\n")


IDS = ("study-x-1/stop?", "study-x-1?a", "study-x-١", "../x", "study-x-1\n", None)


FAULTS = (
    *(Fault(row.kind, row.what, "study.submit", SENTENCE, partial(status, row)) for row in ROWS),
    *(
        Fault("C15", f"a job with the id {identity!r}", "study.submit", "it is no study", partial(foreign_id, identity))
        for identity in IDS
    ),
    Fault("D20", "a log with control characters", "study.submit", "they are shown as escapes", log_with_escapes),
)  # fmt: skip
