"""A whole study on a Ray cluster whose nodes come and go: what is lost, and what comes out otherwise.

    python -m tests.benchmarks.chaos_nodes [--data DIR] [--kills 30] [--seed 0]          as root: it makes networks

A head, and two nodes in network namespaces of their own, run every point of a space twice, each time with an empty
store: undisturbed, and while one of these happens at random moments, time and again: a worker is killed; a node is
powered off and another one joins; a node is cut off from the network for up to a minute; the driver is killed; the head
is powered off. Where the study ended so it is resumed, with another head where that is needed. Exit code 1 if a
finished record was changed or lost, if the trials are not the same as the undisturbed study's in config, seed and
scores, or if a driver ended otherwise than done, resumable or without its cluster, or hung.
"""

import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from moe.console import Exit
from study.study import LOST
from tests.benchmarks.chaos_study import SPACE, Count, Scene, arguments, repeat, run, table
from tests.benchmarks.cluster import Cluster, below

WORKER, NODE, PARTITION, DRIVER, HEAD = KINDS = ("worker", "node", "partition", "driver", "head")
WAITS_S = (0.0, 8.0)  # from a trial that runs to the next event
CUT_S = (5.0, 60.0)
HANG_S = 300.0  # without a change in the records
NODES = 2
IP = shutil.which("ip") or "/usr/sbin/ip"


class Network(Cluster):
    """A cluster whose nodes have network namespaces of their own, joined by a bridge; the head is outside of them."""

    def __init__(self) -> None:
        super().__init__(0, *[1] * NODES)
        self._number = secrets.randbelow(200)
        self._bridge, self._spaces = f"moe{self._number}", list[str]()

    def __enter__(self) -> "Network":
        _ip(f"link add {self._bridge} type bridge")
        _ip(f"addr add {self.where(0)[0]}/24 dev {self._bridge}")
        _ip(f"link set {self._bridge} up")
        super().__enter__()
        return self

    def where(self, number: int) -> tuple[str, list[str]]:
        """The IP address of a node, and what its command begins with."""
        host = f"10.213.{self._number}.{number + 1}"
        return host, [IP, "netns", "exec", self._space(number)] if number else []

    def _space(self, number: int) -> str:
        return f"{self._bridge}-{number}"

    def _start(self, cpus: int, *words: str) -> None:
        if number := len(self.nodes):
            space, link = self._space(number), f"{self._bridge}l{number}"
            self._spaces.append(space)
            _ip(f"netns add {space}")
            _ip(f"link add {link} type veth peer name eth0 netns {space}")
            _ip(f"link set {link} master {self._bridge} up")
            _ip(f"-n {space} addr add {self.where(number)[0]}/24 dev eth0")
            for device in ("lo", "eth0"):
                _ip(f"-n {space} link set {device} up")
        super()._start(cpus, *words)

    def living(self) -> list[int]:
        """The numbers of the nodes that run, without the head."""
        return [number for number, node in enumerate(self.nodes) if number and node.poll() is None]

    def cut_off(self, number: int, seconds: float) -> None:
        """Take a node from the network for so long."""
        _ip(f"link set {self._bridge}l{number} down")
        time.sleep(seconds)
        _ip(f"link set {self._bridge}l{number} up")

    def replace(self, number: int) -> None:
        """Power a node off, as far as it still runs, and start another one."""
        self.kill(number)
        self.join(1)

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        for space in self._spaces:
            subprocess.run([IP, "netns", "del", space], check=False)
        subprocess.run([IP, "link", "del", self._bridge], check=False)


def _ip(words: str) -> None:
    subprocess.run([IP, *words.split()], check=True)


@dataclass
class NodeCount(Count):
    """What happened."""

    slowest_s: float = 0.0  # from a head's end to that of its driver

    def __str__(self) -> str:
        events = ", ".join(f"{kind} {self.kills[kind]}" for kind in KINDS)
        codes = ", ".join(f"{code}: {times}" for code, times in sorted(self.codes.items()))
        faults = "".join(f"\n  {fault}" for fault in self.wrong)
        return (
            f"{self.kills.total()} events ({events}); drivers ended with {codes}, without a head after at most "
            f"{self.slowest_s:.0f} s; {self.studies} studies finished, {self.lost} trials lost their worker; "
            f"{self.kept} times a finished record was there unchanged; {len(self.wrong)} faults{faults}"
        )


def happen(kind: str, network: Network, driver: subprocess.Popen[bytes], draw: random.Random, count: NodeCount) -> None:
    """Let one thing happen; the cluster has its nodes again afterwards, unless its head is gone."""
    count.kills[kind] += 1
    number = draw.choice(network.living())
    if kind == WORKER:
        workers = [pid for pid, command in below(network.nodes[number].pid) if command.startswith("ray::ImplicitFunc")]
        with suppress(ProcessLookupError, IndexError):
            os.kill(draw.choice(workers), signal.SIGKILL)
    elif kind == NODE:
        network.replace(number)
    elif kind == PARTITION:
        network.cut_off(number, draw.uniform(*CUT_S))
        network.replace(number)
    elif kind == DRIVER:
        driver.kill()
    else:
        began = time.monotonic()
        network.kill(0)
        with suppress(subprocess.TimeoutExpired):
            driver.wait(HANG_S)
        count.slowest_s = max(count.slowest_s, time.monotonic() - began)


def follow(
    driver: subprocess.Popen[bytes],
    scene: Scene,
    network: Network,
    kinds: list[str],
    draw: random.Random,
    count: NodeCount,
) -> None:
    """Let one thing after the other happen, until the driver ends or hangs."""
    changed, records = time.monotonic(), scene.records()
    due: float | None = None  # when the next thing happens
    while driver.poll() is None and time.monotonic() - changed < HANG_S:
        time.sleep(0.1)
        if (now := scene.records()) != records:
            changed, records = time.monotonic(), now
        if kinds and due is None and any(b'"state": "running"' in content for content in now.values()):
            due = time.monotonic() + draw.uniform(*WAITS_S)
        if kinds and due is not None and time.monotonic() >= due:
            happen(kinds.pop(0), network, driver, draw, count)
            changed, due = time.monotonic(), None
    if driver.poll() is None:
        count.wrong.append(f"no record has changed for {HANG_S:.0f} s:\n{scene.tail()}")
        driver.kill()


def study(scene: Scene, kinds: list[str], draw: random.Random, count: NodeCount) -> None:
    """A study from its beginning to its end, on as many clusters as that takes."""
    scene.begin()
    while True:
        with Network() as network:
            os.environ["RAY_AUTH_TOKEN"] = network.token
            while network.nodes[0].poll() is None:
                before = scene.finished()
                with scene.start("--address", network.address, "--cpus-per-trial", "1") as driver:
                    follow(driver, scene, network, kinds, draw, count)
                count.judge(scene, before, driver.returncode)
                if driver.returncode == Exit.DONE or count.wrong:
                    count.studies += driver.returncode == Exit.DONE
                    count.lost += sum(LOST.encode() in content for content in scene.records().values())
                    return


def chaos(home: Path, words: Sequence[str], kinds: Sequence[str], seed: int, emit: Callable[[str], None]) -> Count:
    """Compare studies to which these things happen with one that is not disturbed."""
    (home / "space.yaml").write_text(SPACE)
    scene, draw, quiet, count = Scene(home, tuple(words)), random.Random(seed), NodeCount(), NodeCount()
    study(scene, [], draw, quiet)
    expected = table(scene.folder)
    emit(f"undisturbed: {len(expected)} trials; {quiet}")
    return repeat(scene, expected, kinds, lambda left: study(scene, left, draw, count), count, emit)


def main() -> int:
    """Run it and print what happened; the exit code."""
    parser = arguments(__doc__)
    options = parser.parse_args()
    if os.geteuid():
        parser.error("it makes network namespaces; expected root")
    kinds = random.Random(options.seed).choices(KINDS, k=options.kills)
    os.environ["RAY_AUTH_MODE"] = "token"
    return run(options, lambda home, words, emit: chaos(home, words, kinds, options.seed, emit))


if __name__ == "__main__":
    sys.exit(main())
