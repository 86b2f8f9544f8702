import socket
import sys

import pytest

from study.cluster import preflight
from study.cluster.preflight import Check, Node, Wanted
from study.machine import versions

WANTED = Wanted(
    folders={"results": "/r", "store": "/s"}, dataset="cifar10", data_folder=None, fingerprint="f" * 64, mark=".check-1"
)


def a_node(name="node 10.0.0.2 (two)", **changes):
    return Node(**{"name": name, "versions": versions(), "problems": {}, **changes})


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


@pytest.mark.parametrize("place", ["{folder}/results", "memory://check/results"])
def test_a_shared_folder_is_usable_and_nothing_stays_in_it(place, tmp_path):
    place = place.format(folder=tmp_path)
    assert preflight.write_mark(place, ".check-1") is None
    assert preflight.unusable(place, ".check-1") is None
    preflight.remove_mark(place, ".check-1")
    files, root = preflight._open(place)
    assert files.ls(root) == []


def test_a_folder_of_the_nodes_own_is_unusable_and_is_not_made(tmp_path):
    preflight.write_mark(str(tmp_path / "driver"), ".check-1")
    assert "does not have" in preflight.unusable(str(tmp_path / "own"), ".check-1")
    assert not (tmp_path / "own").exists()


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    assert preflight.write_mark(str(tmp_path / "file" / "below"), ".check-1").startswith("cannot write there: ")
    assert preflight.write_mark("nowhere://bucket", ".check-1").startswith("cannot write there: ")


def test_the_checks_leave_nothing_behind_however_they_end(tmp_path):
    folders = {"results": str(tmp_path / "new" / "results"), "store": str(tmp_path / "stages")}
    wanted = Wanted(folders=folders, dataset="shapes", data_folder=None, fingerprint="", mark=".check-1")

    def end_early():
        with preflight._marks(wanted) as unwritable:
            assert unwritable == {}
            assert preflight._has_mark(folders["results"], ".check-1")
            sys.exit(1)

    with pytest.raises(SystemExit):
        end_early()
    assert list(tmp_path.iterdir()) == []


def test_a_node_has_the_data_or_the_reason(data, tmp_path, monkeypatch):
    assert preflight.missing_data("cifar10", tmp_path, data.fingerprint)
    assert preflight.missing_data("cifar10", None, data.fingerprint)  # it is not downloaded
    monkeypatch.setattr("moe.data.load", lambda *_, **__: data)
    assert preflight.missing_data("shapes", None, data.fingerprint) is None
    assert data.fingerprint[:12] in preflight.missing_data("shapes", None, "0" * 64)


def test_a_node_is_looked_at_as_a_whole(tmp_path):
    preflight.write_mark(str(tmp_path), ".check-1")
    wanted = Wanted(
        folders={"results": str(tmp_path)}, dataset="cifar10", data_folder=tmp_path, fingerprint="", mark=".check-1"
    )
    node = preflight.look(wanted, "10.0.0.1")
    assert node.name == f"node 10.0.0.1 ({socket.gethostname()})"
    assert (node.versions, set(node.problems)) == (versions(), {"data"})
