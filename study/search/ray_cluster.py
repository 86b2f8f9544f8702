"""Ray: a private one on this machine for as long as a study runs, or a running cluster."""

import logging
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayError

from study.machine import ClusterError
from study.search.resources import Node, Resources

CONNECT_S = 5.0


@contextmanager
def connected(address: str, resources: Resources | None) -> Iterator[None]:
    """A connection to Ray: a private one of this size on this machine, or a cluster.

    Raises:
        ClusterError: Ray does not answer.
    """
    # Ray logs about its own state, which nobody reads; errors of trials are in the records
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    size = _private(resources) if address == "local" and resources else {}
    try:
        if ":" in address:  # Ray alone would try for minutes
            host, port = address.rsplit(":", 1)
            socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, **size)
    except (RayError, RuntimeError, ValueError, OverflowError, OSError) as error:
        raise ClusterError(f"Ray at {address} does not answer: {' '.join(str(error).split())[:300]}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _private(resources: Resources) -> dict[str, Any]:
    """How the private Ray is started: as large as the study, without a dashboard, with a token of its own."""
    if "RAY_AUTH_MODE" not in os.environ:  # else Ray would write a token, readable by all, to the home folder
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    return {
        "num_cpus": resources.cpus_per_trial * resources.concurrency,
        "num_gpus": _gpus_needed(resources),
        "include_dashboard": False,
        "object_store_memory": 100 * 2**20,
    }


def _gpus_needed(resources: Resources) -> int:
    per_trial = resources.gpus_per_trial
    if per_trial == 0:
        return 0
    if per_trial >= 1:
        return int(per_trial * resources.concurrency)
    return -(-resources.concurrency // int(1 / per_trial))


def connected_nodes() -> list[Node]:
    """The nodes of the cluster that this process is connected to."""
    return [
        Node(int(node.get("CPU", 0)), int(node.get("GPU", 0)), int(node.get("memory", 0)))
        for node in (entry["Resources"] for entry in ray.nodes() if entry["Alive"])
    ]


def check_cluster(resources: Resources) -> None:
    """Raise a ClusterError if no node is large enough for one trial, which would wait forever."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    wanted = {"CPU": resources.cpus_per_trial, "GPU": resources.gpus_per_trial}
    if not any(all(node.get(kind, 0) >= amount for kind, amount in wanted.items()) for node in nodes):
        raise ClusterError(
            f"no node of the cluster has the {wanted['CPU']} CPUs and {wanted['GPU']:g} GPUs of one trial; "
            "lower --cpus-per-trial or --gpus-per-trial"
        )
