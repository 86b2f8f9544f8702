import os
import signal
import sys

import pytest
import ray

from study.machine import ClusterError
from study.search.ray_cluster import connected


@pytest.mark.parametrize("fails", [False, True])
def test_a_connection_leaves_the_handler_of_sigterm_as_it_was(monkeypatch, fails):
    def init(**settings):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as Ray's own does
        if fails:
            raise ConnectionError("no cluster")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    found = []

    def ours(number, frame):
        """Do nothing."""

    before = signal.signal(signal.SIGTERM, ours)
    try:
        try:
            with connected("auto", None):
                found.append(signal.getsignal(signal.SIGTERM))
        except ClusterError:
            found.append(signal.getsignal(signal.SIGTERM))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert found == [ours]


def test_a_signal_while_ray_starts_is_an_interruption(monkeypatch):
    def init(**settings):
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))  # as Ray's own does
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(KeyboardInterrupt), connected("auto", None):
        pass
