"""Faults of the way to a cluster: what servers, proxies and archives do, and what a command must do then."""

import contextlib
import http.server
import io
import json
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from moe.schema import decode
from study.cluster import fetch
from study.cluster import http as requests
from study.cluster.client import JobList
from study.folder import Folder, FolderError
from study.machine import ClusterError
from study.study import Record, Run
from study.submit import main
from tests.faults.decoder_rows import decodes
from tests.faults.table import Fault, SkippedError
from tests.study_helpers import STARTED, a_record, a_study

VERSION = b'{"ray_version": "2.60.0"}'
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
Send = Callable[[bytes], object]
PROXIES = [form for name in ("http", "https", "all", "no") for form in (f"{name}_proxy", f"{name.upper()}_PROXY")]
AWAY = (*PROXIES, "RAY_AUTH_TOKEN_PATH", "RAY_JOB_HEADERS", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


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

    threading.Thread(target=listen, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
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


def run(folder: Path, *words: str, **environment: str) -> tuple[int, str, str]:
    """The exit code of a command, however it ends, and what it printed; with short limits and a token."""
    kept = {name: value for name, value in os.environ.items() if name not in AWAY}
    ours = {**kept, "RAY_AUTH_TOKEN": "right", "HOME": str(folder), **environment}
    out, err = io.StringIO(), io.StringIO()
    limits = mock.patch.multiple(requests, PATIENCE_S=0.5, MOST_BYTES=2**20)
    shown = contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)
    with limits, mock.patch.dict(os.environ, ours, clear=True), shown[0], shown[1]:
        try:
            code = main(list(words))
        except SystemExit as ended:
            code = int(ended.code or 0)
    return code, out.getvalue(), err.getvalue()


class Dashboard(http.server.BaseHTTPRequestHandler):
    """A cluster with a token, perhaps behind a gateway with another header."""

    gateway = ""
    seen: list[tuple[str, dict[str, str]]] = []  # noqa: RUF012

    def do_GET(self):
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.seen.append((self.path, headers))
        given = headers.get("x-ray-authorization" if self.gateway else "authorization")
        passed = not self.gateway or headers.get("authorization") == self.gateway
        code = 302 if not passed else 401 if not given else 200 if given == "Bearer right" else 403
        content = b"[]" if self.path.endswith(JOBS) else VERSION
        self.send_response(code)
        if code == 302:
            self.send_header("Location", "http://127.0.0.1:9/login")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def dashboard(context=None, **changes):
    """A server with this dashboard; its address, and the requests that it got."""
    handler = type("Changed", (Dashboard,), {"seen": [], **changes})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        if context:
            served.socket = context.wrap_socket(served.socket, server_side=True)
        thread = threading.Thread(target=served.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http{'s' if context else ''}://127.0.0.1:{served.server_port}", handler.seen
        finally:
            served.shutdown()
            thread.join()


def proxy_and_this_machine(host: str, folder: Path) -> None:
    """Nothing goes through the proxy."""
    with dashboard() as (proxy, through), dashboard() as (url, seen):
        proxies = {name: proxy for name in PROXIES if not name.lower().startswith("no")}
        assert run(folder, "status", "--address", url.replace("127.0.0.1", host), **proxies)[0] == 0
    assert seen
    assert not through


def proxy_over_http(name: str, folder: Path) -> None:
    """A line names the proxy, without its password, and the requests go through it."""
    with dashboard() as (proxy, seen):
        with_password = {name: proxy.replace("//", "//me:hidden@")}
        code, _, printed = run(folder, "status", "--address", "http://cluster.invalid:8265", **with_password)
    assert code == 0, printed
    assert proxy.removeprefix("http://") in printed
    assert "hidden" not in printed
    assert {path for path, _ in seen} == {f"http://cluster.invalid:8265{path}" for path in ("/api/version", JOBS)}


def proxy_of_another_kind(folder: Path) -> None:
    """A kind that is not known is refused; a host of no_proxy needs none."""
    words = ("status", "--address", "http://cluster.invalid:8265")
    code, _, printed = run(folder, *words, http_proxy="socks5://127.0.0.1:9")
    assert (code, "socks5://...; expected" in printed) == (4, True)
    code, _, printed = run(folder, *words, http_proxy="socks5://127.0.0.1:9", no_proxy=".invalid")
    assert (code, "proxy" in printed) == (4, False)


def gateway(folder: Path) -> None:
    """Its header is sent beside the token, but not with the request by which it is judged who is let in."""
    with dashboard(gateway="Basic me") as (url, seen):
        code, _, printed = run(folder, "status", "--address", url)
        assert (code, "302" in printed) == (4, True)
        seen.clear()
        headers = '{"Authorization": "Basic me"}'
        code, printed, _ = run(folder, "status", "--address", url, RAY_JOB_HEADERS=headers)
    assert (code, "has no study" in printed) == (0, True)
    assert "authorization" not in seen[0][1]


def headers_that_are_none(text: str, folder: Path) -> None:
    """One sentence, which does not show them."""
    code, _, printed = run(folder, "status", "--address", "http://127.0.0.1:9", RAY_JOB_HEADERS=text)
    assert (code, len(printed.splitlines()), "secret" in printed) == (4, 1, False)
    assert "RAY_JOB_HEADERS has no headers; expected" in printed


def private_authority(folder: Path) -> None:
    """What is missing is named; the option and both variables that are in use help, each alone."""
    key, certificate = folder / "key", str(folder / "certificate")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=here -addext subjectAltName=IP:127.0.0.1"
    try:
        subprocess.run([*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    except OSError:
        raise SkippedError("there is no openssl") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with dashboard(context) as (url, _):
        code, _, printed = run(folder, "status", "--address", url)
        assert (code, "expected --ca FILE" in printed) == (4, True)
        assert run(folder, "status", "--address", url, "--ca", certificate)[0] == 0
        for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
            assert run(folder, "status", "--address", url, **{name: certificate})[0] == 0
        assert run(folder, "status", "--address", url.replace("https", "http"))[0] == 4
    code, _, printed = run(folder, "status", "--address", "https://127.0.0.1:9", "--ca", "/dev/null")
    assert (code, "--ca is /dev/null: it has no certificate in PEM; expected" in printed) == (2, True)


def https_where_there_is_none(folder: Path) -> None:
    """The port that is expected is named."""
    with dashboard() as (url, _):
        code, _, printed = run(folder, "status", "--address", url.replace("http", "https"))
    assert (code, "does not answer in https; expected the dashboard" in printed) == (4, True)


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


def secret_variable(given: str, folder: Path) -> None:
    """It is refused by its name, and its value is not shown."""
    code, _, printed = run(folder, "--address", "http://head:8265", "--env", f"{given}=hidden@", "--")
    assert (code, len(printed.splitlines()), "hidden" in printed) == (2, 1, False)
    assert f"--env is {given.partition('=')[0]}=..., which looks like a secret" in printed


def fetched_record(content: bytes, folder: Path) -> None:
    """The record that was here stays, and so does everything else."""
    here, sent = Folder(folder / "here" / "x"), Folder(folder / "sent" / "x")
    for each in (here, sent):
        each.trials.mkdir(parents=True)
        each.write_study(a_study(name="x"), Run(started=STARTED, command="", commit=None, versions={}, store=""))
        each.write_record(a_record(1))
    before = {path: path.read_bytes() for path in here.path.rglob("*.json")}
    (sent.trials / "0001.json").write_bytes(content)
    (sent.path / "summary.md").write_text("new")
    with contextlib.suppress(ClusterError, FolderError):
        fetch.save(fetch.pack(sent.path), here.path.parent, "x")
        raise AssertionError("it was saved")
    assert {path: path.read_bytes() for path in here.path.rglob("*.json")} == before
    assert not (here.path / "summary.md").exists()


def hostile_job_list(content: bytes, _: Path) -> object:
    """Decode the answer to a request for all jobs."""
    return decode(JobList, b'{"jobs": %b}' % content)


def as_bytes(record: Record) -> bytes:
    """A record as its file has it."""
    return json.dumps(record.as_json()).encode()


#: what may stand in a record's file on the cluster, that is not the finished trial that was fetched before
RECORDS = {
    "is cut": b'{"schema_version": 2, "tri',
    "has a number for all": b'{"trial": 1}',
    "is empty": b"",
    "has another gain": as_bytes(a_record(1, 0.02)),
    "is running": as_bytes(a_record(1, state="running")),
    "failed": as_bytes(a_record(1, state="failed")),
    "is another trial's": as_bytes(a_record(2)),
    "has a seed of another study": as_bytes(a_record(1, seed=9)),
}
SENTENCE = "one sentence and exit code 4, within a limit in time and bytes"
HEADERS = ("{", "[]", "1", '{"A": 1}', '{"A": "secret\\nB: c"}', '{"A b": "c"}', "[" * 100_000)
IDS = ("study-x-1/stop?", "study-x-1?a", "study-x-١", "../x", "study-x-1\n", None)
SECRETS = ("AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY", "hf_token", "PGPASSWORD", "MOE_STORE=s3://me:x")
FAULTS = (
    *(Fault(row.kind, row.what, "study.submit", SENTENCE, partial(status, row)) for row in ROWS),
    *(
        Fault("D16", f"a proxy is set, and the address is {host}", "study.submit", "it gets nothing",
              partial(proxy_and_this_machine, host))
        for host in ("127.0.0.1", "localhost", "LOCALHOST", "127.1", "2130706433")
    ),
    *(
        Fault("D16", f"{name} is set, and the address is another machine over http", "study.submit",
              "a line says who can read the token", partial(proxy_over_http, name))
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy")
    ),
    Fault("D16", "the proxy is one for SOCKS", "study.submit", SENTENCE, proxy_of_another_kind),
    Fault("D16", "a gateway wants a header", "study.submit", "RAY_JOB_HEADERS is sent", gateway),
    *(
        Fault("D16", f"RAY_JOB_HEADERS is {text[:20]}", "study.submit", SENTENCE, partial(headers_that_are_none, text))
        for text in HEADERS
    ),
    Fault("D16", "a certificate of a private authority", "study.submit", "--ca is named, and helps", private_authority),
    Fault("F26", "https where a server has none", "study.submit", SENTENCE, https_where_there_is_none),
    *(
        Fault("C15", f"a job with the id {identity!r}", "study.submit", "it is no study", partial(foreign_id, identity))
        for identity in IDS
    ),
    Fault("D20", "a log with control characters", "study.submit", "they are shown as escapes", log_with_escapes),
    Fault("C13", "hostile bytes for a job list", "study.submit", "a value or one sentence",
          partial(decodes, hostile_job_list, (ValueError,))),
    *(
        Fault("A4", f"a record on the cluster {what}", "study.submit fetch", "nothing here changes",
              partial(fetched_record, content))
        for what, content in RECORDS.items()
    ),
    *(
        Fault("D21", f"--env {given}", "study.submit", "it is refused, and not shown", partial(secret_variable, given))
        for given in SECRETS
    ),
)  # fmt: skip
