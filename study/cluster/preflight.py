"""Checks of every node of a cluster before the first trial: versions, shared folders, data, room for one trial.

This process writes a file into the results and the store, and every node reads it. Each check prints one line.
"""

import contextlib
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from moe.console import emit
from study import machine
from study.machine import ClusterError
from study.options import Options
from study.search.ray_cluster import check_cluster, connected, connected_nodes
from study.search.resources import Resources, allot

NODES_S = 180.0  # for all nodes together, each of which may have to decode the data first
VISIBLE_S = 5.0  # a network file system may show a new file late
SAME_MINOR = ("python", "ray", "torch")  # with others a trial has other results, or does not run


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What every node must have."""

    folders: Mapping[str, str]  # results and store: a path or a URL
    dataset: str
    data_folder: Path | None
    fingerprint: str  # of the data
    mark: str  # name of the file that this process writes into the folders


@dataclass(frozen=True, kw_only=True)
class Node:
    """What one node has."""

    name: str
    versions: Mapping[str, str]
    problems: Mapping[str, str]  # why results, store or data cannot be used there


@dataclass(frozen=True)
class Check:
    """One check and its outcome."""

    name: str
    ok: bool
    sentence: str

    def __str__(self) -> str:
        return f"{'ok' if self.ok else 'failed':<8}{self.name:<16}{self.sentence}"


def check_nodes(options: Options, *, dataset: str, data_folder: Path | None, fingerprint: str) -> Resources:
    """Check that every node can run the study's trials; what a trial gets of the cluster.

    Args:
        options: of study.run, with the address of the cluster.
        dataset: the name of the data set.
        data_folder: an absolute path where CIFAR-10 is; None for the cache.
        fingerprint: of the data that this process loaded.

    Raises:
        ClusterError: a check failed, or Ray does not answer.
    """
    store = options.location
    wanted = Wanted(
        folders={"results": str(options.results.absolute()), **({"store": store} if store else {})},
        dataset=dataset,
        data_folder=data_folder,
        fingerprint=fingerprint,
        mark=f".check-{uuid.uuid4().hex}",
    )
    with connected(options.address, None):
        with _marks(wanted) as problems:
            nodes, silent = _ask_all(wanted)
        driver = Node(name="the driver", versions=machine.versions(), problems=problems)
        checks = [_reachable(nodes, silent), _versions(nodes), *_usable(wanted, [driver, *nodes], bool(options.store))]
        for check in checks:
            emit(str(check))
        if failed := [check.name for check in checks if not check.ok]:
            raise ClusterError(f"the cluster cannot run this study: see {', '.join(failed)} above")
        resources = allot(options, connected_nodes())
        check_cluster(resources)
    return resources


@contextlib.contextmanager
def _marks(wanted: Wanted) -> Iterator[dict[str, str]]:
    """This process's file in every folder while nodes read it; why folders could not be written."""
    paths = [Path(place) for place in wanted.folders.values() if "://" not in place]
    new = [folder for path in paths for folder in (path, *path.parents) if not folder.exists()]
    try:
        yield {use: why for use, place in wanted.folders.items() if (why := write_mark(place, wanted.mark))}
    finally:
        for place in wanted.folders.values():
            remove_mark(place, wanted.mark)
        for folder in new:
            with contextlib.suppress(OSError):  # something is in it by now
                folder.rmdir()


def _ask_all(wanted: Wanted) -> tuple[list[Node], list[str]]:
    """What the nodes have, and why the others did not answer."""
    alive = {entry["NodeID"]: entry["NodeManagerAddress"] for entry in ray.nodes() if entry["Alive"]}
    answers = {}
    for node_id in alive:
        strategy = NodeAffinitySchedulingStrategy(node_id, soft=False)
        # no CPU, so that a node whose CPUs are all in use answers as well
        answers[node_id] = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=strategy)(look).remote(
            wanted, alive[node_id]
        )
    nodes, silent, end = [], [], time.monotonic() + NODES_S
    for node_id, answer in answers.items():
        try:
            nodes.append(ray.get(answer, timeout=max(0.1, end - time.monotonic())))
        except GetTimeoutError:
            silent.append(f"node {alive[node_id]} did not answer within {NODES_S:.0f} s")
        except RayError as error:
            silent.append(f"node {alive[node_id]} cannot run a trial: {_last_line(error)}")
    return nodes, silent


def _last_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1][:300]


def look(wanted: Wanted, address: str) -> Node:
    """What this node has; runs on every node."""
    import moe.pipeline
    import moe.store  # noqa: F401  # what a trial imports

    problems = {use: unusable(place, wanted.mark) for use, place in wanted.folders.items()}
    problems["data"] = missing_data(wanted.dataset, wanted.data_folder, wanted.fingerprint)
    found = {use: why for use, why in problems.items() if why}
    return Node(name=f"node {address} ({socket.gethostname()})", versions=machine.versions(), problems=found)


def missing_data(dataset: str, folder: Path | None, fingerprint: str) -> str | None:
    """Why this node cannot load the study's data; None where it can. Data that are not in the cache are decoded."""
    from moe.data import DataError, load

    try:
        found = load(dataset, folder, download=False).fingerprint
    except DataError as error:
        return f"cannot load them: {error}"
    return None if found == fingerprint else f"has other data, {found[:12]}, than the driver, {fingerprint[:12]}"


def unusable(place: str, mark: str) -> str | None:
    """Why a folder is not the one where another process wrote its file, or cannot be written; None where it can."""
    end = time.monotonic() + VISIBLE_S
    while not _has_mark(place, mark):
        if time.monotonic() > end:
            return "does not have what the driver wrote there"
        time.sleep(VISIBLE_S / 10)
    own = f"{mark}-{uuid.uuid4().hex}"
    try:
        return write_mark(place, own)
    finally:
        remove_mark(place, own)


def write_mark(place: str, mark: str) -> str | None:
    """Write a small file into a folder; why it could not be written."""
    try:
        files, root = _open(place)
        if "s3" not in files.protocol:  # which has no folders
            files.makedirs(root, exist_ok=True)
        files.pipe_file(f"{root}/{mark}", mark.encode())
    except Exception as error:  # each service has errors of its own
        return f"cannot write there: {getattr(error, 'strerror', None) or error}"
    return None


def _has_mark(place: str, mark: str) -> bool:
    with contextlib.suppress(Exception):  # each service has errors of its own
        files, root = _open(place)
        return bool(files.cat_file(f"{root}/{mark}") == mark.encode())
    return False


def remove_mark(place: str, mark: str) -> None:
    """Remove the file that `write_mark` wrote, if it did."""
    with contextlib.suppress(Exception):  # what could not be written need not be removed
        files, root = _open(place)
        files.rm_file(f"{root}/{mark}")


def _open(place: str) -> tuple[Any, str]:
    """A file system and the path of a folder in it."""
    import fsspec

    files, root = fsspec.core.url_to_fs(place, use_listings_cache=False)
    return files, root.rstrip("/")


def _reachable(nodes: list[Node], silent: list[str]) -> Check:
    if silent:
        return Check("nodes", False, "; ".join(silent))
    names = [node.name for node in nodes]
    return Check("nodes", True, f"{len(nodes)}: {', '.join(names[:8])}{' ...' if len(nodes) > 8 else ''}")


def _versions(nodes: list[Node]) -> Check:
    ours = machine.versions()
    same = ", ".join(f"{name} {ours[name]}" for name in SAME_MINOR)
    other = [
        (name, version, f"{node.name} has {name} {version}; expected {ours[name]}, as the driver has")
        for node in nodes
        for name, version in node.versions.items()
        if version != ours[name]
    ]
    wrong = [text for name, version, text in other if name in SAME_MINOR and _minor(version) != _minor(ours[name])]
    return Check("versions", not wrong, "; ".join(wrong or [text for *_, text in other]) or f"{same} on every node")


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]


def _usable(wanted: Wanted, nodes: list[Node], store_given: bool) -> Iterator[Check]:
    """The checks of the folders and the data; a store that is not shared is refused only if it was asked for."""
    shared = "expected a writable folder that all nodes share"
    for use, what, expected in (
        ("results", wanted.folders["results"], shared),
        ("store", wanted.folders.get("store", "none"), f"{shared}, or a URL"),
        ("data", wanted.dataset, "expected --data with a folder that every node has, or --dataset shapes"),
    ):
        wrong = [f"{node.name} {node.problems[use]}" for node in nodes if use in node.problems]
        if wrong and use == "store" and not store_given:
            yield Check(use, True, f"{what} is not the same on every node: with --store on shared disk more is reused")
        else:
            yield Check(use, not wrong, f"{what}: {wrong[0]}; {expected}" if wrong else f"{what}, on every node")
