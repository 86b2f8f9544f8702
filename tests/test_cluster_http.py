"""Hostile servers and what lies between: proxies, gateways, certificates."""

import contextlib
import http.server
import json
import ssl
import subprocess
import threading
import time

import pytest

from study.cluster import http as requests
from study.submit import main
from tests.faults.cluster_rows import JOBS, ROWS, Row, body, job, server


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    """An environment without a token, proxies and certificates, and short limits."""
    for name in ("http", "https", "all", "no"):
        for form in (f"{name}_proxy", f"{name.upper()}_PROXY"):
            monkeypatch.delenv(form, raising=False)
    for name in ("RAY_AUTH_TOKEN_PATH", "RAY_JOB_HEADERS", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "right")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(requests, "PATIENCE_S", 0.5)
    monkeypatch.setattr(requests, "MOST_BYTES", 2**20)


def run(*words):
    """The exit code of a command, however it ends."""
    try:
        return main(list(words))
    except SystemExit as ended:
        return ended.code


@pytest.mark.parametrize("row", ROWS, ids=[row.what for row in ROWS])
def test_whatever_a_server_does_is_one_sentence(row, capsys):
    began = time.monotonic()
    with server(row) as url:
        code = run("status", "--address", url, "--without-authentication")
    printed = capsys.readouterr().err
    assert (code, len(printed.splitlines())) == (4, 1), printed
    assert row.says in printed
    assert printed.strip().isprintable()
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("identity", ["study-x-1/stop?", "study-x-1?a", "study-x-١", "../x", "study-x-1\n", None])
def test_a_job_with_an_id_that_is_none_of_ours_is_no_study(identity, capsys):
    with server(Row("", body(job(submission_id=identity)), "", JOBS)) as url:
        assert run("stop", "x", "--address", url, "--without-authentication") == 2
    assert "has no study" in capsys.readouterr().err


def test_what_a_study_printed_is_shown_without_colours_and_control_characters(capsys):
    log = json.dumps({"logs": "one\x1b[36m two\x1b[0m\n\x1b]0;owned\x07\x9b\u202e±\tthree\n"}).encode()
    with server(Row("", body(log), "", "/api/jobs/study-x-1/logs")) as url:
        assert run("logs", "x", "--address", url, "--without-authentication") == 0
    assert capsys.readouterr().out == "one two\n\\x1b]0;owned\\x07\\x9b\\u202e±\tthree\n"


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
        content = b"[]" if self.path.endswith(JOBS) else b'{"ray_version": "2.60.0"}'
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


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_a_proxy_over_http_is_named_before_the_token_goes_through_it(name, monkeypatch, capsys):
    with dashboard() as (proxy, seen):
        monkeypatch.setenv(name, proxy.replace("//", "//me:hidden@"))
        assert run("status", "--address", "http://cluster.invalid:8265") == 0
    said = capsys.readouterr().err
    assert proxy.removeprefix("http://") in said
    assert "hidden" not in said
    assert {path for path, _ in seen} == {f"http://cluster.invalid:8265{path}" for path in ("/api/version", JOBS)}


def test_no_proxy_is_honoured_and_a_kind_that_is_not_known_is_refused(monkeypatch, capsys):
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:9")
    assert run("status", "--address", "http://cluster.invalid:8265") == 4
    assert "socks5://...; expected" in capsys.readouterr().err
    monkeypatch.setenv("no_proxy", ".invalid")
    assert run("status", "--address", "http://cluster.invalid:8265") == 4
    assert "proxy" not in capsys.readouterr().err


def test_headers_for_a_gateway_are_sent_and_leave_room_for_the_token(monkeypatch, capsys):
    with dashboard(gateway="Basic me") as (url, seen):
        assert run("status", "--address", url) == 4
        assert "302" in capsys.readouterr().err
        monkeypatch.setenv("RAY_JOB_HEADERS", '{"Authorization": "Basic me"}')
        assert run("status", "--address", url) == 0
        assert "authorization" not in seen[1][1]  # whether everybody is let in is judged without any
    assert capsys.readouterr().out.count("has no study") == 1


@pytest.mark.parametrize("text", ["{", "[]", "1", '{"A": 1}', '{"A": "secret\\nB: c"}', '{"A b": "c"}', "[" * 100_000])
def test_headers_that_are_none_are_one_sentence_without_them(text, monkeypatch, capsys):
    monkeypatch.setenv("RAY_JOB_HEADERS", text)
    assert run("status", "--address", "http://127.0.0.1:9") == 4
    printed = capsys.readouterr().err
    assert "RAY_JOB_HEADERS has no headers; expected" in printed
    assert (len(printed.splitlines()), "secret" in printed) == (1, False)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A key and a certificate for loopback that it signed itself."""
    path = tmp_path_factory.mktemp("ca") / "both.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=here -addext subjectAltName=IP:127.0.0.1"
    try:
        subprocess.run([*command.split(), "-keyout", path, "-out", f"{path}.crt"], check=True, capture_output=True)
    except OSError:
        pytest.skip("there is no openssl")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{path}.crt", path)
    return f"{path}.crt", context


def test_a_private_authority_is_trusted_if_it_is_given(certificate, monkeypatch, capsys):
    path, context = certificate
    with dashboard(context) as (url, _):
        assert run("status", "--address", url) == 4
        assert "expected --ca FILE" in capsys.readouterr().err
        assert run("status", "--address", url, "--ca", path) == 0
        for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
            with monkeypatch.context() as patch:
                patch.setenv(name, path)
                assert run("status", "--address", url) == 0
        capsys.readouterr()
        assert run("status", "--address", url.replace("https", "http")) == 4
        assert run("status", "--address", "https://127.0.0.1:9", "--ca", "/dev/null") == 2
        assert "--ca is /dev/null: it has no certificate in PEM; expected" in capsys.readouterr().err


def test_https_where_a_server_has_none_is_one_sentence(capsys):
    with dashboard() as (url, _):
        assert run("status", "--address", url.replace("http", "https")) == 4
    assert "does not answer in https; expected the dashboard" in capsys.readouterr().err
