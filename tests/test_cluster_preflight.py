import socket
import sys

import pytest

from study.cluster import preflight
from study.cluster.preflight import Check, Node, Wanted
from study.machine import versions

WANTED = Wanted(
    folders={"results": "/r", "store": "/s"}, dataset="cifar10", data_folder=None, fingerprint="f" * 64, mark=".check-1"
)
GOOD = {"results": None, "store": None}


def a_node(name="node 10.0.0.2 (two)", **changes):
    return Node(**{"name": name, "versions": versions(), "folders": GOOD, "data": None, **changes})


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
    ("use", "needed", "ok"), [("results", True, False), ("store", True, False), ("store", False, True)]
)
def test_a_folder_that_a_node_does_not_share_is_refused_where_it_is_needed(use, needed, ok):
    wrong = a_node(folders={**GOOD, use: "does not have what the driver wrote there"})
    check = preflight._folder(use, WANTED, None, [a_node(), wrong], needed)
    assert (check.name, check.ok) == (use, ok)
    assert ok or wrong.name in check.sentence
    assert preflight._folder(use, WANTED, None, [a_node()], needed).ok


def test_a_folder_that_the_driver_cannot_write_is_refused():
    check = preflight._folder("results", WANTED, "cannot write there: Permission denied", [], True)
    assert (check.ok, "the driver cannot write there: Permission denied" in check.sentence) == (False, True)


def test_data_that_a_node_cannot_load_are_refused_with_the_way_out():
    assert preflight._data(WANTED, [a_node(), a_node()]).ok
    check = preflight._data(WANTED, [a_node(), a_node("node 3", data="/d is not a folder")])
    assert (check.ok, "node 3: /d is not a folder; expected --data" in check.sentence) == (False, True)


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
            assert unwritable == GOOD
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
    assert (node.versions, node.folders) == (versions(), {"results": None})
    assert node.data
