"""`python -m study.submit`: quick tests of each part, then a real cluster of two nodes on this machine."""

import asyncio
import base64
import contextlib
import hashlib
import http.server
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from study.machine import ClusterError
from study.options import parse
from study.records import Folder, FolderError
from study.submit import checks, fetching, jobs, node, package, sending
from study.submit.__main__ import main
from study.submit.contact import meet
from study.submit.following import Reader, follow
from study.submit.options import CARRIED, absolute, carried, read, words
from study.submit.wire import answer, heard
from tests.benchmarks.cluster import Cluster, Person, until

URL = "http://head:8265"
ROOT = Path(__file__).parent.parent


# the command line

WRONG = [
    ("", "--address"),
    ("--address head:8265", "--address is 'head:8265'; expected the URL of a dashboard"),
    ("--address auto", "--address is 'auto'; expected the URL"),
    ("--address http://me:secret@head:8265", "--address: has credentials in it; expected a URL without"),
    ("--address http://head:99999999", "expected the URL"),
    ("--on slurm --address URL", "--on: invalid choice: 'slurm' (choose from"),
    ("look --address URL", "the action is 'look'; expected submit, status, logs, stop, fetch, resume"),
    ("status ../x --address URL", "NAME is '../x'; expected the name of a study"),
    ("status --address URL -- --trials 3", "status is followed by --"),
    ("--address URL --env AWS_SECRET_ACCESS_KEY=x", "--env is AWS_SECRET_ACCESS_KEY=..., which looks like a secret"),
    ("--address URL --env 3", "--env is '3'; expected NAME=VALUE"),
    ("--address URL -- --trials 0", "--trials is 0; expected a whole number from 1"),
    ("--address URL -- --space nowhere.yaml", "--space 'nowhere.yaml' is neither a preset"),
    ("--address URL -- --address auto", "--address is auto after --; expected it before"),
    ("--address URL -- --resume", "--resume stands after --; expected python -m study.submit resume"),
    ("--address URL -- --dry-run", "--dry-run stands after --"),
    ("--address URL -- --results s3://bucket/r", "--results is s3:/bucket/r; expected a folder that all nodes see"),
    ("resume one --address URL -- --name two", "--name is two after --; expected one"),
]


@pytest.mark.parametrize(("line", "part"), WRONG)
def test_wrong_usage_is_one_sentence_and_exit_code_2(line, part, capsys, monkeypatch):
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    with pytest.raises(SystemExit) as ended:
        main(line.replace("URL", URL).split())
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert part in said
    assert len(said.splitlines()) == 1
    assert "secret@" not in said


def test_wrong_usage_is_refused_in_two_seconds_without_torch_or_ray(tmp_path):
    for name in ("torch", "ray"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} was imported')")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    for line in ("--on slurm --address URL -- --trials 1", "--address URL -- --trials 0", "fetch --address URL --"):
        began = time.monotonic()
        command = [sys.executable, "-m", "study.submit", *line.replace("URL", URL).split()]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
        assert time.monotonic() - began < 2


def test_an_action_reads_its_own_options(monkeypatch):
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", URL)
    asked = read(["--env", "MOE_CACHE=/data", "--", "--trials", "7", "--name", "x"])
    assert (asked.action, asked.on, asked.address, asked.name) == ("submit", "ray", URL, "x")
    assert asked.env == {"MOE_CACHE": "/data"}
    assert asked.run is not None
    assert asked.run.trials == 7
    asked = read(["fetch", "--address", f"{URL}/", "x", "--results", "here"])
    assert (asked.action, asked.address, asked.name, asked.results) == ("fetch", URL, "x", Path("here"))
    assert asked.command("stop", "x") == f"python -m study.submit stop --address {URL} x"
    assert read(["resume", "x", "--", "--hours", "8"]).name == "x"
    assert read(["stop", "--without-authentication"]).command("logs", "y").endswith("--without-authentication y")


def test_options_of_a_study_come_back_from_their_words(tmp_path):
    given = (
        "--trials 9 --name x --results /r --dataset shapes --space full --sampler gp --seed 0 --hours 2.5 --no-store "
        "--gpus-per-trial 0 --cpus-per-trial 2 --concurrency 3 --objective gain --protocol notebook --resume"
    )
    run = parse(given.split())
    assert parse(words(run)) == run
    run = parse(["--data", "/d", "--store", "s3://bucket/stages", "--address", "auto"])
    assert parse(words(run)) == run


def test_paths_are_made_absolute_and_a_resume_takes_over_what_is_not_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = "--trials 5 --results r --data d --store s --cpus-per-trial 2 --seed 4"
    first = absolute(parse(given.split()))
    assert (first.results, first.data, first.store) == (tmp_path / "r", tmp_path / "d", str(tmp_path / "s"))
    later = carried(parse([]), first)
    assert (later.results, later.store, later.cpus_per_trial) == (first.results, first.store, 2)
    assert (later.trials, later.seed, later.data) == (None, None, None)  # these stand in the study's folder
    later = carried(parse(["--cpus-per-trial", "3", "--no-store", "--results", "q"]), first)
    assert (later.cpus_per_trial, later.store, later.no_store, later.results) == (3, None, True, Path("q"))
    assert set(CARRIED) <= set(vars(first))


# the package


@pytest.fixture
def checkout(tmp_path):
    """A git checkout with what must not leave it."""
    contents = {
        "study/__init__.py": b"", "moe/data/cache.py": b"x = 1", "README.md": b"read me", ".env": b"TOKEN=1",
        "deploy/.env.local": b"TOKEN=2", "certificate.pem": b"-----", "study/server.key": b"-----", "id_rsa": b"-----",
        "data/images.bin": b"0", "results/x/study.json": b"{}", "moe/weights.pt": b"0", "w.safetensors": b"0",
        "venv/lib.py": b"", "big.bin": b"0" * (package.LARGEST_FILE + 1), "ignored.txt": b"",
        ".gitignore": b"ignored.txt\n",
    }  # fmt: skip
    root = tmp_path / "checkout"
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (root / "link.py").symlink_to("/etc/hostname")
    for command in ("init -q .", "add -A"):
        subprocess.run(["git", *command.split()], cwd=root, check=True)
    (root / "moe" / "new.py").write_text("untracked = True")
    return root


def test_a_package_holds_the_tracked_files_without_secrets_data_results_and_weights(checkout):
    found = package.collect(checkout)
    assert found.files == (".gitignore", "README.md", "moe/data/cache.py", "study/__init__.py")
    assert found.bytes == len(b"ignored.txt\n" + b"read me" + b"x = 1")
    assert (
        str(found) == "4 files, 0.0 MiB, without big.bin of over 5 MiB, and without moe/new.py: git does not track them"
    )
    extra = checkout.parent / "space.yaml"
    extra.write_text("epochs: 1")
    with package.copied(found, extra) as folder:
        copied = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        assert copied == {*found.files, "submitted/space.yaml"}
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()


def test_outside_a_checkout_a_package_is_the_installed_modules(checkout):
    shutil.rmtree(checkout / ".git")
    assert package.collect(checkout).files == ("moe/data/cache.py", "moe/new.py", "study/__init__.py")


def test_this_project_fits_into_a_package():
    found = package.collect()
    assert "study/run.py" in found.files
    assert checks.judge_package(found).ok
    verdict = checks.judge_package(replace(found, bytes=51 * 2**20))
    assert not verdict.ok
    assert verdict.sentence.endswith("51.0 MiB; expected at most 50 MiB") or "expected at most 50 MiB" in str(verdict)


# the first contact


class Dashboard(http.server.BaseHTTPRequestHandler):
    """Answers as Ray's dashboard does."""

    token: str | None = "right"
    body = json.dumps({"ray_version": "2.60.0"})
    redirect: str | None = None
    heard: list[str | None] = []  # noqa: RUF012

    def do_GET(self):
        given = self.headers.get("Authorization")
        self.heard.append(given)
        wanted = self.token and f"Bearer {self.token}"
        code = 302 if self.redirect else 401 if wanted and not given else 403 if wanted and given != wanted else 200
        self.send_response(code)
        if self.redirect:
            self.send_header("Location", self.redirect)
        self.end_headers()
        self.wfile.write(self.body.encode())

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def dashboard(**changes):
    handler = type("Changed", (Dashboard,), {"heard": [], **changes})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", handler
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def no_token(tmp_path, monkeypatch):
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_cluster_that_lets_everybody_in_is_refused_unless_that_is_wanted(no_token, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "mine")
    with dashboard(token=None) as (url, seen):
        contact = meet(url, without_authentication=False)
        assert not contact.ok
        assert "everybody who reaches it can run code there" in contact.checks[-1].sentence
        assert "--without-authentication" in contact.checks[-1].sentence
        contact = meet(url, without_authentication=True)
        assert (contact.ok, contact.token) == (True, False)
        assert set(seen.heard) == {None}  # a token goes only where one is asked for


def test_a_missing_and_a_wrong_token_are_one_sentence_each(no_token, monkeypatch):
    with dashboard() as (url, _):
        contact = meet(url, without_authentication=False)
        assert str(contact.checks[0]).startswith("failed  authentication")
        assert "wants a token, and there is none in RAY_AUTH_TOKEN, nor in" in contact.checks[0].sentence
        monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong")
        contact = meet(url, without_authentication=False)
        assert contact.checks[0].sentence == f"the token in RAY_AUTH_TOKEN is not the one of {url}"
        monkeypatch.delenv("RAY_AUTH_TOKEN")
        (no_token / ".ray").mkdir()
        (no_token / ".ray" / "auth_token").write_text("right\n")
        contact = meet(url, without_authentication=False)
        assert (contact.ok, contact.token) == (True, True)
        assert [check.name for check in contact.checks] == ["address", "authentication", "Ray"]


@pytest.mark.parametrize(
    ("answers", "part"),
    [
        ({"body": "<html>"}, "does not answer as the dashboard of a Ray cluster"),
        ({"body": "[]"}, "does not answer as the dashboard of a Ray cluster"),
        ({"redirect": "http://127.0.0.1:9/"}, "answers with 302, a redirection to http://127.0.0.1:9/"),
        ({"body": '{"ray_version": "2.9.0"}'}, "2.9.0 there, 2.60.0 here; expected the same minor version"),
    ],
)
def test_what_is_no_dashboard_or_another_ray_is_refused(answers, part, no_token, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "right")
    with dashboard(**answers) as (url, seen):
        contact = meet(url, without_authentication=False)
    assert not contact.ok
    assert part in contact.checks[-1].sentence
    assert len(seen.heard) <= 2


def test_a_cluster_that_is_not_there_is_exit_code_4_and_says_so(capsys):
    assert main(["--address", "http://127.0.0.1:9", "--", "--trials", "3"]) == 4
    said = capsys.readouterr()
    assert said.out.startswith("failed  address         http://127.0.0.1:9 does not answer")
    assert said.err == "python -m study.submit: nothing was submitted: see address above\n"
    assert main(["status", "--address", "http://127.0.0.1:9"]) == 4
    assert "does not answer" in capsys.readouterr().err


def test_without_the_clusters_part_of_ray_it_says_what_to_install(monkeypatch, no_token, capsys):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "right")
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with dashboard() as (url, _):
        assert main(["status", "--address", url]) == 4
    assert capsys.readouterr().err == (
        'python -m study.submit: jobs need ray[default], of which aiohttp is missing here: pip install ".[cluster]"\n'
    )


# what the nodes have

OURS = f"{sys.version_info.major}.{sys.version_info.minor}.0"


def facts(nodes=2, **changes):
    """What a probe answers of a cluster on which all is well."""
    each = {
        "ip": "10.0.0.1", "host": "one", "silent": None, "lacks": None, "python": OURS,
        "data": {"has": "cifar10", "why": "the official batches in /d"},
    }  # fmt: skip
    everything = {
        "nodes": [{**each, "ip": f"10.0.0.{number + 1}"} for number in range(nodes)],
        "places": {"results": {"where": "/r", "wrong": None}, "store": {"where": "/s", "wrong": None}},
        "room": None, "dataset": "auto", "folder": None, "downloadable": False, "taken": [], "studies": [],
    }  # fmt: skip
    return {**everything, **changes}


def verdicts(found, *arguments):
    return {check.name: check for check in checks.judge(found, parse(list(arguments)))}


def test_a_cluster_on_which_all_is_well_passes():
    found = verdicts(facts(), "--name", "x")
    assert list(found) == ["nodes", "Python", "results", "store", "data", "resources", "study"]
    assert all(check.ok for check in found.values())
    assert found["results"].sentence == "/r, the same on all 2 nodes"
    assert verdicts(facts(nodes=1))["results"].sentence == "/r, which can be written"


def without_data(nodes=1, **changes):
    found = facts(nodes=nodes, **changes)
    for entry in found["nodes"]:
        entry["data"] = {"has": None, "why": "CIFAR-10 is not in the cache /c"}
    return found


def changed(number, **entries):
    found = facts()
    found["nodes"][number] |= entries
    return found


@pytest.mark.parametrize(
    ("found", "arguments", "name", "part"),
    [
        (changed(1, silent="did not answer within 45 s"), "", "nodes", "node 10.0.0.2 (one) did not answer"),
        (changed(1, lacks="No module named 'torch'"), "", "nodes", "node 10.0.0.2 (one) cannot run a trial: No module"),
        (changed(1, python="3.9.1"), "", "Python", f"node 10.0.0.2 (one) has 3.9.1; expected {OURS[:-2]}"),
        (
            facts(places={"results": {"where": "/r", "wrong": "node 10.0.0.2 does not see it"}}),
            "", "results", "/r: node 10.0.0.2 does not see it; expected a folder that all 2 nodes share",
        ),
        (
            facts(places={**facts()["places"], "store": {"where": "/s", "wrong": "node 10.0.0.2 does not see it"}}),
            "--store /s", "store", "expected a folder that all 2 nodes share, or a URL",
        ),
        (
            changed(1, data={"has": None, "why": "/d is not a folder"}),
            "", "data", "node 10.0.0.2 (one): /d is not a folder; expected --data with a folder that every node sees",
        ),
        (without_data(folder="/d"), "", "data", "CIFAR-10 is not in the cache"),
        (without_data(nodes=2, downloadable=True), "", "data", "only the head node would download it"),
        (without_data(dataset="cifar10"), "", "data", "cannot be downloaded"),
        (facts(room="no node has 64 CPUs"), "", "resources", "no node has 64 CPUs"),
        (facts(studies=["x"]), "--name x", "study", "x is in /r already; resume it, or choose another --name"),
        (facts(studies=["a", "b"]), "--name x --resume", "study", "x is not in /r; expected a study there: a, b"),
        ({"cluster": "Ray at auto does not answer"}, "", "nodes", "Ray at auto does not answer"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_cluster_is_said_with_the_node_and_the_way_out(found, arguments, name, part):
    failed = [check for check in verdicts(found, *arguments.split()).values() if not check.ok]
    assert [check.name for check in failed] == [name]
    assert part in failed[0].sentence


@pytest.mark.parametrize(
    ("found", "name", "part"),
    [
        (without_data(downloadable=True), "data", "which the study downloads first"),
        (without_data(nodes=2), "data", "shapes, drawn by code: CIFAR-10 is not in the cache /c and cannot be"),
        (
            facts(places={**facts()["places"], "store": {"where": "/s", "wrong": "node 10.0.0.2 does not see it"}}),
            "store", "not the same on every node: less is reused",
        ),
        (facts(places={"results": {"where": "/r", "wrong": None}}), "store", "none, as was asked for"),
    ],
)  # fmt: skip
def test_what_only_costs_time_is_said_and_passes(found, name, part):
    check = verdicts(found)[name]
    assert check.ok
    assert part in check.sentence


def test_a_study_without_a_name_gets_the_next_free_one():
    assert checks.free_name(facts(), "notebook", set()) == "cifar10-notebook-1"
    assert checks.free_name(facts(taken=["cifar10-odd-name-1"]), "odd name", {"cifar10-odd-name-2"}) == (
        "cifar10-odd-name-3"
    )
    assert checks.free_name(without_data(), "full", set()) == "shapes-full-1"
    assert checks.free_name(without_data(downloadable=True), "full", set()) == "cifar10-full-1"


def question(place):
    return node.Question(places={"results": str(place)}, dataset="shapes", folder=None, mark=".probe-1", content=b"42")


def test_nodes_that_share_a_folder_find_each_others_files_and_leave_none(tmp_path):
    asked, place = question(tmp_path / "results"), str(tmp_path / "results")
    assert node.write_mark(place, asked, node.HEAD) is None
    assert node.meet(place, asked, "second") is None
    assert node.read_mark(place, asked, "second") is None
    node.wipe(place, asked)
    assert list(Path(place).iterdir()) == []


def test_a_node_with_a_folder_of_its_own_says_so_and_writes_nothing_into_it(tmp_path, monkeypatch):
    monkeypatch.setattr(node, "LOOK_AGAIN_S", 0)
    asked = question(tmp_path / "heads")
    node.write_mark(str(tmp_path / "heads"), asked, node.HEAD)
    own = tmp_path / "own"
    assert node.meet(str(own), asked, "second") == "does not see what the head node wrote there"
    assert not own.exists()
    assert node.read_mark(str(tmp_path / "heads"), asked, "second") == ""
    (tmp_path / "file").write_text("")
    reason = node.write_mark(str(tmp_path / "file" / "below"), asked, "head")
    assert reason is not None
    assert reason.startswith("cannot write there: ")


def test_a_node_says_which_data_it_has(tmp_path, monkeypatch):
    assert node.data("shapes", None)["has"] == "shapes"
    assert node.data("auto", str(tmp_path))["has"] is None
    assert "holds no CIFAR-10" in node.data("cifar10", str(tmp_path))["why"]
    assert "is not in the cache" in node.data("auto", None)["why"]
    monkeypatch.setenv("CIFAR10_DIR", str(tmp_path))
    assert node.data_folder(None, "auto") == str(tmp_path)
    assert node.data_folder("/elsewhere", "auto") == "/elsewhere"
    assert node.data_folder(None, "shapes") is None


# jobs, with a client that only remembers


class Status:
    def __init__(self, value):
        self.value = value

    def is_terminal(self):
        return self.value in ("SUCCEEDED", "FAILED", "STOPPED")


def details(identity="study-x-1", status="RUNNING", code=None, study="x", given=(), **fields):
    metadata = {"study": study, "options": json.dumps(list(given))} if study else {}
    common = {"message": "", "start_time": 1000, "runtime_env": {}, "metadata": metadata}
    return SimpleNamespace(submission_id=identity, status=Status(status), driver_exit_code=code, **{**common, **fields})


class Client:
    """Stands for Ray's; `script` is what each connection to a log tells, an exception where it breaks."""

    def __init__(self, *known, log="", script=()):
        self.known, self.written, self.script = list(known), log, list(script)
        self.submitted: list[dict] = []
        self.calls: list[str] = []

    def list_jobs(self):
        return self.known

    def get_job_info(self, identity):
        self.calls.append("info")
        found = self.known[-1]
        if isinstance(found, Exception):
            raise found
        return found

    def get_job_logs(self, identity):
        return self.written

    def submit_job(self, **given):
        self.submitted.append(given)

    def stop_job(self, identity):
        self.calls.append("stop")

    def delete_job(self, identity):
        self.calls.append("delete")

    async def tail_job_logs(self, identity):
        for piece in self.script.pop(0) if self.script else ():
            if isinstance(piece, Exception):
                raise piece
            if piece is None:
                await asyncio.sleep(60)
            yield piece


def test_a_study_is_submitted_with_its_stop_signal_and_nothing_of_our_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    client = Client()
    run = parse(["--name", "x", "--results", "/shared/my results", "--address", "auto"])
    taken = {"study-x-1", "study-x-2"}
    identity = jobs.Jobs(client, URL).launch(run, tmp_path, {"MOE_CACHE": "/c"}, "abc+", taken)
    assert identity == "study-x-3"
    (sent,) = client.submitted
    assert sent["entrypoint"] == ("exec python -m study.run --name x --results '/shared/my results' --address auto")
    assert sent["runtime_env"]["env_vars"] == {
        "MOE_CACHE": "/c",
        "RAY_JOB_STOP_SIGNAL": "SIGINT",
        "RAY_JOB_STOP_WAIT_TIME_S": "60",
        "PYTHONUNBUFFERED": "1",
    }
    assert parse(json.loads(sent["metadata"]["options"])) == run
    assert (sent["metadata"]["study"], sent["metadata"]["commit"]) == ("x", "abc+")
    assert "hidden" not in json.dumps({**sent, "runtime_env": str(sent["runtime_env"])})


@pytest.mark.parametrize(
    ("status", "code", "came_to"),
    [("SUCCEEDED", 0, 0), ("FAILED", 3, 3), ("FAILED", 4, 4), ("FAILED", 75, 75), ("STOPPED", None, 75),
     ("FAILED", -9, 75), ("FAILED", None, 4)],
)  # fmt: skip
def test_following_ends_with_the_exit_code_of_the_study(status, code, came_to):
    job = jobs.Jobs(Client(details(status=status, code=code)), URL).look("study-x-1")
    assert (job.over, job.code) == (True, came_to)


def test_studies_are_told_from_other_jobs_and_know_what_they_were_given():
    env = {"env_vars": {"MOE_CACHE": "/c", "RAY_JOB_STOP_SIGNAL": "SIGINT"}}
    client = Client(
        details("study-x-2", given=["--trials", "5"], start_time=3000, runtime_env=env),
        details("raysubmit_1", study=None),
        details("study-y-1", study="y", status="STOPPED", start_time=2000),
    )
    found = jobs.Jobs(client, URL).studies()
    assert [(job.id, job.over) for job in found] == [("study-y-1", True), ("study-x-2", False)]
    assert (found[1].words, found[1].env, found[1].started) == (["--trials", "5"], {"MOE_CACHE": "/c"}, 3.0)


def test_a_question_is_answered_or_says_what_the_job_said_last(tmp_path, capsys):
    answer({"nodes": 2})
    printed = capsys.readouterr().out
    assert heard(f"something{printed}something") == {"nodes": 2}
    assert heard(printed[:-5]) is None
    client = Client(details(status="SUCCEEDED"), log=f"INFO starting{printed}")
    assert jobs.Jobs(client, URL).ask("study.submit.probe", ["--trials", "3"], tmp_path, {}) == {"nodes": 2}
    assert client.submitted[0]["entrypoint"] == """exec python -m study.submit.probe '["--trials", "3"]'"""
    assert client.calls[-2:] == ["stop", "delete"]
    client = Client(details(status="FAILED", code=127), log="Running entrypoint\nsh: 1: python: not found\n")
    with pytest.raises(ClusterError, match="did not answer; its last words: sh: 1: python: not found"):
        jobs.Jobs(client, URL).ask("study.submit.probe", [], tmp_path, {})


def test_a_question_that_stays_open_is_withdrawn(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "ANSWER_S", 0)
    client = Client(details())
    with pytest.raises(ClusterError, match="nothing within 0 s"):
        jobs.Jobs(client, URL).ask("study.submit.probe", [], tmp_path, {})
    assert client.calls[-2:] == ["stop", "delete"]


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr("study.submit.following.RETRY_S", 0)


def followed(client, shown=0):
    printed: list[str] = []
    noted: list[str] = []
    job = follow(jobs.Jobs(client, URL), "study-x-1", Reader(printed.append, shown), noted.append)
    return job, "".join(printed), noted


def test_a_log_is_told_once_though_the_connection_breaks(at_once):
    log = "one\ntwo\nthree\nfour ±\n"
    client = Client(
        details(status="FAILED", code=75),
        log=log,
        script=[["one\n", "tw", ConnectionResetError()], [RuntimeError("closed")], ["one\ntwo\nthr"], ["one\n"]],
    )
    job, printed, noted = followed(client)
    assert printed == log
    assert job.code == 75
    assert noted == ["the connection broke; trying again"]
    assert followed(Client(details(status="STOPPED"), log=log), shown=8)[1] == "three\nfour ±\n"


def test_a_silent_connection_is_made_anew(at_once, monkeypatch):
    monkeypatch.setattr("study.submit.following.SILENCE_S", 0.05)
    client = Client(details(status="SUCCEEDED", code=0), log="one\ntwo\n", script=[["one\n", None], ["one\ntwo\n"]])
    assert followed(client)[1] == "one\ntwo\n"


def test_a_cluster_that_is_lost_or_started_anew_ends_the_following(at_once, monkeypatch):
    with pytest.raises(jobs.ForgottenError, match="404"):
        followed(Client(RuntimeError("Request failed with status code 404: Job study-x-1 does not exist.")))
    monkeypatch.setattr("study.submit.following.LOST_S", 0)
    with pytest.raises(ClusterError, match=r"no answer for 0 minutes: .*refused"):
        followed(Client(OSError("Connection refused")))


# the way back


@pytest.fixture
def there(tmp_path):
    """A study's folder as the cluster has it."""
    folder = tmp_path / "there" / "x"
    contents = {
        "study.json": json.dumps({"runs": [{"started": "then", "command": "study.run"}]}).encode(),
        "trials/0001.json": b"{}", "trials.csv": b"trial\n1\n", "figures/gain.png": bytes(range(256)),
        ".lock": b"", ".tune/state": b"0", "trials/.partial-1": b"{", "weights.pt": b"0",
    }  # fmt: skip
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_a_folder_comes_back_as_it_was_without_scratch_and_weights(there, tmp_path):
    here = Folder(tmp_path / "here" / "x")
    sent = json.loads(json.dumps(sending.pack(there)))
    assert fetching.unpack(sent, here) == 4
    for name in ("study.json", "trials/0001.json", "trials.csv", "figures/gain.png"):
        assert (here.path / name).read_bytes() == (there / name).read_bytes()
    assert {path.name for path in here.path.iterdir()} == {"study.json", "trials", "trials.csv", "figures", ".lock"}
    assert [path.name for path in here.trials.iterdir()] == ["0001.json"]

    (there / "trials.csv").write_text("trial\n1\n2\n")  # it went on meanwhile
    assert fetching.unpack(sending.pack(there), here) == 4
    assert (here.path / "trials.csv").read_text() == "trial\n1\n2\n"


def test_a_fetch_leaves_another_study_and_a_driver_at_work_alone(there, tmp_path):
    here = Folder(tmp_path / "here" / "x")
    sent = sending.pack(there)
    fetching.unpack(sent, here)
    with here.locked(), pytest.raises(FolderError, match="in use by another driver"):
        fetching.unpack(sent, here)
    here.definition.write_text(json.dumps({"runs": [{"started": "now"}]}))
    with pytest.raises(FolderError, match="holds another study; choose another --results"):
        fetching.unpack(sent, here)


def test_what_was_damaged_on_the_way_or_would_leave_the_folder_is_refused(there, tmp_path, monkeypatch):
    here = Folder(tmp_path / "here" / "x")
    sent = sending.pack(there)
    with pytest.raises(ClusterError, match="damaged on the way"):
        fetching.unpack({**sent, "tar": sent["tar"][:-8] + "AAAAAAA="}, here)
    with pytest.raises(ClusterError, match="holds no study there"):
        fetching.unpack(sending.pack(tmp_path), here)
    monkeypatch.setattr(sending, "LARGEST", 10)
    with pytest.raises(ClusterError, match="copy it from there by other means"):
        fetching.unpack(sending.pack(there), here)
    assert not here.path.exists()


@pytest.mark.parametrize("name", ["../study.json", "/tmp/study.json", "trials/../../study.json"])
def test_a_file_that_would_leave_the_folder_is_refused(name, tmp_path):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo(name))
    content = archive.getvalue()
    sent = {"tar": base64.b64encode(content).decode(), "sha256": hashlib.sha256(content).hexdigest()}
    with pytest.raises(ClusterError, match="expected files inside the study's folder"):
        fetching.unpack(sent, Folder(tmp_path / "here" / "x"))
    assert list(tmp_path.iterdir()) == []


# a real cluster: two nodes on this machine, with token authentication


@pytest.fixture(scope="module")
def person(tmp_path_factory):
    with Cluster(1, 1) as cluster:
        yield Person(tmp_path_factory.mktemp("person"), cluster)


def test_a_wrong_token_is_refused_at_once(person):
    code, printed = person.call("status", RAY_AUTH_TOKEN="0" * 64)
    assert code == 4
    assert printed == f"python -m study.submit: the token in RAY_AUTH_TOKEN is not the one of {person.cluster.url}\n"


def test_a_folder_that_the_nodes_do_not_share_and_a_trial_that_fits_nowhere_are_refused(person):
    each_its_own = "/proc/self/cwd/results"  # every node has a working folder of its own
    wrong = ("--results", each_its_own, "--cpus-per-trial", "2")
    code, printed = person.call("--dry-run", "--", *person.study, *wrong)
    assert code == 4, printed
    failed = [line.split(maxsplit=2)[1:] for line in printed.splitlines() if line.startswith("failed")]
    assert [name for name, _ in failed] == ["results", "resources"]
    assert "does not see what the head node wrote there; expected a folder that all 2 nodes share" in failed[0][1]
    assert "no node of the cluster has the 2 CPUs" in failed[1][1]
    assert printed.splitlines()[-1] == ("python -m study.submit: nothing was submitted: see results, resources above")


def test_a_study_survives_a_lost_node_a_stop_and_comes_home(person):
    with person.start("--", *person.study, "--trials", "40") as follower:
        printed = until(follower, "1 of 40 trials done")
        assert "Submitted as study-shapes-four-1-1.\n" in printed
        person.cluster.wait_for_trial(1)
        person.cluster.kill(1)
        printed = until(follower, "failed: ")
        assert "failed: the worker ended without a word: killed, out of memory, or its node was lost" in printed[-1]
        until(follower, "trials done")  # it goes on with the node that is left

        with person.start("logs", "--follow") as watcher:
            until(watcher, "failed: ")
            os.killpg(watcher.pid, signal.SIGINT)
            left = watcher.communicate(timeout=20)[0]
            assert watcher.returncode == 75
        assert "Study shapes-four-1 goes on without you." in left
        assert f"python -m study.submit stop --address {person.cluster.url} shapes-four-1" in left
        code, printed = person.call("--", *person.study, "--name", "shapes-four-1")
        assert (code, "is at work as study-shapes-four-1-1; stop it first" in printed) == (4, True)
        assert "shapes-four-1 is at work; " in person.call("status")[1]

        code, stopped = person.call("stop", "shapes-four-1")
        assert code == 75, stopped
        assert "of 40 trials. Go on with:" in stopped
        assert "Study shapes-four-1 was stopped, exit code 75." in stopped
        follower.communicate(timeout=60)
        assert follower.returncode == 75
    before = person.complete("shapes-four-1")
    assert before

    trials = str(len(before) + 1)
    code, printed = person.call("resume", "--", "--trials", trials)
    assert code == 0, printed
    assert "ok      data            shapes on every node: drawn by code" in printed  # as the study has it
    after = person.complete("shapes-four-1")
    assert len(after) == len(before) + 1
    assert {number: after[number] for number in before} == before
    assert f"{trials} of {trials} trials done" in person.call("status", "shapes-four-1")[1]

    code, printed = person.call("fetch")
    assert code == 0, printed
    here = Folder(person.home / "results" / "shapes-four-1")
    study = here.read_study()
    assert [record.trial for record in here.read_records(study.space)] == sorted(
        record["trial"] for record in person.records("shapes-four-1")
    )
    assert (pd.read_csv(here.path / "trials.csv")["state"] == "complete").sum() == len(after)
    assert not (here.path / ".tune").exists()
