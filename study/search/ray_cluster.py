"""Ray: a private one on this machine for as long as a study runs, or a running cluster."""

import logging
import os
import secrets
import signal
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
    """A connection to Ray: a private one of this size on this machine, or a cluster. Handlers of signals stay.

    Raises:
        ClusterError: Ray does not answer.
        KeyboardInterrupt: SIGTERM came while Ray started.
    """
    # Ray logs about its own state, which nobody reads; errors of trials are in the records
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    size = _private(resources) if address == "local" and resources else {}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if ":" in address:  # Ray alone would try for minutes
            host, port = address.rsplit(":", 1)
            socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, **size)
    except (RayError, RuntimeError, ValueError, OverflowError, OSError) as error:
        raise ClusterError(f"Ray at {address} does not answer: {' '.join(str(error).split())[:300]}") from error
    except SystemExit:  # of the handler that `ray.init` installs
        raise KeyboardInterrupt from None
    finally:
        if signal.getsignal(signal.SIGTERM) is not handler:
            signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        ray.shutdown()


def _private(resources: Resources) -> dict[str, Any]:
    """How the private Ray is started: as large as the study, without a dashboard, with a token of its own."""
    if "RAY_AUTH_MODE" not in os.environ:  # else Ray would write a token, readable by all, to the home folder
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    share = resources.gpus_per_trial  # a fraction of a GPU never spans two
    gpus = share * resources.concurrency if share >= 1 or not share else -(-resources.concurrency // int(1 / share))
    return {
        "num_cpus": resources.cpus_per_trial * resources.concurrency,
        "num_gpus": int(gpus),
        "include_dashboard": False,
        "object_store_memory": 100 * 2**20,
    }


def connected_nodes() -> dict[str, Node]:
    """The nodes of the cluster that this process is connected to, by Ray's id."""
    present = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
    kinds = ("CPU", "GPU", "memory")
    return {name: Node(*(int(each.get(kind, 0)) for kind in kinds)) for name, each in present.items()}


def check_cluster(resources: Resources) -> None:
    """Raise a ClusterError if no node is large enough for one trial, which would wait forever."""
    cpus, gpus = resources.cpus_per_trial, resources.gpus_per_trial
    if not any(node.places(cpus, gpus) for node in connected_nodes().values()):
        raise ClusterError(
            f"no node of the cluster has the {cpus} CPUs and {gpus:g} GPUs of one trial; "
            "lower --cpus-per-trial or --gpus-per-trial"
        )
