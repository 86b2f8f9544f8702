import contextlib
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from study.cluster.client import connect
from study.cluster.options import read
from study.machine import ClusterError
from study.submit import main
from tests.cluster_helpers import details, jobs

ROOT = Path(__file__).parent.parent


class Dashboard(http.server.BaseHTTPRequestHandler):
    """Answers as Ray's dashboard does."""

    token: str | None = "right"
    body = json.dumps({"ray_version": "2.60.0"})
    redirect: str | None = None  # of requests with a token
    listed = "[]"
    received: list[str | None] = []  # noqa: RUF012  # the tokens

    def do_GET(self):
        given = self.headers.get("Authorization")
        self.received.append(given)
        wanted = self.token and f"Bearer {self.token}"
        code = 401 if wanted and not given else 403 if wanted and given != wanted else 302 if self.redirect else 200
        self.send_response(code)
        if code == 302:
            self.send_header("Location", f"{self.redirect}{self.path}")
        self.end_headers()
        self.wfile.write((self.listed if "/api/jobs" in self.path else self.body).encode())

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def dashboard(**changes):
    handler = type("Changed", (Dashboard,), {"received": [], **changes})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", handler
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home folder without a token; what `connect` sets in the environment does not stay."""
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name in ("no_proxy", "RAY_AUTH_MODE"):
        monkeypatch.setenv(name, "disabled")
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def reach(url, *options):
    return connect(read(["status", "--address", url, *options]))


def refused(url, *options):
    with pytest.raises(ClusterError) as error:
        reach(url, *options)
    return str(error.value)


def test_a_cluster_that_accepts_everybody_is_refused_unless_it_is_asked_for(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "mine")
    with dashboard(token=None) as (url, cluster):
        assert "--without-authentication" in refused(url)
        assert reach(url, "--without-authentication").studies() == []
    assert set(cluster.received) == {None}  # the token goes only where one is asked for


def test_the_token_is_found_in_a_variable_a_named_file_or_the_home_folder(home, monkeypatch):
    with dashboard() as (url, _):
        assert ".ray/auth_token" in refused(url)
        (home / ".ray").mkdir()
        (home / ".ray" / "auth_token").write_text("right\n")
        assert reach(url).studies() == []
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "token"))
        assert str(home / "token") in refused(url)
        (home / "token").write_text("wrong")
        assert refused(url) == f"{url} does not accept the token in {home / 'token'}"
        monkeypatch.setenv("RAY_AUTH_TOKEN", "right")
        assert reach(url).studies() == []


@pytest.mark.parametrize("body", ["<html>", "[]", "{}", '{"ray_version": 2}'])
def test_another_service_is_refused(body, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "right")
    with dashboard(body=body) as (url, _):
        assert refused(url).startswith(f"{url} does not answer /api/version as Ray does (")
        assert "8265" in refused(url)


def test_the_token_goes_to_the_address_that_was_given_and_nowhere_else(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "right")
    with dashboard() as (elsewhere, other), dashboard(redirect=elsewhere) as (url, _):
        assert "302" in refused(url)
        assert other.received == []


def test_a_loopback_address_is_not_for_a_proxy(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "right")
    with dashboard() as (proxy, seen), dashboard() as (url, _):
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy)
        assert reach(url).studies() == []
        for host in ("localhost", "127.1", "LOCALHOST", "2130706433"):
            assert reach(url.replace("127.0.0.1", host)).studies() == []
    assert seen.received == []


@pytest.mark.parametrize("token", ["first-secret\nsecond", "a secret", "secr…et"])
def test_what_cannot_be_a_token_is_refused_without_being_shown(token, home, monkeypatch):
    with dashboard() as (url, _):
        monkeypatch.setenv("RAY_AUTH_TOKEN", token)
        assert "RAY_AUTH_TOKEN has no token" in refused(url)
        assert "secr" not in refused(url)
        monkeypatch.delenv("RAY_AUTH_TOKEN")
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "token"))
        for content in (b"\xff\xfesecret", b"secret" * 20_000):
            (home / "token").write_bytes(content)
            assert f"{home / 'token'} has no token" in refused(url)
        assert "secret" not in refused(url)


def test_a_password_in_netrc_is_not_sent_in_place_of_the_token(home, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "right")
    (home / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (home / ".netrc").chmod(0o600)
    with dashboard() as (url, cluster):
        assert main(["status", "--address", url]) == 0
    assert set(cluster.received) == {None, "Bearer right"}


def test_a_cluster_that_changes_its_token_is_one_sentence(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "right")
    with dashboard() as (url, changing):
        client = reach(url)
        changing.token = "other"
        with pytest.raises(ClusterError, match="403") as error:
            client.studies()
    assert len(str(error.value).splitlines()) == 1


def test_a_list_of_jobs_that_is_none_is_one_sentence(monkeypatch):
    with (
        dashboard(token=None, listed='{"jobs": 1}') as (url, _),
        pytest.raises(ClusterError, match=f"^{url} does not answer /api/jobs/ as Ray does"),
    ):
        reach(url, "--without-authentication").studies()


def test_a_cluster_that_does_not_answer_is_exit_code_4(capsys):
    for line in ("--address http://127.0.0.1:9 -- --trials 3", "status --address http://127.0.0.1:9"):
        assert main(line.split()) == 4
        assert "http://127.0.0.1:9 does not answer" in capsys.readouterr().err


def test_a_study_is_submitted_without_ray_and_torch(tmp_path):
    for name in ("ray", "torch", "requests", "aiohttp"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} was imported')")
    command = [sys.executable, "-m", "study.submit", "status", "--address", "http://127.0.0.1:9"]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (4, 1), done.stderr
    assert "127.0.0.1:9 does not answer" in done.stderr


@pytest.mark.parametrize(
    ("status", "code", "study_code"),
    [("SUCCEEDED", 0, 0), ("FAILED", 3, 3), ("FAILED", 4, 4), ("FAILED", 75, 75), ("STOPPED", None, 75),
     ("FAILED", -9, 75), ("FAILED", None, 4)],
)  # fmt: skip
def test_a_job_ends_with_the_exit_code_of_its_study(status, code, study_code):
    job = jobs(details(status=status, code=code)).find("study-x-1")
    assert (job.over, job.code) == (True, study_code)


def test_a_study_is_a_job_that_has_its_options():
    env = {"env_vars": {"MOE_CACHE": "/c", "RAY_JOB_STOP_SIGNAL": "SIGINT", "STUDY_RESUME_COMMAND": "again"}}
    found = jobs(
        details("study-x-2", words=["--trials", "5"], start_time=3000, runtime_env=env),
        details("raysubmit_1", study=None),
        details("study-y-1", study="y", status="STOPPED", start_time=2000),
    ).studies()
    assert [(job.id, job.over) for job in found] == [("study-y-1", True), ("study-x-2", False)]
    assert (found[1].env, found[1].started) == ({"MOE_CACHE": "/c"}, 3.0)
    assert found[1].entrypoint.endswith(" study.run --trials 5")


@pytest.mark.parametrize(
    ("identity", "metadata"),
    [
        ("study-../../outside-1", {"study": "../../outside", "results": "/r"}),
        ("study-y-1", {"study": "y", "results": "relative"}),
        ("study-y-1", {"study": "y"}),
        ("study-y-1/stop?", {"study": "y", "results": "/r"}),
        (None, None),
    ],
)
def test_a_job_of_another_program_is_no_study(identity, metadata):
    assert jobs(details(identity, metadata=metadata)).studies() == []


def test_a_job_has_a_stop_signal_and_nothing_of_our_environment(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    cluster = jobs()
    cluster.submit("study-x-3", ["study.run", "--results", "/my results"], b"", {"MOE_CACHE": "/c"}, {"study": "x"})
    (sent,) = cluster.server.submitted
    assert (sent["submission_id"], sent["metadata"]) == ("study-x-3", {"study": "x"})
    assert sent["entrypoint"] == "exec sh study/cluster/python.sh -m study.run --results '/my results'"
    assert sent["runtime_env"]["env_vars"] == {
        "MOE_CACHE": "/c",
        "RAY_JOB_STOP_SIGNAL": "SIGINT",
        "RAY_JOB_STOP_WAIT_TIME_S": "60",
        "PYTHONUNBUFFERED": "1",
        "MALLOC_ARENA_MAX": "1",
    }
