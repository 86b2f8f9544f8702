"""What is checked before a study is submitted, each in one line. Pure: facts in, verdicts out."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from study.cluster.package import LARGEST, Package
from study.folder import numbered
from study.options import Options

Facts = dict[str, Any]  # what `probe` answers


@dataclass(frozen=True)
class Check:
    """What was checked, and what came of it."""

    name: str
    ok: bool
    sentence: str

    def __str__(self) -> str:
        return f"{'ok' if self.ok else 'failed':<8}{self.name:<16}{self.sentence}"


def judge_package(package: Package) -> Check:
    """Whether the files are few enough to be sent."""
    limit = f"; expected at most {LARGEST // 2**20} MiB" if package.bytes > LARGEST else ""
    return Check("package", not limit, f"{package}{limit}")


def judge(facts: Facts, run: Options) -> Iterator[Check]:
    """The verdicts on what the nodes have.

    Args:
        facts: as `probe` answers.
        run: what study.run is to be given.
    """
    if "cluster" in facts:
        yield Check("nodes", False, facts["cluster"])
        return
    nodes = facts["nodes"]
    yield _nodes(nodes)
    if any(node["silent"] or node["lacks"] for node in nodes):
        return
    yield _python(nodes)
    yield _results(facts)
    yield _store(facts, run)
    yield _data(facts)
    yield Check("resources", not facts["room"], facts["room"] or "one trial fits on a node")
    if run.name:
        yield _name(facts, run.name, run.resume)


def _nodes(nodes: list[Facts]) -> Check:
    for node in nodes:
        if node["silent"]:
            return Check("nodes", False, f"{_named(node)} {node['silent']}")
        if node["lacks"]:
            return Check("nodes", False, f"{_named(node)} cannot run a trial: {node['lacks']}")
    return Check("nodes", True, f"{_counted(nodes)}: {', '.join(_named(node) for node in nodes[:8])}")


def _python(nodes: list[Facts]) -> Check:
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    for node in nodes:
        if node["python"].split(".")[:2] != ours.split("."):
            theirs = f"{_named(node)} has {node['python']}"
            return Check("Python", False, f"{theirs}; expected {ours}, as here")
    return Check("Python", True, f"{ours} on every node and here")


def _results(facts: Facts) -> Check:
    place, nodes = facts["places"]["results"], facts["nodes"]
    if place["wrong"]:
        return Check("results", False, f"{place['where']}: {place['wrong']}; expected {_shared(nodes)}")
    return Check("results", True, f"{place['where']}, {_the_same(nodes)}")


def _store(facts: Facts, run: Options) -> Check:
    place, nodes = facts["places"].get("store"), facts["nodes"]
    if not place:
        return Check("store", True, "none, as was asked for")
    if not place["wrong"]:
        return Check("store", True, f"{place['where']}, {_the_same(nodes)}")
    if run.store:
        return Check("store", False, f"{place['where']}: {place['wrong']}; expected {_shared(nodes)}, or a URL")
    return Check(
        "store", True, f"{place['where']}, not the same on every node: less is reused than with --store on shared disk"
    )


def _data(facts: Facts) -> Check:
    head, *others = facts["nodes"]
    if head["data"]["has"] is None:
        return _data_to_come(facts)
    for node in others:
        if node["data"]["has"] is None:
            return Check("data", False, f"{_named(node)}: {node['data']['why']}; {_DATA_EXPECTED}")
    return Check("data", True, f"{head['data']['has']} on every node: {head['data']['why']}")


_DATA_EXPECTED = "expected --data with a folder that every node sees, or --dataset shapes"


def _data_to_come(facts: Facts) -> Check:
    """What comes of a head node that has no data yet."""
    nodes, why = facts["nodes"], facts["nodes"][0]["data"]["why"]
    if facts["folder"]:
        return Check("data", False, f"{_named(nodes[0])}: {why}; {_DATA_EXPECTED}")
    if facts["downloadable"] and len(nodes) == 1:
        return Check("data", True, "CIFAR-10, which the study downloads first (170 MB)")
    if facts["downloadable"]:
        return Check("data", False, f"{why}, and only the head node would download it; {_DATA_EXPECTED}")
    if facts["dataset"] == "cifar10":
        return Check("data", False, f"{why} and cannot be downloaded; {_DATA_EXPECTED}")
    return Check("data", True, f"shapes, drawn by code: {why} and cannot be downloaded")


def _name(facts: Facts, name: str, resume: bool) -> Check:
    there = name in facts["studies"]
    where = facts["places"]["results"]["where"]
    if resume:
        known = ", ".join(facts["studies"][-5:]) or "none"
        sentence = f"{name}, in {where}" if there else f"{name} is not in {where}; expected a study there: {known}"
        return Check("study", there, sentence)
    sentence = f"{name} is in {where} already; resume it, or choose another --name" if there else name
    return Check("study", not there, sentence)


def free_names(facts: Facts, space: str, taken: set[str]) -> Iterator[str]:
    """Those of <dataset>-<space>-1, -2, ... that are neither folders there nor in `taken`."""
    dataset = facts["nodes"][0]["data"]["has"] or ("cifar10" if facts["downloadable"] else "shapes")
    return (name for name in numbered(f"{dataset}-{space}") if name not in {*facts["taken"], *taken})


def _named(node: Facts) -> str:
    host = f" ({node['host']})" if node.get("host") else ""
    return f"node {node['ip']}{host}"


def _counted(nodes: list[Facts]) -> str:
    return "1 node" if len(nodes) == 1 else f"{len(nodes)} nodes"


def _the_same(nodes: list[Facts]) -> str:
    return "which can be written" if len(nodes) == 1 else f"the same on all {len(nodes)} nodes"


def _shared(nodes: list[Facts]) -> str:
    return "a folder that can be written" if len(nodes) == 1 else f"a folder that all {len(nodes)} nodes share"
