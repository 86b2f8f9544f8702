"""Whether the Ray that a study runs on is still there. Tune would wait for ever for one that is gone.

connections to the raylet of this node and to the cluster's GCS are refused or time out for a while  --> gone
the GCS says that this node is dead, or has not answered for a while                                --> gone
"""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import ray

from study.search.stopping import Stop

EVERY_S = 1.0
CONNECT_S = 3.0
GONE_S = {True: 3.0, False: 45.0}  # by whether Ray is private: a cluster's head may be started again
SILENT_S = 45.0  # Ray itself ends the process after 60
MOST_STEP_S = 10.0

Place = tuple[str, int]


class Clock:
    """Seconds that this process has run, if it is read often: a pause, such as one by SIGSTOP, counts as ten."""

    def __init__(self) -> None:
        self.now = 0.0  # when it was read last
        self._read = time.monotonic()

    def read(self) -> float:
        """The seconds until now."""
        before, self._read = self._read, time.monotonic()
        self.now += min(self._read - before, MOST_STEP_S)
        return self.now


@dataclass
class Watch:
    """Where to look, and what was seen last."""

    places: dict[str, Place]
    private: bool
    clock: Clock = field(default_factory=Clock)
    answered: float = 0.0
    dead: bool = False
    connected: dict[str, float] = field(default_factory=dict)

    def refused(self) -> list[str]:
        """The places that accept no connection now."""
        return [name for name, place in self.places.items() if not _accepts(place)]

    def reason(self) -> str | None:
        """Why Ray counts as gone; None while it does not."""
        refused, now = self.refused(), self.clock.read()
        for name in self.places:
            if name not in refused:
                self.connected[name] = now
            elif now - self.connected.setdefault(name, now) > GONE_S[self.private]:
                return f"{name} accepts no connection"
        if self.dead:
            return "its head counts this node as dead"
        return f"its head has not answered for {SILENT_S:.0f} s" if now - self.answered > SILENT_S else None

    def listen(self, node: str, ended: threading.Event) -> None:
        """Note what the GCS answers, until the end; a call to one that is stopped never returns."""
        while not ended.wait(EVERY_S):
            with suppress(Exception):  # whatever Ray raises, it is no answer
                self.dead = not any(each["Alive"] for each in ray.nodes() if each["NodeID"] == node)
                self.answered = self.clock.now


def _accepts(place: Place) -> bool:
    try:
        socket.create_connection(place, timeout=CONNECT_S).close()
    except OSError:
        return False
    return True


@contextmanager
def watched(stop: Stop, private: bool) -> Iterator[None]:
    """Watch the Ray that this process is connected to: if it is gone, the process ends with its tables."""
    node = ray.get_runtime_context().get_node_id()
    watch, ended = Watch(_places(node, private), private), threading.Event()

    def judge() -> None:
        while not ended.wait(EVERY_S):
            if reason := watch.reason():
                stop.lose(f"Ray is gone: {reason}")

    listening = threading.Thread(target=watch.listen, args=(node, ended), daemon=True)
    for thread in (listening, threading.Thread(target=judge, daemon=True)):
        thread.start()
    stop.is_lost = lambda: bool(watch.refused())
    try:
        yield
    finally:
        if stop.ray_is_gone():
            stop.end_now()  # Ray's own end would wait for what is gone
        ended.set()
        stop.is_lost = lambda: False
        listening.join(CONNECT_S)  # Ray's connection is closed next


def _places(node: str, private: bool) -> dict[str, Place]:
    """Where connections are accepted now. A private Ray listens on the loopback too, which no machine loses."""
    raylet = next(each for each in ray.nodes() if each["NodeID"] == node)
    host, port = ray.get_runtime_context().gcs_address.rsplit(":", 1)
    named = {
        "its raylet": (raylet["NodeManagerAddress"], raylet["NodeManagerPort"]),
        "its head": (host.strip("[]"), int(port)),
    }
    places = {}
    for name, (address, number) in named.items():
        candidates = [("127.0.0.1", number)] * private + [(address, number)]
        if place := next(filter(_accepts, candidates), None):
            places[name] = place
    return places
