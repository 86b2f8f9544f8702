import socket
import sys
from dataclasses import replace

import pytest
import torch

from moe.store.location import place_at
from moe.training.numerics import configure_numerics
from study.cluster import preflight
from study.cluster.arithmetic import Candidate, choose
from study.cluster.preflight import Check, Node, Wanted
from study.machine import ClusterError, versions
from study.options import parse

WANTED = Wanted(
    folders={"results": "/r", "store": "/s"},
    dataset="cifar10",
    data_folder=None,
    fingerprint="f" * 64,
    precision=None,
    on_gpu=False,
    mark=".check-1",
)


def a_node(name="node 10.0.0.2 (two)", **changes):
    return Node(**{"name": name, "versions": versions(), "problems": {}, **changes})


def wanted_in(results, dataset="shapes", data_folder=None, **folders):
    return Wanted(
        folders={"results": results, **folders},
        dataset=dataset,
        data_folder=data_folder,
        fingerprint="",
        precision="float32",
        on_gpu=False,
        mark=".check-1",
    )


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(preflight, "VISIBLE_S", 0.05)


def test_a_check_is_one_line_with_its_outcome():
    assert str(Check("results", True, "/r, writable")) == "ok      results         /r, writable"
    assert str(Check("data", False, "is missing")).startswith("failed  data ")


def test_nodes_that_do_not_answer_are_named():
    assert preflight._reachable([a_node()], []).ok
    check = preflight._reachable([a_node()], ["node 10.0.0.3 cannot run a trial: No module named 'torch'"])
    assert (check.ok, "10.0.0.3" in check.sentence, "torch" in check.sentence) == (False, True, True)


def test_the_nodes_of_a_job_are_waited_for(monkeypatch):
    joined = iter([[1], [1], [1, 2]])
    monkeypatch.setattr(preflight.time, "sleep", lambda _: None)
    monkeypatch.setattr(preflight, "connected_nodes", lambda: next(joined))
    preflight._wait_for_nodes(2)
    assert next(joined, None) is None
    monkeypatch.setattr(preflight, "connected_nodes", lambda: [1])
    monkeypatch.setattr(preflight, "JOIN_S", 0)
    with pytest.raises(ClusterError, match="1 of 2 nodes joined"):
        preflight._wait_for_nodes(2)


@pytest.mark.parametrize("name", ["python", "ray", "torch"])
def test_another_minor_version_is_refused_with_its_node(name):
    check = preflight._versions([a_node("node 1"), a_node("node 2", versions={**versions(), name: "3.99.1"})])
    assert (check.ok, f"node 2 has {name} 3.99.1; expected {versions()[name]}" in check.sentence) == (False, True)


def test_other_versions_are_named_and_pass():
    assert preflight._versions([a_node(), a_node()]).ok
    check = preflight._versions([a_node(versions={**versions(), "pandas": "0.1"})])
    assert (check.ok, "pandas 0.1" in check.sentence) == (True, True)


@pytest.mark.parametrize(
    ("use", "store_given", "ok"),
    [("results", False, False), ("data", False, False), ("store", True, False), ("store", False, True)],
)
def test_what_a_node_cannot_use_is_refused_but_for_a_store_that_was_not_asked_for(use, store_given, ok):
    wrong = a_node("node 3", problems={use: "cannot be read"})
    checks = {check.name: check for check in preflight._usable(WANTED, [a_node(), wrong], store_given)}
    assert list(checks) == ["results", "store", "data"]
    assert {name for name, check in checks.items() if not check.ok} == ({use} if not ok else set())
    assert ok or "node 3 cannot be read; expected" in checks[use].sentence
    assert all(check.ok for check in preflight._usable(WANTED, [a_node()], store_given))


def test_nodes_need_no_access_to_results_behind_a_url():
    wanted = replace(WANTED, folders=preflight._places(parse(["--results", "s3://bucket/r", "--store", "/s"])))
    assert [check.name for check in preflight._usable(wanted, [a_node()], True)] == ["store", "data"]


@pytest.mark.parametrize("location", ["{folder}/results", "memory://check/results"])
def test_a_shared_folder_is_usable_and_nothing_stays_in_it(location, tmp_path):
    place = place_at(location.format(folder=tmp_path))
    with preflight._marks(wanted_in(place.name)) as unwritable:
        assert unwritable == {}
        assert preflight.unusable(place.name, ".check-1") is None
    assert place.files("") == {}


def test_a_folder_of_the_nodes_own_is_unusable_and_is_not_made(tmp_path):
    with preflight._marks(wanted_in(str(tmp_path / "driver"))):
        assert "does not have" in preflight.unusable(str(tmp_path / "own"), ".check-1")
        assert not (tmp_path / "own").exists()


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    for location in (str(tmp_path / "file" / "below"), "nowhere://bucket"):
        with preflight._marks(wanted_in(location)) as unwritable:
            assert unwritable["results"].startswith("cannot write there: ")
        assert preflight.unusable(location, ".check-1")


def test_the_checks_leave_nothing_behind_however_they_end(tmp_path):
    results = str(tmp_path / "new" / "results")

    def end_early():
        with preflight._marks(wanted_in(results, store=str(tmp_path / "stages"))) as unwritable:
            assert unwritable == {}
            assert place_at(results).read(".check-1") == b".check-1"
            sys.exit(1)

    with pytest.raises(SystemExit):
        end_early()
    assert list(tmp_path.iterdir()) == []


def test_a_node_has_the_data_or_the_reason(data, tmp_path, monkeypatch):
    assert preflight.missing_data("cifar10", tmp_path, data.fingerprint)
    assert preflight.missing_data("cifar10", None, data.fingerprint)  # it is not downloaded
    monkeypatch.setattr(preflight, "load", lambda *_, **__: data)
    assert preflight.missing_data("shapes", None, data.fingerprint) is None
    assert data.fingerprint[:12] in preflight.missing_data("shapes", None, "0" * 64)


def test_a_node_is_looked_at_as_a_whole(tmp_path):
    wanted = wanted_in(str(tmp_path), dataset="cifar10", data_folder=tmp_path)
    with preflight._marks(wanted):
        node = preflight.look(wanted, "10.0.0.1")
    assert node.name == f"node 10.0.0.1 ({socket.gethostname()})"
    assert (node.versions, set(node.problems)) == (versions(), {"data"})


def candidates(*kinds):
    """Nodes with so much room, each of a kind."""
    named = enumerate(kinds, 1)
    return [
        Candidate(id=f"id{n}", name=f"node {n}", places=places, kind=("float32", kind)) for n, (places, kind) in named
    ]


@pytest.mark.parametrize(
    ("kinds", "before", "mixed", "kind", "idle"),
    [
        ([(4, "AVX512")], None, False, "AVX512", ()),
        ([(4, "AVX2"), (3, "AVX512"), (2, "AVX512")], None, False, "AVX512", ("id1",)),
        ([(4, "AVX2"), (3, "AVX512"), (2, "AVX512")], "AVX2", False, "AVX2", ("id2", "id3")),
        ([(4, "AVX2"), (5, "AVX512")], None, True, "AVX512", ()),
        ([(4, "AVX2"), (5, "AVX512")], "H100, CUDA 12", True, "AVX512", ()),
    ],
)
def test_a_study_is_trained_by_nodes_of_one_arithmetic(kinds, before, mixed, kind, idle):
    choice = choose(candidates(*kinds), before, mixed)
    assert (choice.ok, choice.kind, choice.idle) == (True, ("float32", kind), idle)
    for place, (_, other) in enumerate(kinds, 1):
        assert (f"node {place} has {other}" in choice.sentence) == (other != kind)
    assert ("gets no trial" in choice.sentence) == bool(idle)


def test_a_study_of_another_arithmetic_than_all_nodes_is_refused():
    choice = choose(candidates((4, "AVX2")), "AVX512", mixed=False)
    assert (choice.ok, choice.sentence) == (
        False, "AVX2; expected AVX512, which trained the trials before, or --mixed"
    )  # fmt: skip


def test_a_node_says_which_arithmetic_it_has(tmp_path):
    node = preflight.look(wanted_in(str(tmp_path)), "10.0.0.1")
    assert node.kind == ("float32", configure_numerics(torch.device("cpu"), "float32").instructions)
    assert preflight._kind(replace(wanted_in(str(tmp_path)), on_gpu=True)) is None or torch.cuda.is_available()
