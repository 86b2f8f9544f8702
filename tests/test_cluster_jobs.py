import shlex
import time

import pytest

from study.cluster import jobs as actions
from study.cluster import package
from study.cluster.client import PYTHON, Job
from study.cluster.jobs import _progress
from study.cluster.options import read
from study.machine import ClusterError
from study.options import parse
from study.submit import main
from tests.cluster_helpers import CTRL_C, URL, Server, details, jobs, status_error

ACTIONS = ("status", "logs", "stop", "fetch", "resume")
TAKEN = """Traceback (most recent call last):
  File "job_head.py", line 1, in submit_job
    resp = await job_agent_client.submit_job_internal(submit_request)
{}
."""


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Runs a command on a cluster with this client; the exit code and what was printed."""
    monkeypatch.setattr(package, "files", lambda _: [])
    monkeypatch.setattr("study.cluster.logs.POLL_S", 0)
    monkeypatch.chdir(tmp_path)

    def call(client, *words):
        cluster = jobs()
        object.__setattr__(cluster, "server", client)
        monkeypatch.setattr("study.cluster.client.connect", lambda *_: cluster)
        action, rest = (words[:1], words[1:]) if words and words[0] in ACTIONS else ((), words)
        try:
            code = main([*action, "--address", URL, *rest])
        except SystemExit as ended:
            code = ended.code
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return call


def options(submitted):
    """The options of study.run in a submitted job."""
    return parse(shlex.split(submitted["entrypoint"])[len(PYTHON) + 1 :])


def test_a_study_is_submitted_under_its_name_with_the_command_that_resumes_it(command):
    client = Server()
    code, printed = command(client, "--detach", "--", "--name", "x", "--results", "/r")
    (sent,) = client.submitted
    assert (code, sent["submission_id"]) == (0, "study-x-1")
    assert "Submitted as study-x-1." in printed
    assert f"python -m study.submit stop --address {URL} x" in printed
    assert {name: sent["metadata"][name] for name in ("study", "results")} == {"study": "x", "results": "/r"}
    resume = sent["runtime_env"]["env_vars"]["STUDY_RESUME_COMMAND"]
    assert resume == f"python -m study.submit resume --address {URL} x"
    assert (options(sent).name, options(sent).address) == ("x", "auto")


def test_a_study_that_is_running_is_not_submitted_again(command):
    client = Server(details())
    for words in (("--", "--name", "x"), ("--dry-run", "--", "--name", "x"), ("resume", "x")):
        code, printed = command(client, *words)
        assert (code, "study-x-1" in printed, client.submitted) == (4, True, [])


def test_a_dry_run_is_a_job_that_checks_and_has_its_exit_code(command):
    client = Server(check=("FAILED", 4), log="failed  data\n")
    code, printed = command(client, "--dry-run", "--", "--name", "x")
    (sent,) = client.submitted
    assert (code, printed) == (4, "failed  data\nNo study was submitted.\n")
    assert options(sent).dry_run
    assert not sent["metadata"]
    assert sent["submission_id"].startswith("check-")


def test_a_dry_run_that_is_interrupted_is_stopped(command):
    client = Server(script=["one\n", CTRL_C])
    assert command(client, "--dry-run", "--")[0] == 75
    assert client.stopped == [client.submitted[0]["submission_id"]]


def test_studies_without_a_name_that_are_submitted_at_once_have_different_names(command):
    client = Server()
    for _ in range(2):
        code, printed = command(client, "--detach", "--", "--trials", "3")
        assert code == 0, printed
    first, second = (options(sent).name for sent in client.submitted)
    assert first.startswith("notebook-2")
    assert first != second
    assert f"Submitted as study-{second}-1." in printed


def test_of_two_who_submit_one_name_at_once_one_is_refused(command):
    taken = status_error(500, TAKEN.format("ValueError: Job with submission_id study-x-1 already exists."))
    code, printed = command(Server(refused=[taken]), "--", "--name", "x")
    assert (code, "may have" in printed, "submitted study x" in printed) == (4, False, True)


def test_of_a_servers_traceback_only_the_error_is_printed(command):
    refused = ClusterError(f"{URL}: ray.exceptions.RpcError: no room")
    code, printed = command(Server(refused=[refused]), "--", "--name", "x")
    assert (code, printed.splitlines()[-1]) == (4, f"python -m study.submit: {URL}: ray.exceptions.RpcError: no room")


@pytest.mark.parametrize("refused", [KeyboardInterrupt(), ClusterError("reset")])
def test_what_breaks_while_a_study_is_sent_names_the_job_that_may_exist(command, refused):
    code, printed = command(Server(refused=[refused]), "--", "--name", "x")
    assert code == (75 if isinstance(refused, KeyboardInterrupt) else 4)
    assert f"study-x-1 may have been submitted; see: python -m study.submit status --address {URL} x\n" in printed


def test_a_resume_continues_with_the_options_and_variables_of_the_last_job(command):
    env = {"env_vars": {"MOE_CACHE": "/c"}}
    words = ["--name", "x", "--results", "/r", "--cpus-per-trial", "2", "--trials", "5"]
    stopped = details(status="STOPPED", words=words, runtime_env=env)
    refused = details("study-x-2", "FAILED", code=2, words=["--name", "x", "--results", "/other"], start_time=3000)
    client = Server(stopped, refused)
    code, printed = command(client, "resume", "--detach", "--env", "A=b")
    assert code == 0, printed
    (sent,) = client.submitted
    run = options(sent)
    assert (sent["submission_id"], run.name, run.resume) == ("study-x-3", "x", True)
    assert (str(run.results), run.cpus_per_trial, run.trials) == ("/r", 2, None)
    assert sent["runtime_env"]["env_vars"].items() >= {"MOE_CACHE": "/c", "A": "b"}.items()


def test_a_resume_of_what_the_cluster_does_not_have_needs_the_results_folder(command):
    other_version = details(status="STOPPED", words=["--from-another-version"])
    for client, words in ((Server(), ("resume", "x")), (Server(other_version), ("resume", "x"))):
        code, printed = command(client, *words)
        assert (code, len(printed.splitlines()), "-- --results DIR" in printed) == (2, 1, True)
    assert command(Server(), "resume")[0] == 2
    client = Server()
    assert command(client, "resume", "x", "--detach", "--", "--results", "/r")[0] == 0
    assert (options(client.submitted[0]).resume, client.submitted[0]["metadata"]["results"]) == (True, "/r")


def test_status_lists_studies_with_their_progress(command, monkeypatch):
    monkeypatch.setenv("MOE_STORE", "nowhere://")  # not used here
    log = "trial 1: ... | 1 of 9 trials done, best gain\ntrial 2: ... | 2 of 9 trials done, best gain\n"
    other = details("other", metadata={"study": "../../outside", "results": "/r"})
    client = Server(details(words=["--from-another-version"]), details("study-y-1", "FAILED", 4, "y"), other, log=log)
    code, printed = command(client, "status")
    assert code == 0
    first, second = printed.splitlines()
    assert first.startswith("x is running; 2 of 9 trials done; study-x-1 since ")
    assert first.endswith("results in /r/x")
    assert second.startswith("y ended with exit code 4;")
    assert command(client, "status", "unknown")[0] == 2


def test_a_running_study_comes_before_a_later_job_that_was_refused(command):
    client = Server(details(), details("study-x-2", "FAILED", code=4, start_time=3000))
    assert command(client, "status", "x")[1].startswith("x is running;")


def test_an_empty_cluster_names_the_way_to_a_study_from_before_a_restart(command):
    code, printed = command(Server(), "fetch", "x")
    assert (code, "fetch NAME --from DIR" in printed) == (2, True)
    assert command(Server(), "status")[0] == 0
    code, printed = command(Server(), "logs")
    assert (code, f"{URL} has no study" in printed) == (2, True)


@pytest.mark.parametrize("log", ["9" * 30_000, "9" * 5000 + " of 3 trials"])
def test_a_log_of_digits_has_no_progress_and_takes_no_time(log):
    began = time.monotonic()
    assert _progress(log) is None
    assert time.monotonic() - began < 0.5


def test_logs_are_printed_as_they_are(command):
    assert command(Server(details(status="SUCCEEDED"), log="one\ntwo ±\n"), "logs", "x") == (0, "one\ntwo ±\n")


def test_ctrl_c_while_following_leaves_the_study_and_prints_how_to_come_back(command):
    client = Server(details(), log="one\n", script=["one\n", CTRL_C])
    code, printed = command(client, "logs", "x", "--follow")
    assert (code, client.stopped) == (75, [])
    for action in ("logs", "stop", "fetch"):
        assert f"python -m study.submit {action} --address {URL} x" in printed


def test_ctrl_c_while_the_connection_is_broken_says_when_the_cluster_last_answered(command, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("study.cluster.logs.time.sleep", interrupt)
    code, printed = command(Server(details(), script=[ClusterError("refused")]), "logs", "x", "--follow")
    assert (code, "last answered 0 s ago" in printed) == (75, True)


def test_a_stop_without_a_name_takes_the_one_study_that_is_running(command):
    client = Server(details("study-y-1", "SUCCEEDED", study="y", start_time=3), details(), log="one\n")
    client.script = ["one\n", "one\n", CTRL_C]
    code, printed = command(client, "stop")
    assert (code, client.stopped) == (75, ["study-x-1"])
    assert "is stopping" in printed
    assert "study.submit stop" not in printed
    code, printed = command(Server(details(), details("study-y-1", study="y")), "stop")
    assert (code, printed.endswith(f"{URL}: x, y\n")) == (2, True)
    assert command(Server(), "stop")[1].endswith(": none\n")


def job(status, code):
    return jobs(details(status=status, code=code)).find("study-x-1")


@pytest.mark.parametrize(
    ("ended", "log", "code", "hints"),
    [
        (job("STOPPED", None), "interrupted; nothing was run\n", 75, {"fetch", "resume"}),
        (job("STOPPED", None), "1 of 3 trials done\nInterrupted with 1 of 3 trials.", 75, {"fetch", "resume"}),
        (job("STOPPED", None), "3 of 3 trials done\n", 0, {"fetch"}),
        (job("SUCCEEDED", 0), "3 of 3 trials done\n", 0, {"fetch"}),
        (job("FAILED", 3), "", 3, {"fetch", "resume"}),
        (job("FAILED", -9), "", 75, {"fetch", "resume"}),
        (job("FAILED", None), "", 4, {"resume"}),
        (job("FAILED", 4), "failed  data\n", 4, set()),
    ],
)
def test_the_end_of_a_study_names_its_exit_code_and_what_comes_next(ended: Job, log, code, hints, capsys):
    assert actions._report_end(read(["stop", "--address", URL]), ended, log) == code
    printed = capsys.readouterr().out
    assert {action for action in ("fetch", "resume") if f"study.submit {action}" in printed} == hints
