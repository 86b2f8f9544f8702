import base64
import io
import zipfile

import pytest

from moe.store.location import place_at
from study.cluster import fetch, package
from study.cluster import jobs as actions
from study.cluster.options import read
from study.files import seal
from study.folder import Folder, FolderError
from study.machine import ClusterError
from study.study import Run
from study.submit import main
from tests.cluster_helpers import URL, details, jobs
from tests.study_helpers import STARTED, a_record, a_study


def a_run(second):
    return Run(
        started=STARTED.replace(second=second), command="study.run", commit=None, versions={}, store="default"
    )  # fmt: skip


@pytest.fixture
def there(tmp_path):
    """A study's folder on the cluster."""
    folder = Folder(tmp_path / "there" / "x")
    folder.trials.mkdir(parents=True)
    folder.write_study(a_study(name="x"), a_run(1))
    folder.write_record(a_record(1))
    others = {"trials.csv": b"trial\n1\n", "figures/gain.png": bytes(range(256)), ".lock": b"", ".tune/state": b"0",
              "trials/.partial-1": b"{", "weights.pt": b"0"}  # fmt: skip
    for name, content in others.items():
        (folder.path / name).parent.mkdir(parents=True, exist_ok=True)
        (folder.path / name).write_bytes(content)
    return folder


@pytest.fixture
def here(tmp_path):
    return Folder(tmp_path / "here" / "x")


def printed(archive: bytes) -> str:
    """The log of a job that sends an archive."""
    return f"INFO starting\n\n{fetch._PREFIX}{base64.b64encode(archive).decode()}\n"


def unpack(log, results, name):
    return fetch.receive_archive(fetch.archive_in(log), results, name)


def fetched(there, here):
    return fetch.receive_archive(fetch.pack(there.path), here.path.parent, here.path.name)


def test_a_folder_is_fetched_as_it_is_without_hidden_files_and_weights(there, here, capsys):
    assert fetched(there, here) == 0
    assert capsys.readouterr().out == f"Study x: 4 files in {here.path}\n"
    for name in ("study.json", "trials/0001.json", "trials.csv", "figures/gain.png"):
        assert (here.path / name).read_bytes() == (there.path / name).read_bytes()
    assert {path.name for path in here.path.iterdir()} == {"study.json", "trials", "trials.csv", "figures"}
    assert [path.name for path in here.trials.iterdir()] == ["0001.json"]
    assert here.read_records(here.read_study()) == [a_record(1)]


def test_a_later_fetch_replaces_what_has_changed(there, here):
    fetched(there, here)
    (there.path / "trials.csv").write_text("trial\n1\n2\n")
    there.write_record(a_record(2))
    there.write_study(a_study(name="x", trials=9), a_run(2))
    fetched(there, here)
    assert (here.path / "trials.csv").read_text() == "trial\n1\n2\n"
    assert here.read_study().trials == 9


def test_the_job_prints_the_folder_in_one_line_or_a_sentence(there, here, capsys):
    assert fetch.main([str(there.path.parent), "x"]) == 0
    assert unpack(f"noise{capsys.readouterr().out}noise", here.path.parent, "x") == 0
    assert "Study x: 4 files in" in capsys.readouterr().out
    assert fetch.main([str(there.path.parent), "y"]) == 4
    assert "holds no study" in capsys.readouterr().err


def test_a_folder_in_use_stays_as_it_is(there, here):
    fetched(there, here)
    with here.locked(), pytest.raises(FolderError, match="in use"):
        fetched(there, here)


def test_another_study_stays_as_it_is(there, here):
    here.trials.mkdir(parents=True)
    here.write_study(a_study(name="x"), a_run(9))
    with pytest.raises(FolderError, match="holds another study"):
        fetched(there, here)
    assert here.read_runs() == (a_run(9),)


def test_a_study_with_more_runs_here_stays_as_it_is(there, here):
    fetched(there, here)
    here.write_study(here.read_study(), a_run(2))
    (there.path / "trials.csv").write_text("old")
    with pytest.raises(FolderError, match="has more runs"):
        fetched(there, here)
    assert (here.path / "trials.csv").read_text() == "trial\n1\n"


@pytest.mark.parametrize("damaged", ["{", "[]", '{"runs": 1}', "\x00"])
def test_a_damaged_study_here_or_there_is_one_sentence(there, here, damaged):
    fetched(there, here)
    here.definition.write_text(damaged)
    with pytest.raises(FolderError, match=r"here/x/study.json "):
        fetched(there, here)
    there.definition.write_text(damaged)
    with pytest.raises(ClusterError, match=r"the fetched x/study.json "):
        fetched(there, here)


@pytest.mark.parametrize("damaged", ['{"tri', "{}", '{"schema_version": 2, "trial": 1}'])
def test_a_damaged_record_there_does_not_replace_a_good_one_here(there, here, damaged):
    fetched(there, here)
    (there.trials / "0001.json").write_text(damaged)
    with pytest.raises(ClusterError, match=r"the fetched x/trials/0001.json "):
        fetched(there, here)
    assert here.read_records(here.read_study()) == [a_record(1)]


@pytest.mark.parametrize("change", ["gain", "running", "failed"])
def test_a_finished_trial_that_is_another_there_stays_as_it_is(there, here, change):
    fetched(there, here)
    there.write_record({"gain": a_record(1, 0.02), "running": a_record(1, state="running"),
                        "failed": a_record(1, state="failed")}[change])  # fmt: skip
    there.write_record(a_record(2))
    with pytest.raises(FolderError, match=r"trials/0001.json is another trial than the fetched one"):
        fetched(there, here)
    assert here.read_records(here.read_study()) == [a_record(1)]


@pytest.mark.parametrize("name", ["confirm/plan.json", "confirm/choice-0500.json", "confirm-2/result.json"])
def test_another_confirmation_there_replaces_none_here(there, here, name):
    (there.path / name).parent.mkdir()
    (there.path / name).write_text("ours")
    fetched(there, here)
    fetched(there, here)
    (there.path / name).write_text("theirs")
    (there.path / "trials.csv").write_text("theirs")
    with pytest.raises(FolderError, match="is of another confirmation than the fetched one"):
        fetched(there, here)
    assert (here.path / name).read_text() == "ours"
    assert (here.path / "trials.csv").read_text() != "theirs"


def test_a_record_that_is_damaged_or_unfinished_here_is_replaced(there, here):
    there.write_record(a_record(2))
    fetched(there, here)
    (here.trials / "0001.json").write_text('{"tri')
    (here.trials / "0002.json").write_text(seal(a_record(2, state="running").as_json()))
    fetched(there, here)
    assert here.read_records(here.read_study()) == [a_record(1), a_record(2)]


def test_a_record_of_another_study_there_is_refused(there, here):
    there.write_record(a_record(2, replicate=3, seed=9))
    with pytest.raises(ClusterError, match=r"the fetched x/trials/0002.json .*seed"):
        fetched(there, here)
    assert not here.exists()


def test_nothing_is_written_through_a_link_that_leads_out_of_the_folder(there, here, tmp_path):
    fetched(there, here)
    (here.path / "figures" / "gain.png").unlink()
    (here.path / "figures").rmdir()
    (tmp_path / "documents").mkdir()
    (here.path / "figures").symlink_to(tmp_path / "documents")
    (here.path / "trials.csv").unlink()
    (here.path / "trials.csv").symlink_to(tmp_path / "mine.csv")
    with pytest.raises(FolderError, match="leads out of"):
        fetched(there, here)
    (here.path / "figures").unlink()
    fetched(there, here)  # the link to a file is replaced, not followed
    assert list(tmp_path.glob("documents/*")) + list(tmp_path.glob("mine.csv")) == []


def test_an_archive_that_would_fill_the_disk_writes_nothing(there, here, monkeypatch):
    packed = printed(fetch.pack(there.path))
    monkeypatch.setattr(fetch, "LARGEST_UNPACKED", 1000)
    with pytest.raises(ClusterError, match="too large"):
        unpack(packed, here.path.parent, "x")
    with pytest.raises(ClusterError, match="to send"):
        fetch.pack(there.path)
    assert not here.path.exists()


@pytest.mark.parametrize(
    "log", ["", "noise", f"{fetch._PREFIX}é", f"{fetch._PREFIX}AAAA", printed(b"")],
)  # fmt: skip
def test_what_is_damaged_on_the_way_writes_nothing(log, here):
    with pytest.raises(ClusterError):
        unpack(log, here.path.parent, "x")
    assert not here.path.exists()


def test_an_archive_that_was_cut_writes_nothing(there, here):
    archive = fetch.pack(there.path)
    for content in (archive[:-20], archive[:-8] + bytes(8)):
        with pytest.raises(ClusterError, match="damaged on the way"):
            fetch.receive_archive(content, here.path.parent, "x")
    assert not here.path.exists()


@pytest.mark.parametrize("damage", ["encrypted", "lzma"])
def test_an_archive_that_is_encrypted_or_no_lzma_writes_nothing(there, here, damage):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_LZMA) as packed:
        packed.writestr("study.json", bytes(100))
    content = bytearray(archive.getvalue())
    if damage == "encrypted":
        content[6] |= 1
        content[content.index(b"PK\1\2") + 8] |= 1
    else:
        at = 30 + len("study.json") + 4  # the properties, after the header
        content[at : at + 5] = b"\xff" * 5
    with pytest.raises(ClusterError, match="damaged on the way"):
        fetch.receive_archive(bytes(content), here.path.parent, "x")
    assert not here.path.exists()


def test_a_folder_that_is_too_large_for_a_log_is_refused(there, monkeypatch):
    monkeypatch.setattr(fetch, "LARGEST", 10)
    with pytest.raises(ClusterError, match="expected at most"):
        fetch.pack(there.path)


@pytest.mark.parametrize("name", ["../outside", "/tmp/../../outside", "trials/../../outside", ".lock", "../.x"])
def test_nothing_is_written_outside_the_folder_and_no_hidden_file(name, there, here):
    archive = io.BytesIO(fetch.pack(there.path))
    with zipfile.ZipFile(archive, "a") as packed:
        packed.writestr(zipfile.ZipInfo(name), "no record")
    before = set(there.path.parent.parent.rglob("*"))
    fetch.receive_archive(archive.getvalue(), here.path.parent, "x")
    new = {path for path in there.path.parent.parent.rglob("*") if path not in before} - {here.path.parent, here.path}
    assert all(path.is_relative_to(here.path) for path in new)
    assert not [path.name for path in new if path.name.startswith(".")]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr(".", "no record")
    with pytest.raises(ClusterError):
        fetch.receive_archive(archive.getvalue(), tmp_path / "here", "x")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def action(monkeypatch, there, here):
    """Runs `fetch` on a cluster; the exit code."""
    monkeypatch.setattr(package, "files", lambda _: [])

    def call(cluster, *words):
        return actions.fetch(read(["fetch", "--address", URL, *words, "--results", str(here.path.parent)]), cluster)

    return call


def test_a_fetch_takes_the_results_folder_from_the_job_or_from_the_command(action, there, here):
    log = printed(fetch.pack(there.path))
    cluster = jobs(details(metadata={"study": "x", "results": "/shared"}), log=log)
    assert action(cluster) == 0
    assert (
        cluster.server.submitted[-1]["entrypoint"] == "exec sh study/cluster/python.sh -m study.cluster.fetch /shared x"
    )
    cluster = jobs(log=log)  # one that was restarted
    assert action(cluster, "x", "--from", "/other") == 0
    assert (
        cluster.server.submitted[-1]["entrypoint"] == "exec sh study/cluster/python.sh -m study.cluster.fetch /other x"
    )
    assert here.exists()


def test_what_is_behind_a_url_is_fetched_without_the_cluster(action, there, here, request, capsys, monkeypatch):
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    url = f"memory://{request.node.name}"
    for name in ("study.json", "trials/0001.json", "figures/gain.png", "weights.pt"):
        place_at(url).replace(f"x/{name}", (there.path / name).read_bytes())
    cluster = jobs(details(metadata={"study": "x", "results": url}))
    assert action(cluster) == 0
    assert cluster.server.submitted == []
    words = ("--from", url, "--results", str(here.path.parent))
    for on in ("ray", "slurm", "kubernetes"):
        assert main(["fetch", "--on", on, "x", *words]) == 0
    assert here.read_records(here.read_study()) == [a_record(1)]
    assert (here.path / "figures" / "gain.png").exists()
    assert not (here.path / "weights.pt").exists()
    assert main(["fetch", "y", *words]) == 4
    there.definition.unlink()
    there.write_study(a_study(name="x"), a_run(2))
    place_at(url).replace("x/study.json", there.definition.read_bytes())
    assert main(["fetch", "x", *words]) == 4
    printed = capsys.readouterr().err
    assert "has no study y" in printed
    assert "holds another study" in printed


def test_a_fetch_that_fails_there_prints_the_last_line_of_its_job(action):
    cluster = jobs(details(), log="starting\nfetch: /r/x holds no study on the cluster\n", check=("FAILED", 4))
    with pytest.raises(ClusterError, match="holds no study on the cluster"):
        action(cluster, "x")


def test_what_a_driver_adds_just_before_the_folder_is_locked_is_not_lost(there, here, monkeypatch):
    fetched(there, here)
    locked = Folder.locked

    def add_and_lock(folder):
        monkeypatch.undo()
        folder.write_study(folder.read_study(), a_run(9))
        return locked(folder)

    monkeypatch.setattr(Folder, "locked", add_and_lock)
    with pytest.raises(FolderError, match="has more runs"):
        fetched(there, here)
    assert here.read_runs() == (a_run(1), a_run(9))
