"""Checks of every node of a cluster before the first trial: versions, shared folders, data, room for one trial.

This process writes a file into the results and the store, and every node reads it. Each check prints one line.
"""

import contextlib
import os
import socket
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import ray
import torch
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import moe.pipeline  # noqa: F401  # what a trial imports: it must load on every node
from moe.config import FLOAT32, Precision
from moe.console import emit
from moe.data import DataError, DataSet, load
from moe.store.files import PlaceError
from moe.store.location import place_at
from moe.training.numerics import available_gpus, best_precision, configure_numerics
from study import machine
from study.cluster.arithmetic import Candidate, Kind, choose
from study.machine import ClusterError
from study.options import RayOptions
from study.rules import Rule
from study.search.ray_cluster import connected, connected_nodes
from study.search.resources import Resources, allot
from study.study import Record

NODES_S = 180.0  # for all nodes together, each of which may have to decode the data first
JOIN_S = 300.0  # for all nodes of a job to join
NODES = "STUDY_NODES"  # environment variable: how many those are
VISIBLE_S = 5.0  # a network file system may show a new file late
SAME_MINOR = ("python", "ray", "torch")  # with others a trial has other results, or does not run


@dataclass(frozen=True)
class Wanted:
    """What every node must have."""

    dataset: str
    data_folder: Path | None  # an absolute path where CIFAR-10 is; None for the cache
    fingerprint: str  # of the data
    precision: Precision | None  # None: the fastest of each node
    folders: Mapping[str, str]  # results and store: a path or a URL
    on_gpu: bool  # whether trials get GPUs
    mark: str = field(default_factory=lambda: f".check-{uuid.uuid4().hex}")  # the file that this process writes


@dataclass(frozen=True, kw_only=True)
class Node:
    """What one node has."""

    name: str
    versions: Mapping[str, str]
    problems: Mapping[str, str]  # why results, store or data cannot be used there
    id: str = ""  # Ray's
    kind: Kind | None = None  # of its arithmetic


class Check(NamedTuple):
    """One check and its outcome."""

    name: str
    ok: bool
    sentence: str

    def __str__(self) -> str:
        return f"{'ok' if self.ok else 'failed':<8}{self.name:<16}{self.sentence}"


def check_nodes(
    options: RayOptions,
    rules: tuple[Rule, ...],
    data: DataSet,
    folder: Path | None,
    precision: Precision | None,
    before: Sequence[Record],
) -> tuple[Resources, Precision]:
    """Check that every node can run the study's trials; what a trial gets of the cluster, and its precision.

    Args:
        options: of study.run or study.confirm, with the address of the cluster.
        rules: of the study's space, about resources.
        folder: where every node has the data; None for its cache.
        precision: None for the fastest.
        before: the trials that there are, whose arithmetic is kept.

    Raises:
        ClusterError: a check failed, or Ray does not answer.
    """
    folders = _places(options)
    with connected(options.address, None):
        _wait_for_nodes(int(os.environ.get(NODES, "1")))
        on_gpu = allot(options, list(connected_nodes().values()), rules).gpus_per_trial > 0
        wanted = Wanted(data.name, folder, data.fingerprint, precision, folders, on_gpu)
        with _marks(wanted) as problems:
            nodes, silent = _ask_all(wanted)
        driver = Node(name="the driver", versions=machine.versions(), problems=problems)
        trained = next((record.result.instructions for record in before if record.result), None)
        choice = choose(_candidates(options, nodes, on_gpu), trained, options.mixed)
        checks = [
            _reachable(nodes, silent),
            _versions(nodes),
            *_usable(wanted, [driver, *nodes], bool(options.store)),
            Check("arithmetic", choice.ok, choice.sentence),
        ]
        for check in checks:
            emit(str(check))
        if failed := [check.name for check in checks if not check.ok]:
            raise ClusterError(f"the cluster cannot run this study: see {', '.join(failed)} above")
        present = connected_nodes()
        resources = allot(options, [node for name, node in present.items() if name not in choice.idle], rules)
    return replace(resources, idle=choice.idle), precision or (choice.kind[0] if choice.kind else FLOAT32)


def _places(options: RayOptions) -> dict[str, str]:
    """What every node has to share; results behind a URL concern the driver alone."""
    results = {} if "://" in options.results else {"results": str(options.studies.absolute())}
    return {**results, **({"store": options.location} if options.location else {})}


def _candidates(options: RayOptions, nodes: list[Node], on_gpu: bool) -> list[Candidate]:
    """The nodes with room for a trial."""
    sizes = connected_nodes()
    share = (options.gpus_per_trial or 1) if on_gpu else 0
    places = {name: size.places(options.cpus_per_trial or 1, share) for name, size in sizes.items()}
    return [
        Candidate(id=node.id, name=node.name, places=places[node.id], kind=node.kind)
        for node in nodes
        if node.kind and places.get(node.id)
    ]


def _wait_for_nodes(count: int) -> None:
    """Wait until so many nodes have joined, for which a job starts Ray; raises a `ClusterError` if they do not."""
    end = time.monotonic() + JOIN_S
    while (joined := len(connected_nodes())) < count:
        if time.monotonic() > end:
            raise ClusterError(f"{joined} of {count} nodes joined the cluster within {JOIN_S:.0f} s")
        time.sleep(1)


@contextlib.contextmanager
def _marks(wanted: Wanted) -> Iterator[dict[str, str]]:
    """This process's file in every folder while nodes read it; why folders could not be written."""
    paths = [Path(place) for place in wanted.folders.values() if "://" not in place]
    new = [folder for path in paths for folder in (path, *path.parents) if not folder.exists()]
    problems = {}
    try:
        for use, place in wanted.folders.items():
            try:
                place_at(place).replace(wanted.mark, wanted.mark.encode())
            except (PlaceError, ValueError) as error:
                problems[use] = f"cannot write there: {error}"
        yield problems
    finally:
        for place in wanted.folders.values():
            with contextlib.suppress(PlaceError, ValueError):  # what could not be written need not be removed
                place_at(place).remove(wanted.mark)
        for folder in new:
            with contextlib.suppress(OSError):  # something is in it by now
                folder.rmdir()


def _ask_all(wanted: Wanted) -> tuple[list[Node], list[str]]:
    """What the nodes have, and why the others did not answer."""
    answers: dict[Any, tuple[str, str]] = {}
    for entry in ray.nodes():
        if entry["Alive"]:
            strategy = NodeAffinitySchedulingStrategy(entry["NodeID"], soft=False)
            # no CPU, so that a node whose CPUs are all in use answers as well
            # and in a process of its own, which gives back what it takes of a GPU
            task = ray.remote(num_cpus=0, max_calls=1, max_retries=0, scheduling_strategy=strategy)(look)
            address = entry["NodeManagerAddress"]
            answers[task.remote(wanted, address)] = entry["NodeID"], address
    answered, late = ray.wait(list(answers), num_returns=len(answers), timeout=NODES_S)
    nodes, silent = [], [f"node {answers[answer][1]} did not answer within {NODES_S:.0f} s" for answer in late]
    for answer in answered:
        try:
            nodes.append(replace(ray.get(answer), id=answers[answer][0]))
        except RayError as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1][:300]
            silent.append(f"node {answers[answer][1]} cannot run a trial: {reason}")
    return nodes, silent


def look(wanted: Wanted, address: str) -> Node:
    """What this node has; runs on every node."""
    problems = {use: unusable(place, wanted.mark) for use, place in wanted.folders.items()}
    problems["data"] = missing_data(wanted.dataset, wanted.data_folder, wanted.fingerprint)
    found = {use: why for use, why in problems.items() if why}
    name = f"node {address} ({socket.gethostname()})"
    return Node(name=name, versions=machine.versions(), problems=found, kind=_kind(wanted))


def _kind(wanted: Wanted) -> Kind | None:
    """The arithmetic of trials on this node; None where it has no GPU for them."""
    present = available_gpus() if wanted.on_gpu else (torch.device("cpu"),)
    if not present:
        return None
    precision = wanted.precision or best_precision(present[0].type)
    return precision, configure_numerics(present[0], precision).instructions


def missing_data(dataset: str, folder: Path | None, fingerprint: str) -> str | None:
    """Why this node cannot load the study's data; None where it can. Data that are not in the cache are decoded."""
    try:
        found = load(dataset, folder, download=False).fingerprint
    except DataError as error:
        return f"cannot load them: {error}"
    return None if found == fingerprint else f"has other data, {found[:12]}, than the driver, {fingerprint[:12]}"


def unusable(location: str, mark: str) -> str | None:
    """Why a folder is not the one where another process wrote its file, or cannot be written; None where it can."""
    end = time.monotonic() + VISIBLE_S
    try:
        place = place_at(location)
        while place.read(mark) != mark.encode():
            if time.monotonic() > end:
                return "does not have what the driver wrote there"
            time.sleep(VISIBLE_S / 10)
        own = f"{mark}-{uuid.uuid4().hex}"
        place.replace(own, mark.encode())
        place.remove(own)
    except (PlaceError, ValueError) as error:
        return f"cannot be used there: {error}"
    return None


def _reachable(nodes: list[Node], silent: list[str]) -> Check:
    if silent:
        return Check("nodes", False, "; ".join(silent))
    names = [node.name for node in nodes]
    return Check("nodes", True, f"{len(nodes)}: {', '.join(names[:8])}{' ...' if len(nodes) > 8 else ''}")


def _versions(nodes: list[Node]) -> Check:
    ours = machine.versions()
    other = [
        (name in SAME_MINOR and version.split(".")[:2] != ours[name].split(".")[:2], node.name, name, version)
        for node in nodes
        for name, version in node.versions.items()
        if version != ours[name]
    ]
    wrong = [found for found in other if found[0]]
    same = ", ".join(f"{name} {ours[name]}" for name in SAME_MINOR)
    named = [f"{node} has {name} {version}; expected {ours[name]}" for _, node, name, version in wrong or other]
    return Check("versions", not wrong, "; ".join(named) or f"{same} on every node")


def _usable(wanted: Wanted, nodes: list[Node], store_given: bool) -> Iterator[Check]:
    """The checks of the folders and the data; a store that is not shared is refused only if it was asked for."""
    shared = "expected a writable folder that all nodes share"
    for use, what, expected in (
        ("results", wanted.folders.get("results"), shared),
        ("store", wanted.folders.get("store", "none"), f"{shared}, or a URL"),
        ("data", wanted.dataset, "expected --data with a folder that every node has, or --dataset shapes"),
    ):
        wrong = [f"{node.name} {node.problems[use]}" for node in nodes if use in node.problems]
        if what is None:
            continue
        if wrong and use == "store" and not store_given:
            yield Check(use, True, f"{what} is not the same on every node: with --store on shared disk more is reused")
        else:
            yield Check(use, not wrong, f"{what}: {wrong[0]}; {expected}" if wrong else f"{what}, on every node")
