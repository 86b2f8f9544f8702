import socket
import time

import pytest

from study.search import watch as module
from study.search.watch import Watch


@pytest.fixture
def place():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "GONE_S", {True: 0.2, False: 60.0})


def closed():
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()


def test_a_ray_that_accepts_connections_is_there(place):
    watch = Watch({"its raylet": place, "its head": place}, private=True)
    assert (watch.reason(), watch.refused()) == (None, [])


@pytest.mark.parametrize(("private", "reason"), [(True, "its raylet accepts no connection"), (False, None)])
def test_one_that_refuses_them_for_a_while_is_gone_and_a_cluster_has_longer(place, private, reason):
    watch = Watch({"its raylet": closed(), "its head": place}, private)
    assert watch.reason() is None
    assert watch.refused() == ["its raylet"]
    time.sleep(0.3)
    assert watch.reason() == reason


def test_a_refusal_once_is_none(place):
    watch = Watch({"its raylet": closed()}, private=True)
    assert watch.reason() is None
    time.sleep(0.3)
    watch.places["its raylet"] = place
    assert watch.reason() is None
    watch.places["its raylet"] = closed()
    assert watch.reason() is None


def test_a_head_that_does_not_answer_is_gone_and_so_is_a_node_that_it_counts_as_dead():
    assert "has not answered" in Watch({}, True, answered=-60.0).reason()
    assert "dead" in Watch({}, True, dead=True).reason()


def test_a_pause_of_the_whole_process_is_not_a_silence_of_ray(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    watch = Watch({}, True)
    now[0] += 3600
    assert watch.reason() is None
    for _ in range(60):
        now[0] += 1
        found = watch.reason()
    assert "has not answered" in found
