"""What a fetch brings, and what it leaves as it is."""

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
from study.submit import main
from tests.cluster_helpers import URL, details, jobs
from tests.fetch.helpers import a_run, fetched, printed, unpack
from tests.study_helpers import a_record, a_study


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
