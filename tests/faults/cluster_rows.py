"""Faults of the way to a cluster: proxies, gateways, certificates, archives, secrets."""

import contextlib
import http.server
import json
import ssl
import subprocess
import threading
from functools import partial
from pathlib import Path

from moe.schema import decode
from study.cluster import fetch
from study.cluster.client import JobList
from study.folder import Folder, FolderError
from study.machine import ClusterError
from study.study import Record, Run
from tests.faults.cluster_scene import JOBS, PROXIES, SENTENCE, VERSION, run
from tests.faults.decoder_rows import decodes
from tests.faults.table import Fault, SkippedError
from tests.study_helpers import STARTED, a_record, a_study


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
    code, _, printed = run(folder, "status", "--address", "https://127.0.0.1:9", REQUESTS_CA_BUNDLE=str(folder / "no"))
    assert (code, f"REQUESTS_CA_BUNDLE is {folder / 'no'}: No such file" in printed) == (4, True), printed


def https_where_there_is_none(folder: Path) -> None:
    """The port that is expected is named."""
    with dashboard() as (url, _):
        code, _, printed = run(folder, "status", "--address", url.replace("http", "https"))
    assert (code, "does not answer in https; expected the dashboard" in printed) == (4, True)


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
        fetch.receive_archive(fetch.pack(sent.path), here.path.parent, "x")
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


HEADERS = ("{", "[]", "1", '{"A": 1}', '{"A": "secret\\nB: c"}', '{"A b": "c"}', "[" * 100_000)


SECRETS = ("AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY", "hf_token", "PGPASSWORD", "MOE_STORE=s3://me:x")
FAULTS = (
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
