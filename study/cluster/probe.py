"""Asks every node of a cluster, as a job on it: `python -m study.submit.probe WORDS`, the answer in its log.

    head writes a file --> every node reads it and writes another --> head reads those: one folder, or not

WORDS are the options of study.run, in JSON. Nothing is judged here but the resources, by the code that the study
itself will use.
"""

import contextlib
import io
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from study.cluster import node
from study.cluster.wire import answer
from study.folder import Folder, FolderError, study_folders
from study.machine import ClusterError
from study.options import Options, parse
from study.search.ray_cluster import check_cluster, connected, connected_nodes
from study.search.resources import allot

NODES_S = 45.0  # for all nodes together, which look at the same time


@dataclass(frozen=True)
class Answer:
    """What a node found; `silent` says why there is nothing."""

    id: str
    ip: str
    silent: str | None
    found: dict[str, Any]


def main(words: list[str]) -> None:
    """Answer with what there is for a study with these options."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # withdrawn: nothing is to be left in the places
    run = parse(words)
    try:
        answer(probe(run))
    except (ClusterError, FolderError) as error:
        answer({"cluster": str(error)})


def probe(run: Options) -> dict[str, Any]:
    """What there is on the cluster, for `checks.judge`.

    Raises:
        ClusterError: Ray does not answer here.
    """
    dataset, folder = data_of(run)
    places = {"results": str(run.results)} | ({"store": location} if (location := run.location) else {})
    question = node.Question(
        places=places,
        dataset=dataset,
        folder=folder,
        mark=node.new_mark(),
        content=os.urandom(16),
    )
    with marks(question):
        found = look(run, question)
    return {
        **found,
        "dataset": dataset,
        "folder": folder,
        "downloadable": dataset != "shapes" and not folder and node.downloadable(),
        "taken": [path.name for path in run.results.glob("[!.]*")],
        "studies": [path.name for path in study_folders(run.results)],
    }


@contextlib.contextmanager
def marks(question: node.Question) -> Iterator[None]:
    """Leave nothing behind in the places, whatever ends the look at them."""
    places = question.places.values()
    new = [folder for place in places for folder in node.missing(place)]
    try:
        yield
    finally:
        for place in places:
            with contextlib.suppress(Exception):  # what could not be written need not go
                node.wipe(place, question.mark)
                node.wipe_old(place)
        for path in new:
            with contextlib.suppress(OSError):  # something is in it by now
                path.rmdir()


def look(run: Options, question: node.Question) -> dict[str, Any]:
    """What every node has, which places are not shared, and whether a trial has room."""
    with connected("auto", None):
        unwritten = {use: node.write_mark(place, question, node.HEAD) for use, place in question.places.items()}
        nodes = ask_all(question)
        wrong = {
            use: f"the head node {reason}" if (reason := unwritten[use]) else not_shared(use, question, nodes)
            for use in question.places
        }
        room = no_room(run)
    return {
        "nodes": [{"ip": one.ip, "silent": one.silent, **one.found} for one in nodes],
        "places": {use: {"where": place, "wrong": wrong[use]} for use, place in question.places.items()},
        "room": room,
    }


def data_of(run: Options) -> tuple[str, str | None]:
    """Which data set the study will have, and the folder with CIFAR-10 if it names one."""
    folder = Folder(run.results / run.name) if run.name and run.resume else None
    before = folder.read_study() if folder and folder.exists() else None
    dataset = run.dataset or (before.dataset if before else "auto")
    named = str(run.data) if run.data else before.data_folder if before else None
    return dataset, node.data_folder(named, dataset)


def ask_all(question: node.Question) -> list[Answer]:
    """What each node found, this one first."""
    here = ray.get_runtime_context().get_node_id()
    alive = sorted((entry for entry in ray.nodes() if entry["Alive"]), key=lambda entry: entry["NodeID"] != here)
    looking = [(entry["NodeID"], entry["NodeManagerAddress"], _look(entry["NodeID"], question)) for entry in alive]
    end = time.monotonic() + NODES_S
    return [Answer(identity, ip, *_heard(reference, end)) for identity, ip, reference in looking]


def _look(identity: str, question: node.Question) -> Any:
    there = NodeAffinitySchedulingStrategy(identity, soft=False)
    # no CPU, so that a node that is busy with trials answers as well
    task = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(node.look)
    return task.remote(question, identity)


def _heard(reference: Any, end: float) -> tuple[str | None, dict[str, Any]]:
    try:
        return None, ray.get(reference, timeout=max(0.1, end - time.monotonic()))
    except GetTimeoutError:
        return f"did not answer within {NODES_S:.0f} s", {}
    except RayError as error:
        return f"did not answer: {' '.join(str(error).split())[:300]}", {}


def not_shared(use: str, question: node.Question, nodes: list[Answer]) -> str | None:
    """Which node does not share a place with this one; None where all do."""
    for one in nodes:
        if "places" not in one.found:
            continue
        wrong = one.found["places"][use]
        if wrong is None and (unseen := node.read_mark(question.places[use], question, one.id)) is not None:
            wrong = f"writes there what the head node does not see{unseen}"
        if wrong:
            return f"node {one.ip} {wrong}"
    return None


def no_room(run: Options) -> str | None:
    """Why the cluster cannot hold one trial; None if it can."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            check_cluster(allot(run, connected_nodes()))
    except ClusterError as error:
        return str(error)
    except SystemExit:  # the options ask for more than there is
        return said.getvalue().strip().split(": ", 1)[-1]
    return None


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
