"""Ray: a private one on this machine for as long as a study runs, or a running cluster."""

import logging
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import ray

from study.machine import ClusterError
from study.search import cleanup
from study.search.resources import Node, Resources, here

CONNECT_S = 5.0
MOST_PATH = 107 - len(
    "/ray/session_2026-01-31_12-00-00_123456_1234567/sockets/plasma_store"
)  # bytes of a socket's path


@contextmanager
def connected(address: str, resources: Resources | None) -> Iterator[None]:
    """A connection to Ray: a private one of this size on this machine, or a cluster.

    Raises:
        ClusterError: Ray does not answer.
    """
    # Ray logs about its own state, which nobody reads; errors of trials are in the records
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        size: dict[str, Any] = {}
        advice = ""
        if address == "local" and resources:
            size = _private(resources, stack.enter_context(private_folder()))
            advice = "; if its folder is to blame, RAY_TMPDIR=/short/dir names another"
        try:
            if ":" in address:  # Ray alone would try for minutes
                host, port = address.rsplit(":", 1)
                socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
            stack.callback(ray.shutdown)
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, **size)
        except Exception as error:  # of any class, a plain Exception too
            reason = " ".join(str(error).split())[:300]
            raise ClusterError(f"Ray at {address} does not answer: {reason}{advice}") from error
        yield


def _private(resources: Resources, folder: Path) -> dict[str, Any]:
    """How the private Ray is started: as large as the study, without a dashboard, with a token of its own."""
    if os.environ.get("RAY_AUTH_MODE") != "disabled" and not os.environ.get("RAY_AUTH_TOKEN"):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # else Ray would write one, readable by all, to ~/.ray
    # for the workers: glibc keeps freed memory for each thread apart, and a worker with Ray's 30 threads grew to 2.5 GB
    os.environ.setdefault("MALLOC_ARENA_MAX", "1")
    # Ray would start a worker ahead for each CPU, and Tune, whose workers have an environment of their own, uses none
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
    cpus, share = resources.cpus_per_trial * resources.concurrency, resources.gpus_per_trial
    # a fraction of a GPU never spans two
    gpus = share * resources.concurrency if share >= 1 or not share else -(-resources.concurrency // int(1 / share))
    if resources.rules:  # as many run at once as there is room for
        machine = here()
        cpus, gpus = machine.cpus, machine.gpus
    return {
        "num_cpus": cpus,
        "num_gpus": int(gpus),
        "include_dashboard": False,
        "object_store_memory": 100 * 2**20,
        # both are documented, in spite of their names; the first is the only way to a folder that is not shared, and
        # Ray opens it to all users, so it is below one that is closed; the second is the only way to do without
        # /dev/shm, which may be full or read-only: next to nothing is stored
        "_temp_dir": str(folder / "ray"),
        "_plasma_directory": str(folder),
    }


@contextmanager
def private_folder() -> Iterator[Path]:
    """A folder for Ray that no other user can enter, below RAY_TMPDIR if that is set; gone with this process.

    Raises:
        ClusterError: there is no place for it.
    """
    named = os.environ.get("RAY_TMPDIR")
    places = [named] if named else [tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"]
    problems = []
    for place in map(os.path.abspath, places):
        try:
            folder = tempfile.mkdtemp(prefix="moe-", dir=place)
        except OSError as error:
            problems.append(f"{place}: {(error.strerror or str(error)).lower()}")
            continue
        if len(os.fsencode(folder)) <= MOST_PATH:
            break
        os.rmdir(folder)
        problems.append(f"{place} is too long for the paths of Ray's sockets, which have at most 107 bytes")
    else:
        what = "RAY_TMPDIR" if named else "a temporary folder for Ray"
        raise ClusterError(f"{what} cannot be used ({'; '.join(problems)}); expected RAY_TMPDIR=/short/dir")
    with subprocess.Popen(
        [sys.executable, "-IS", cleanup.__file__, folder], stdin=subprocess.PIPE, start_new_session=True
    ):
        yield Path(folder)  # closing the pipe makes the program end, and so does the end of this process


def connected_nodes() -> dict[str, Node]:
    """The nodes of the cluster that this process is connected to, by Ray's id."""
    present = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
    kinds = ("CPU", "GPU", "memory")
    return {name: Node(*(int(each.get(kind, 0)) for kind in kinds)) for name, each in present.items()}
