"""`python -m study.submit`: quick tests of each part, then a real cluster of two nodes on this machine."""

import asyncio
import base64
import contextlib
import errno
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

from study import run as run_module
from study.cluster import actions, checks, fetching, jobs, node, package, probe, sending, telling
from study.cluster.__main__ import main
from study.cluster.contact import meet
from study.cluster.following import Reader, follow
from study.cluster.options import CARRIED, absolute, carried, read, words
from study.cluster.wire import answer, heard
from study.folder import Folder, FolderError
from study.machine import ClusterError
from study.options import parse
from study.search import stopping
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
    ("status ../x --address URL", "NAME is '../x'; expected 1 to 80 letters"),
    ("status --address URL -- --trials 3", "status is followed by --"),
    ("--address URL --env AWS_SECRET_ACCESS_KEY=x", "--env is AWS_SECRET_ACCESS_KEY=..., which looks like a secret"),
    ("--address URL --env 3", "--env is '3'; expected NAME=VALUE"),
    ("--address URL --env DB=pg://u:secret@h/d", "--env is DB=..., which looks like a secret"),
    ("--address URL --env RAY_JOB_STOP_SIGNAL=", "--env is RAY_JOB_STOP_SIGNAL=..., which is set for every job"),
    ("--address URL stop x", "stop stands after options; the action comes first"),
    ("--address URL --trials 3", "--trials stands before --; options of study.run follow it: -- --trials 3"),
    ("status x y --address URL", "unrecognized arguments: y"),
    ("--address http://h/$(x);y", "expected the URL of a dashboard"),
    ("--address http://h/'x'", "expected the URL of a dashboard"),
    ("--address URL -- --data s3://bucket/d", "--data is s3:/bucket/d; expected a folder that all nodes see"),
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
    asked = read(["--env", "MOE_CACHE=/data", "--env", "MONKEY=1", "--", "--trials", "7", "--name", "x"])
    assert (asked.action, asked.on, asked.address, asked.name) == ("submit", "ray", URL, "x")
    assert asked.env == {"MOE_CACHE": "/data", "MONKEY": "1"}
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
    later = carried(parse([]), first, placed=False)
    assert (later.results, later.store, later.cpus_per_trial) == (first.results, first.store, 2)
    assert (later.trials, later.seed, later.data) == (None, None, None)  # these stand in the study's folder
    asked = read(["resume", "--address", URL, "--", "--cpus-per-trial", "3", "--no-store", "--results", "results"])
    later = carried(asked.run, first, asked.placed)
    assert (later.cpus_per_trial, later.store, later.no_store, later.results) == (3, None, True, Path("results"))
    assert not read(["resume", "--address", URL, "--", "--hours", "1"]).placed
    assert set(CARRIED) <= set(vars(first))


# the package


@pytest.fixture
def checkout(tmp_path):
    """A git checkout with what must not leave it."""
    contents = {
        "study/__init__.py": b"", "moe/data/cache.py": b"x = 1", "pyproject.toml": b"[project]", "README.md": b"read",
        "deploy/production.yaml": b"password: 1", ".rayignore": b"*.py", "study/.rayignore": b"*.py", "notes": b"",
        "study/server.key": b"-----", "moe/.env.local": b"T=2", "moe/credentials.json": b"{}", "moe/weights.pt": b"0",
        "moe/w.safetensors": b"0", "moe/big.bin": b"0" * (package.LARGEST_FILE + 1), "moe/ignored.py": b"",
        "ignored.txt": b"", ".gitignore": b"ignored.*\n",
    }  # fmt: skip
    root = tmp_path / "checkout"
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (root / "study" / "link.py").symlink_to("/etc/hostname")
    for command in ("init -q .", "add -A"):
        subprocess.run(["git", *command.split()], cwd=root, check=True)
    (root / "moe" / "new.py").write_text("untracked = True")
    return root


def test_a_package_holds_the_tracked_files_that_a_job_imports_without_secrets_and_weights(checkout):
    found = package.collect(checkout)
    assert found.files == ("moe/data/cache.py", "pyproject.toml", "study/__init__.py")
    assert found.bytes == len(b"x = 1" + b"[project]")
    assert str(found) == (
        "3 files of moe and study, 0.0 MiB, without moe/big.bin of over 5 MiB, without moe/.env.local, "
        "moe/credentials.json, study/server.key, by the name a secret, and without moe/ignored.py, moe/new.py: "
        "git does not track them"
    )
    extra = checkout.parent / "space.yaml"
    extra.write_text("epochs: 1")
    with package.copied(found, extra) as folder:
        copied = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        assert copied == {*found.files, "submitted/space.yaml"}
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()


def test_a_file_whose_name_cannot_be_sent_is_one_sentence(checkout):
    Path(os.fsdecode(os.fsencode(checkout) + b"/moe/\xff.py")).write_text("")
    subprocess.run(["git", "add", "-A"], cwd=checkout, check=True)
    with pytest.raises(ClusterError, match="has a name that cannot be sent; rename it"):
        package.collect(checkout)


def test_outside_a_checkout_a_package_is_the_installed_modules(checkout):
    shutil.rmtree(checkout / ".git")
    assert package.collect(checkout).files == (
        *("moe/data/cache.py", "moe/ignored.py", "moe/new.py", "study/__init__.py"),
    )


def test_this_project_fits_into_a_package():
    found = package.collect()
    assert "study/run.py" in found.files
    assert checks.judge_package(found).ok
    verdict = checks.judge_package(replace(found, bytes=51 * 2**20, untracked=()))
    assert not verdict.ok
    assert verdict.sentence.endswith("51.0 MiB; expected at most 50 MiB")


# the first contact


class Dashboard(http.server.BaseHTTPRequestHandler):
    """Answers as Ray's dashboard does."""

    token: str | None = "right"
    body = json.dumps({"ray_version": "2.60.0"})
    redirect: str | None = None  # of who shows a token
    listed = "[]"
    heard: list[str | None] = []  # noqa: RUF012

    def do_GET(self):
        given = self.headers.get("Authorization")
        self.heard.append(given)
        wanted = self.token and f"Bearer {self.token}"
        code = 401 if wanted and not given else 403 if wanted and given != wanted else 302 if self.redirect else 200
        self.send_response(code)
        if code == 302:
            self.send_header("Location", self.redirect)
        self.end_headers()
        self.wfile.write((self.listed if "/api/jobs" in self.path else self.body).encode())

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def dashboard(**changes):
    handler = type("Changed", (Dashboard,), {"heard": [], **changes})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
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


def test_a_token_goes_to_the_address_that_was_given_and_nowhere_else(no_token, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "right")
    with dashboard(token=None) as (elsewhere, heard_elsewhere), dashboard(redirect=elsewhere) as (url, _):
        contact = meet(url, without_authentication=False)
        assert contact.checks[-1].sentence.startswith(f"{url} answers with 302, a redirection to {elsewhere}")
        client = jobs.connect(url, token=True)
        with pytest.raises(ClusterError, match="302"):
            client.studies()
    assert heard_elsewhere.heard == []


@pytest.mark.parametrize("token", ["first-secret\nsecond", "a secret", "secr…et"])
def test_what_cannot_be_a_token_is_refused_without_being_shown(token, no_token, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    with dashboard() as (url, _):
        (check,) = meet(url, without_authentication=False).checks
        assert check.sentence == "what is in RAY_AUTH_TOKEN is no token: expected letters and digits in one line"
        monkeypatch.delenv("RAY_AUTH_TOKEN")
        (no_token / "token").write_bytes(b"\xff\xfesecret")
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(no_token / "token"))
        (check,) = meet(url, without_authentication=False).checks
    assert "is no token" in check.sentence
    assert "secret" not in check.sentence


def test_a_password_in_netrc_is_not_sent_for_a_token(no_token, monkeypatch, capsys):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "right")
    (no_token / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (no_token / ".netrc").chmod(0o600)
    with dashboard() as (url, seen):
        assert main(["status", "--address", url]) == 0
    assert set(seen.heard) == {None, "Bearer right"}
    assert f"{url} knows of no study" in capsys.readouterr().out


def test_a_cluster_that_changes_its_token_is_one_sentence(no_token, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "right")
    with dashboard() as (url, changing):
        client = jobs.connect(url, token=True)
        changing.token = "other"
        with pytest.raises(ClusterError, match=r"[Aa]uthentication"):
            client.studies()


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
    def first(*given):
        return next(checks.free_names(*given))

    assert first(facts(), "notebook", set()) == "cifar10-notebook-1"
    assert first(facts(taken=["cifar10-odd-name-1"]), "odd name", {"cifar10-odd-name-2"}) == "cifar10-odd-name-3"
    assert first(without_data(), "full", set()) == "shapes-full-1"
    assert first(without_data(downloadable=True), "full", set()) == "cifar10-full-1"


def question(place):
    places = {"results": str(place)}
    return node.Question(places=places, dataset="shapes", folder=None, mark=node.new_mark(), content=b"42")


def test_nodes_that_share_a_folder_find_each_others_files_and_leave_none(tmp_path):
    asked, place = question(tmp_path / "results"), str(tmp_path / "results")
    assert node.write_mark(place, asked, node.HEAD) is None
    assert node.meet(place, asked, "second") is None
    assert node.read_mark(place, asked, "second") is None
    node.wipe(place, asked.mark)
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


def test_a_probe_leaves_nothing_behind_however_it_ends(tmp_path):
    place = tmp_path / "new" / "results"
    asked = question(place)

    def end_early():
        with probe.marks(asked):
            node.write_mark(str(place), asked, node.HEAD)
            sys.exit(1)

    with pytest.raises(SystemExit):
        end_early()
    assert list(tmp_path.iterdir()) == []


def test_a_probe_clears_what_one_left_that_was_killed_an_hour_ago(tmp_path):
    old, young, other = f".probe-{int(time.time()) - 4000}-{'0' * 32}", node.new_mark(), ".probe-x"
    for name in (old, young, other):
        (tmp_path / name).mkdir()
        (tmp_path / name / "head").write_text("42")
    with probe.marks(question(tmp_path)):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {young, other}


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
    metadata = {"study": study, "results": "/r", "options": json.dumps(list(given))} if study else {}
    common = {"message": "", "start_time": 1000, "end_time": 2000, "runtime_env": {}, "metadata": metadata}
    return SimpleNamespace(submission_id=identity, status=Status(status), driver_exit_code=code, **{**common, **fields})


class Client:
    """Stands for Ray's; `script` is what each connection to a log tells, an exception where it breaks.

    `refused` is what happens to the next studies that are submitted.
    """

    def __init__(self, *known, log="", script=(), refused=()):
        self.known, self.written, self.script, self.refused = list(known), log, list(script), list(refused)
        self.submitted: list[dict] = []
        self.calls: list[str] = []

    def list_jobs(self):
        return self.known

    def get_job_info(self, identity):
        self.calls.append("info")
        found = details(identity, "SUCCEEDED") if identity.startswith("question-") else self.known[-1]
        if isinstance(found, BaseException):
            raise found
        return found

    def get_job_logs(self, identity):
        return self.written

    def submit_job(self, **given):
        self.submitted.append(given)
        if given.get("metadata") and self.refused:
            raise self.refused.pop(0)

    def stop_job(self, identity):
        self.calls.append("stop")

    def delete_job(self, identity):
        self.calls.append(f"delete {identity}")

    async def tail_job_logs(self, identity):
        for piece in self.script.pop(0) if self.script else ():
            if isinstance(piece, Exception):
                raise piece
            if piece is None:
                await asyncio.sleep(60)
            if piece == "Ctrl-C":
                os.kill(os.getpid(), signal.SIGINT)
            if isinstance(piece, float):
                await asyncio.sleep(piece)
            else:
                yield piece


def test_a_study_is_submitted_with_its_stop_signal_and_nothing_of_our_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    client = Client()
    run = parse(["--name", "x", "--results", "/shared/my results", "--address", "auto"])
    jobs.Jobs(client, URL).launch("study-x-3", run, tmp_path, {"MOE_CACHE": "/c"}, "abc+", "again x")
    (sent,) = client.submitted
    assert sent["submission_id"] == "study-x-3"
    assert sent["entrypoint"] == ("exec python -m study.run --name x --results '/shared/my results' --address auto")
    assert sent["runtime_env"]["env_vars"] == {
        "MOE_CACHE": "/c",
        "RAY_JOB_STOP_SIGNAL": "SIGINT",
        "RAY_JOB_STOP_WAIT_TIME_S": "60",
        "PYTHONUNBUFFERED": "1",
        "STUDY_RESUME_COMMAND": "again x",
    }
    assert parse(json.loads(sent["metadata"]["options"])) == run
    said = {name: sent["metadata"][name] for name in ("study", "results", "commit")}
    assert said == {"study": "x", "results": "/shared/my results", "commit": "abc+"}
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
    env = {"env_vars": {"MOE_CACHE": "/c", "RAY_JOB_STOP_SIGNAL": "SIGINT", "STUDY_RESUME_COMMAND": "again"}}
    client = Client(
        details("study-x-2", given=["--trials", "5"], start_time=3000, runtime_env=env),
        details("raysubmit_1", study=None),
        details("study-y-1", study="y", status="STOPPED", start_time=2000),
    )
    found = jobs.Jobs(client, URL).studies()
    assert [(job.id, job.over) for job in found] == [("study-y-1", True), ("study-x-2", False)]
    assert (found[1].options, found[1].env, found[1].started) == ('["--trials", "5"]', {"MOE_CACHE": "/c"}, 3.0)


def test_a_question_is_answered_or_says_what_the_job_said_last(tmp_path, capsys):
    answer({"nodes": 2})
    printed = capsys.readouterr().out
    assert heard(f"something{printed}something") == {"nodes": 2}
    assert heard(printed[:-5]) is None
    client = Client(details(status="SUCCEEDED"), log=f"INFO starting{printed}")
    assert jobs.Jobs(client, URL).ask("study.cluster.probe", ["--trials", "3"], tmp_path, {}) == {"nodes": 2}
    assert client.submitted[0]["entrypoint"] == """exec python -m study.submit.probe '["--trials", "3"]'"""
    assert "stop" not in client.calls
    client = Client(log="Running entrypoint\nsh: 1: python: not found\n")
    with pytest.raises(ClusterError, match="did not answer; its last words: sh: 1: python: not found"):
        jobs.Jobs(client, URL).ask("study.cluster.probe", [], tmp_path, {})


def test_a_question_that_stays_open_is_withdrawn(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "ANSWER_S", 0)
    client = Client()
    monkeypatch.setattr(client, "get_job_info", lambda identity: details(identity))
    with pytest.raises(ClusterError, match="nothing within 0 s"):
        jobs.Jobs(client, URL).ask("study.cluster.probe", [], tmp_path, {})
    assert client.calls == ["stop"]
    assert client.submitted[0]["runtime_env"]["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"] == "15"


def test_a_question_is_forgotten_at_a_later_one_and_not_while_somebody_may_wait_for_its_answer(tmp_path, capsys):
    now = time.time() * 1000
    client = Client(
        details("question-old", "FAILED", study=None),
        details("question-new", "SUCCEEDED", study=None, end_time=now),
        details("question-open", study=None, end_time=None),
        details("study-x-1", "SUCCEEDED"),
    )
    answer({})
    client.written = capsys.readouterr().out
    jobs.Jobs(client, URL).ask("study.cluster.probe", [], tmp_path, {})
    assert [call for call in client.calls if "delete" in call] == ["delete question-old"]


# commands, on a cluster that only remembers


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Runs a command against a client; its exit code and what it said."""
    monkeypatch.setattr(package, "collect", lambda: package.Package(tmp_path, (), 0))
    monkeypatch.chdir(tmp_path)

    def called(client, *words):
        monkeypatch.setattr(actions, "_jobs", lambda *_, **__: jobs.Jobs(client, URL))
        action, rest = (
            (words[:1], words[1:]) if words[0] in ("status", "logs", "stop", "fetch", "resume") else ((), words)
        )
        try:
            code = main([*action, "--address", URL, *rest])
        except SystemExit as ended:
            code = ended.code
        said = capsys.readouterr()
        return code, said.out + said.err

    answer(facts())
    called.facts = capsys.readouterr().out
    return called


FOREIGN = (
    {"study": "../../outside", "results": "/r", "options": "[]"},
    {"study": "y", "options": "not JSON"},
    {"study": "y", "results": "relative"},
)


def test_jobs_of_others_and_of_other_versions_hide_no_study_and_lead_nowhere(command, monkeypatch):
    monkeypatch.setenv("MOE_STORE", "nowhere://")  # it is of no matter to looking
    others = [details(f"other-{number}", metadata=metadata) for number, metadata in enumerate(FOREIGN)]
    client = Client(details(given=["--from-another-version"]), *others)
    code, said = command(client, "status")
    assert code == 0
    assert said.startswith("x is at work; no trial done yet; study-x-1 since ")
    assert "3 more that another program or version submitted, and that cannot be read" in said
    code, said = command(client, "fetch", "../../outside")
    assert code == 2


def test_a_resume_of_what_the_cluster_does_not_know_wants_to_be_told_the_folder(command):
    code, said = command(Client(), "resume", "x")
    assert (code, len(said.splitlines())) == (2, 1)
    assert said.endswith("expected its folder there: python -m study.submit resume x ... -- --results DIR\n")
    client = Client(details(status="STOPPED", given=["--from-another-version"]), log=command.facts)
    assert "does not know with what study x was started" in command(client, "resume", "x")[1]
    code, said = command(client, "resume", "x", "--", "--results", "/r")
    assert (code, "x is not in /r" in said) == (4, True)


@pytest.mark.parametrize("refused", [KeyboardInterrupt(), ConnectionResetError("reset"), TimeoutError("too long")])
def test_what_breaks_while_a_study_is_sent_leaves_word_of_it(command, refused):
    client = Client(log=command.facts, refused=[refused])
    code, said = command(client, "--", "--name", "x")
    assert code == (75 if isinstance(refused, KeyboardInterrupt) else 4)
    there = f"python -m study.submit status --address {URL} x"
    assert f"study-x-1 may have been submitted; see: {there}\n" in said


SERVER = """Request failed with status code 500: Traceback (most recent call last):
  File "job_head.py", line 1, in submit_job
    resp = await job_agent_client.submit_job_internal(submit_request)
{}
."""


def test_of_two_who_submit_at_once_each_gets_a_name_of_its_own(command):
    taken = RuntimeError(SERVER.format("ValueError: Job with submission_id study-cifar10-notebook-1-1 already exists."))
    client = Client(log=command.facts, refused=[taken])
    code, said = command(client, "--detach", "--", "--trials", "3")
    assert code == 0, said
    assert "Submitted as study-cifar10-notebook-2-1." in said
    assert f"Stop it:   python -m study.submit stop --address {URL} cifar10-notebook-2\n" in said
    code, said = command(Client(log=command.facts, refused=[taken]), "--", "--name", "x")
    assert (code, "may have" in said) == (4, False)
    assert said.splitlines()[-1].endswith("another command has just submitted study x; nothing was submitted")


def test_of_a_servers_traceback_only_the_error_is_told(command):
    refused = RuntimeError(SERVER.format("ray.exceptions.RpcError: no room"))
    code, said = command(Client(log=command.facts, refused=[refused]), "--", "--name", "x")
    assert (code, said.splitlines()[-1]) == (4, f"python -m study.submit: {URL}: ray.exceptions.RpcError: no room")


def test_a_stop_without_a_name_takes_the_one_study_that_is_at_work(command):
    client = Client(details(), details("study-y-1", "SUCCEEDED", study="y", start_time=3000), log="one\n")
    client.script = [["one\n", "Ctrl-C", 9.0]]
    code, said = command(client, "stop")
    assert code == 75
    assert "Stopping study x: " in said
    assert "Study x is stopping without you.\n" in said
    assert "Stop it" not in said
    code, said = command(Client(details(), details("study-y-1", study="y")), "stop")
    assert (code, "expected one of the studies at work on http://head:8265: x, y" in said) == (2, True)
    assert command(Client(), "stop")[1].endswith(f"at work on {URL}: none\n")


def test_a_study_at_work_comes_before_one_that_was_refused_beside_it(command):
    client = Client(details(), details("study-x-2", "FAILED", code=4, start_time=3000))
    assert command(client, "status", "x")[1].startswith("x is at work;")


def test_an_empty_cluster_says_so_and_how_a_forgotten_study_is_fetched(command):
    code, said = command(Client(), "fetch", "x")
    assert (code, said.count("knows of no study; one that it forgot comes with fetch NAME --from DIR")) == (2, 1)
    assert command(Client(), "logs")[1] == f"python -m study.submit: {URL} knows of no study\n"


BEGUN = "Study x: 3 trials\n  records in /r/x; 3 failed trials would end it\n"
DONE = f"{BEGUN}\nEverything is in /r/x: trials.csv, best.json\n"


@pytest.mark.parametrize(
    ("log", "code", "hints"),
    [
        ("python -m study.run: interrupted; nothing was run\n", 75, 0),
        (BEGUN, 75, 2),
        (f"{DONE}Interrupted with 1 of 3 trials. Go on with: again\n", 75, 2),
        (DONE, 0, 1),
    ],
)
def test_how_a_stopped_study_ended_is_read_from_its_last_words(log, code, hints, capsys):
    job = jobs.Jobs(Client(details(status="STOPPED")), URL).look("study-x-1")
    assert telling.ended(read(["stop", "--address", URL]), job, log) == code
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "Study x was stopped."
    assert len(said) == 1 + hints


def test_a_study_whose_words_cannot_be_written_is_left_alone(monkeypatch, capsys):
    class Full(io.StringIO):
        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

        def fileno(self):
            return spare

    spare = os.open(os.devnull, os.O_WRONLY)
    monkeypatch.setattr("sys.stdout", Full())
    with pytest.raises(SystemExit) as ended:
        follow(jobs.Jobs(Client(script=[["one\n"]]), URL), "study-x-1", Reader(telling.show), print)
    os.close(spare)
    assert ended.value.code == 4
    assert "what the study prints cannot be written: No space left on device" in capsys.readouterr().err


def test_the_study_itself_names_the_command_that_goes_on_with_it(monkeypatch):
    monkeypatch.setenv("STUDY_RESUME_COMMAND", "python -m study.submit resume x")
    assert run_module._resume_command(parse([]), None) == "python -m study.submit resume x"


def test_a_stop_that_breaks_an_import_is_an_interruption_and_nothing_else():
    def import_something():
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            raise RecursionError("maximum recursion depth exceeded") from None

    with pytest.raises(KeyboardInterrupt), stopping.signals(stopping.Stop()):
        import_something()


# following


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr("study.cluster.following.RETRY_S", 0)


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


def test_a_study_that_talks_for_long_is_not_lost_with_its_first_broken_connection(at_once, monkeypatch):
    monkeypatch.setattr("study.cluster.following.LOST_S", 0.2)
    talk = [piece for number in range(4) for piece in (f"{number}\n", 0.1)]
    client = Client(details(status="SUCCEEDED", code=0), log="0\n1\n2\n3\n", script=[[*talk, ConnectionResetError()]])
    job, printed, noted = followed(client)
    assert (job.code, printed, len(noted)) == (0, "0\n1\n2\n3\n", 1)


def test_a_ctrl_c_that_comes_together_with_a_line_is_not_lost(at_once):
    with pytest.raises(KeyboardInterrupt):
        followed(Client(details(status="STOPPED"), script=[["one\n", "Ctrl-C", "two\n", 0.5]]))


def test_ctrl_c_while_the_connection_is_broken_says_when_the_study_was_last_heard_of(command, monkeypatch):
    def broken(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("study.cluster.following.time.sleep", broken)
    code, said = command(Client(details(), script=[[OSError("refused")]]), "logs", "x", "--follow")
    assert code == 75
    assert "Study x was last heard of 0 s ago.\nCome back: " in said


def test_a_silent_connection_is_made_anew(at_once, monkeypatch):
    monkeypatch.setattr("study.cluster.following.SILENCE_S", 0.05)
    client = Client(details(status="SUCCEEDED", code=0), log="one\ntwo\n", script=[["one\n", None], ["one\ntwo\n"]])
    assert followed(client)[1] == "one\ntwo\n"


def test_a_cluster_that_is_lost_or_started_anew_ends_the_following(at_once, monkeypatch):
    with pytest.raises(jobs.ForgottenError, match="404"):
        followed(Client(RuntimeError("Request failed with status code 404: Job study-x-1 does not exist.")))
    monkeypatch.setattr("study.cluster.following.LOST_S", 0)
    with pytest.raises(ClusterError, match=r"no answer for 0 minutes: .*refused"):
        followed(Client(OSError("Connection refused")))


# the way back


@pytest.fixture
def there(tmp_path):
    """A study's folder as the cluster has it."""
    folder = tmp_path / "there" / "x"
    contents = {
        "study.json": json.dumps({"runs": [{"started": "then", "command": "study.run"}]}).encode(),
        "trials/0001.json": b'{"trial": 1}', "trials.csv": b"trial\n1\n", "figures/gain.png": bytes(range(256)),
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


def runs(folder, *started):
    (folder / "study.json").write_text(json.dumps({"runs": [{"started": when} for when in started]}))


def test_a_fetch_replaces_what_is_here_only_where_every_run_of_it_is_known_there(there, tmp_path):
    here = Folder(tmp_path / "here" / "x")
    runs(there, "then")
    fetching.unpack(sending.pack(there), here)
    runs(there, "then", "later")
    fetching.unpack(sending.pack(there), here)
    runs(there, "then")
    (there / "trials.csv").write_text("old")
    with pytest.raises(FolderError, match="has gone on here since; choose another --results"):
        fetching.unpack(sending.pack(there), here)
    assert (here.path / "trials.csv").read_text() == "trial\n1\n"


@pytest.mark.parametrize("damaged", ["{", "[]", '{"runs": 1}', "\x00"])
def test_a_damaged_study_here_or_there_is_one_sentence(there, tmp_path, damaged):
    here = Folder(tmp_path / "here" / "x")
    sent = sending.pack(there)
    fetching.unpack(sent, here)
    here.definition.write_text(damaged)
    with pytest.raises(FolderError, match=r"study.json is damaged; move .* away"):
        fetching.unpack(sent, here)
    (there / "study.json").write_text(damaged)
    with pytest.raises(ClusterError, match="that can be read"):
        fetching.unpack(sending.pack(there), here)


def test_a_damaged_record_there_does_not_replace_a_good_one_here(there, tmp_path):
    here = Folder(tmp_path / "here" / "x")
    fetching.unpack(sending.pack(there), here)
    (there / "trials" / "0001.json").write_text('{"tri')
    with pytest.raises(ClusterError, match=r"trials/0001.json is damaged there"):
        fetching.unpack(sending.pack(there), here)
    assert json.loads((here.trials / "0001.json").read_text()) == {"trial": 1}


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


@pytest.mark.parametrize("name", ["../study.json", "/tmp/study.json", "trials/../../study.json", ".", ".lock"])
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


@pytest.fixture(scope="module")
def follower(person):
    """A study that is on its way there, and the command that follows it."""
    with person.start("--", *person.study, "--trials", "40") as process:
        yield process


def test_a_wrong_token_is_refused_at_once(person, follower):
    code, printed = person.call("status", RAY_AUTH_TOKEN="0" * 64)
    assert code == 4
    assert printed == f"python -m study.submit: the token in RAY_AUTH_TOKEN is not the one of {person.cluster.url}\n"


def test_a_folder_that_the_nodes_do_not_share_and_a_trial_that_fits_nowhere_are_refused(person, follower):
    each_its_own = "/proc/self/cwd/results"  # every node has a working folder of its own
    wrong = ("--results", each_its_own, "--cpus-per-trial", "2")
    code, printed = person.call("--dry-run", "--", *person.study, *wrong)
    assert code == 4, printed
    failed = [line.split(maxsplit=2)[1:] for line in printed.splitlines() if line.startswith("failed")]
    assert [name for name, _ in failed] == ["results", "resources"]
    assert "does not see what the head node wrote there; expected a folder that all 2 nodes share" in failed[0][1]
    assert "--cpus-per-trial is 2; expected at most 1, the CPUs of the largest node" in failed[1][1]
    assert printed.splitlines()[-1] == ("python -m study.submit: nothing was submitted: see results, resources above")


def test_a_study_survives_a_lost_node_a_stop_and_comes_home(person, follower):
    assert "Submitted as study-shapes-four-1-1.\n" in until(follower, "Submitted as")
    code, printed = person.call("--", *person.study, "--name", "shapes-four-1")
    assert (code, "is at work as study-shapes-four-1-1; stop it first" in printed) == (4, True)
    until(follower, "1 of 40 trials done")
    person.cluster.wait_for_trial(1)
    person.cluster.kill(1)
    with person.start("logs", "--follow") as watcher:
        printed = until(follower, "failed: ")
        assert "failed: the worker ended without a word: killed, out of memory, or its node was lost" in printed[-1]
        until(follower, "trials done")  # it goes on with the node that is left

        until(watcher, "failed: ")
        os.killpg(watcher.pid, signal.SIGINT)
        left = watcher.communicate(timeout=20)[0]
        assert watcher.returncode == 75
    assert "Study shapes-four-1 goes on without you." in left
    assert f"python -m study.submit stop --address {person.cluster.url} shapes-four-1" in left

    code, stopped = person.call("stop")
    assert code == 75, stopped
    again = f"python -m study.submit resume --address {person.cluster.url} shapes-four-1"
    assert f"of 40 trials. Go on with: {again}\n" in stopped
    assert "Study shapes-four-1 was stopped." in stopped
    assert f"Go on:     {again}\n" in stopped
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
    assert [record.trial for record in here.read_records(study)] == sorted(
        record["trial"] for record in person.records("shapes-four-1")
    )
    assert (pd.read_csv(here.path / "trials.csv")["state"] == "complete").sum() == len(after)
    assert not (here.path / ".tune").exists()
    assert list(person.results.parent.rglob(".probe-*")) == []
