import pytest

from study.cluster.client import MissingJobError
from study.cluster.logs import Follower
from study.machine import ClusterError
from tests.cluster_helpers import details, jobs

NOTE = "[the connection broke; trying again]\n"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr("study.cluster.logs.RETRY_S", 0)


def followed(known, printed=0, **how):
    """The ended job, and what was printed."""
    pieces: list[str] = []
    job = Follower(jobs(known, **how), "study-x-1", pieces.append, printed).follow()
    return job, "".join(pieces)


def test_a_log_is_printed_once_though_the_connection_breaks():
    log = "one\ntwo\nthree\nfour ±\n"
    script = [["one\n", "tw", ConnectionResetError()], [RuntimeError("closed")], ["one\ntwo\nthr"], ["one\n"]]
    job, printed = followed(details(status="FAILED", code=75), log=log, script=script)
    assert printed.replace(NOTE, "") == log
    assert printed.count(NOTE) == 1
    assert job.code == 75


def test_what_was_printed_before_is_not_printed_again():
    assert followed(details(status="STOPPED"), log="one\ntwo\nthree\n", printed=8)[1] == "three\n"


def test_a_study_that_prints_for_long_is_not_lost_with_its_first_broken_connection(monkeypatch):
    monkeypatch.setattr("study.cluster.logs.LOST_S", 0.2)
    pieces = [piece for number in range(4) for piece in (f"{number}\n", 0.1)]
    known = details(status="SUCCEEDED", code=0)
    job, printed = followed(known, log="0\n1\n2\n3\n", script=[[*pieces, ConnectionResetError()]])
    assert (job.code, printed) == (0, f"0\n1\n2\n3\n{NOTE}")


def test_a_ctrl_c_that_comes_together_with_a_line_is_not_lost():
    with pytest.raises(KeyboardInterrupt):
        followed(details(status="STOPPED"), script=[["one\n", "Ctrl-C", "two\n", 0.5]])


def test_a_silent_connection_is_made_anew(monkeypatch):
    monkeypatch.setattr("study.cluster.logs.SILENCE_S", 0.05)
    known = details(status="SUCCEEDED", code=0)
    assert followed(known, log="one\ntwo\n", script=[["one\n", 60.0], ["one\ntwo\n"]])[1] == "one\ntwo\n"


def test_a_job_that_the_cluster_does_not_have_ends_the_following():
    with pytest.raises(MissingJobError, match="404"):
        followed(RuntimeError("Request failed with status code 404: Job study-x-1 does not exist."))


def test_a_cluster_that_does_not_answer_for_minutes_ends_the_following(monkeypatch):
    monkeypatch.setattr("study.cluster.logs.LOST_S", 0)
    with pytest.raises(ClusterError, match=r"no answer for 0 minutes: .*refused"):
        followed(OSError("Connection refused"))
