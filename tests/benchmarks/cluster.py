"""A study handed to a Ray cluster of several nodes on this machine, and what is left of it when nodes die.

    python -m tests.benchmarks.cluster [--trials 12]

Three nodes, each a Ray of its own: submit; power off the first worker node while it runs a trial; a new one joins;
power off the second; stop; resume; fetch. No finished trial may be lost or run again. It prints what happened and when,
and ends with 0 if every line is as expected.
"""

import argparse
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from study.study import LOST

ROOT = Path(__file__).parents[2]
SPACE = "epochs: [1, 2]\ntrain_examples: [50, 60]\ntest_examples: 50\n"
WORKER_PORTS = 100  # per node: the ranges of nodes on one machine must not overlap
PATIENCE_S = 120.0
OURS = ("RAY_TMPDIR", "RAY_ADDRESS", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")  # settings of the tests themselves


class Cluster:
    """Nodes, each started as a person starts one and with a temporary folder of its own; all end with the `with`.

    Args:
        cpus: of each node, the head first.
    """

    def __init__(self, *cpus: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="c-", dir="/tmp"))  # Ray's sockets allow 107 bytes
        self.token = secrets.token_hex(32)
        self.port, self.dashboard = free_ports(2)
        self.first_worker_port = 10100 + secrets.randbelow(80) * WORKER_PORTS
        self.nodes: list[subprocess.Popen[bytes]] = []
        self.cpus = cpus
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in OURS},
            "PATH": "/usr/bin:/bin",  # without the interpreter that has the packages
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_health_check_initial_delay_ms": "1000",  # that a node is gone is known after 3 s, not 20
            "RAY_health_check_period_ms": "1000",
            "RAY_health_check_failure_threshold": "3",
        }

    @property
    def url(self) -> str:
        """Of the dashboard."""
        return f"http://{self.where(0)[0]}:{self.dashboard}"

    @property
    def address(self) -> str:
        """Of the head, for Ray."""
        return f"{self.where(0)[0]}:{self.port}"

    def where(self, number: int) -> tuple[str, list[str]]:
        """The IP address of a node, and what its command begins with."""
        return "127.0.0.1", []

    def __enter__(self) -> "Cluster":
        try:
            host = self.where(0)[0]
            dashboard = ("--include-dashboard=true", f"--dashboard-host={host}", f"--dashboard-port={self.dashboard}")
            self._start(self.cpus[0], "--head", f"--port={self.port}", *dashboard)
            self._wait_for_nodes(1)
            for cpus in self.cpus[1:]:
                self.join(cpus)
            self._wait_for_nodes(len(self.cpus))
        except BaseException:
            self.__exit__()
            raise
        return self

    def join(self, cpus: int) -> None:
        """Start one more node."""
        self._start(cpus, f"--address={self.address}")

    def _start(self, cpus: int, *words: str) -> None:
        number = len(self.nodes)
        low = self.first_worker_port + number * WORKER_PORTS
        host, prefix = self.where(number)
        command = [
            *prefix,
            *(sys.executable, "-m", "ray.scripts.scripts", "start", *words, "--block", f"--num-cpus={cpus}"),
            *(f"--node-ip-address={host}", "--dashboard-agent-listen-port=0", "--object-store-memory=100000000"),
            *(f"--min-worker-port={low}", f"--max-worker-port={low + WORKER_PORTS - 1}"),
            f"--temp-dir={self.folder / str(number)}",
        ]
        with (self.folder / f"{number}.log").open("wb") as log:
            started = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        self.nodes.append(started)

    def _wait_for_nodes(self, count: int) -> None:
        """Until the dashboard answers and knows of so many nodes."""
        request = urllib.request.Request(f"{self.url}/api/v0/nodes", headers={"Authorization": f"Bearer {self.token}"})
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end and self.nodes[0].poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=5) as response:
                if json.loads(response.read())["data"]["result"]["total"] >= count:
                    return
            time.sleep(0.3)
        raise RuntimeError("\n".join(path.read_text() for path in sorted(self.folder.glob("*.log"))))

    def wait_for_trial(self, number: int) -> None:
        """Until a node runs a trial."""
        end = time.monotonic() + PATIENCE_S
        while not any("ray::ImplicitFunc.train" in command for _, command in below(self.nodes[number].pid)):
            if time.monotonic() > end:
                raise RuntimeError(f"node {number} has run no trial for {PATIENCE_S:.0f} s")
            time.sleep(0.05)

    def kill(self, number: int) -> None:
        """End a node as a power cut does: all its processes at once."""
        node = self.nodes[number]
        for pid in (node.pid, *(pid for pid, _ in below(node.pid))):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        node.wait()

    def __exit__(self, *_: object) -> None:
        for number in reversed(range(len(self.nodes))):
            self.kill(number)
        shutil.rmtree(self.folder, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, in none of the ranges that Ray and the system give out."""
    found: list[int] = []
    while len(found) < count:
        port = 20000 + secrets.randbelow(9000)
        with socket.socket() as attempt:
            if port not in found and attempt.connect_ex(("127.0.0.1", port)) != 0:
                found.append(port)
    return found


def below(pid: int) -> list[tuple[int, str]]:
    """The processes below one, as (pid, command line)."""
    children: dict[int, list[int]] = {}
    commands = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
            commands[int(path.name)] = (path / "cmdline").read_text(errors="replace")
            children.setdefault(parent, []).append(int(path.name))
    found, todo = [], [pid]
    while todo:
        for child in children.get(todo.pop(), []):
            found.append((child, commands[child]))
            todo.append(child)
    return found


class Person:
    """A user with a checkout of this project, in a folder with a space in its name."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self.home = folder / "my studies"
        self.results = folder / "shared" / "results"
        self.home.mkdir(parents=True)
        (self.home / "four.yaml").write_text(SPACE)
        self.checkout = folder / "checkout"
        for name in ("moe", "study"):
            shutil.copytree(ROOT / name, self.checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
        for command in ("init -q .", "add -A"):
            subprocess.run(["git", *command.split()], cwd=self.checkout, check=True)
        self.cluster = cluster
        self.study = (
            *("--dataset", "shapes", "--space", "four.yaml", "--cpus-per-trial", "1", "--refine", "0"),
            *("--results", str(self.results), "--store", str(folder / "shared" / "stages")),
        )

    @contextlib.contextmanager
    def start(self, *words: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
        """A command that is running, in a process group of its own as a terminal would have it."""
        action, rest = (words[:1], words[1:]) if words and not words[0].startswith("-") else ((), words)
        ours = {"PYTHONPATH": str(self.checkout), "RAY_AUTH_TOKEN": self.cluster.token, "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(
            [sys.executable, "-m", "study.submit", *action, "--address", self.cluster.url, *rest],
            cwd=self.home,
            env={**os.environ, **ours, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    def call(self, *words: str, **environment: str) -> tuple[int, str]:
        """The exit code of a command and what it printed."""
        with self.start(*words, **environment) as process:
            printed = process.communicate(timeout=300)[0]
        return process.returncode, printed

    def records(self, name: str) -> list[dict[str, Any]]:
        """The study's records in the shared folder."""
        return [json.loads(path.read_text()) for path in sorted((self.results / name / "trials").glob("[0-9]*.json"))]

    def complete(self, name: str) -> dict[int, dict[str, Any]]:
        """The records of finished trials."""
        return {record["trial"]: record for record in self.records(name) if record["state"] == "complete"}


def until(process: subprocess.Popen[str], text: str) -> list[str]:
    """Read what a command prints up to a line with this in it; the lines so far."""
    lines = []
    assert process.stdout
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return lines
    raise RuntimeError("".join(lines))


def scenario(person: Person, trials: int) -> Iterator[tuple[str, bool]]:
    """What happens, and whether it was to be expected."""
    cluster = person.cluster
    with person.start("--", *person.study, "--trials", "100", "--name", "fire") as follower:
        until(follower, "trial 3 started")
        yield "submitted to three nodes, three trials at once", True
        for victim in (1, 2):
            cluster.wait_for_trial(victim)
            cluster.kill(victim)
            reason = until(follower, f"failed: {LOST}")[-1].strip()
            yield f"powered off node {victim}: {reason}", True
            if victim == 1:
                cluster.join(1)
                cluster.wait_for_trial(3)
                yield "a new node joined and got a trial", True
        until(follower, " trials done")
        code, _ = person.call("stop")
        yield f"stop: exit code {code}", code == 75
        yield f"the follower's exit code: {follower.wait(timeout=60)}", follower.returncode == 75
    before = person.complete("fire")
    wanted = str(max(trials, len(before) + 2))
    code, _ = person.call("resume", "fire", "--", "--trials", wanted)
    after = person.complete("fire")
    yield f"resume to {wanted} trials: exit code {code}", code == 0
    lost = [number for number in before if after.get(number) != before[number]]
    yield f"finished trials before {len(before)}, after {len(after)}, lost or run again {len(lost)}", not lost
    code, _ = person.call("fetch", "fire")
    fetched = [json.loads(path.read_text()) for path in (person.home / "results" / "fire" / "trials").glob("*.json")]
    same = sorted(fetched, key=lambda record: record["trial"]) == person.records("fire")
    yield f"fetch: exit code {code}; {len(fetched)} records here", code == 0 and same


def main() -> int:
    """Run the scenario; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=12)
    trials = parser.parse_args().trials
    began, expected = time.monotonic(), True
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, Cluster(1, 1, 1) as cluster:
        for sentence, ok in scenario(Person(Path(folder), cluster), trials):
            print(f"{time.monotonic() - began:6.0f} s  {'ok' if ok else 'WRONG':<6} {sentence}", flush=True)
            expected = expected and ok
    return 0 if expected else 1


if __name__ == "__main__":
    sys.exit(main())
