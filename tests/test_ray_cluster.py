import os
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import ray

from study.machine import ClusterError
from study.search.ray_cluster import connected, private_folder
from study.search.resources import Resources

SMALL = Resources(cpus_per_trial=1, gpus_per_trial=0, concurrency=1)
LISTENING = """
import os
from study.guard import guarded
from study.options import parse

def work(options, command, stop):
    import ray
    from study.search.ray_cluster import connected
    from tests.benchmarks.cluster import below
    from tests.test_ray_cluster import SMALL, listening
    with connected("local", SMALL):
        ray.get(ray.remote(lambda: None).remote())
        print(sorted(listening([os.getpid(), *(pid for pid, _ in below(os.getpid()))])))
    return 0

guarded("x", parse, work, [])
"""


def listening(pids):
    """The addresses where these processes accept connections, in the hexadecimal digits of /proc."""
    sockets = set()
    for pid in pids:
        with suppress(OSError):
            sockets.update(os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir())
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()]
    return {row[1].split(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets}


def test_a_private_ray_accepts_connections_on_the_loopback_alone():
    done = subprocess.run([sys.executable, "-c", LISTENING], capture_output=True, text=True)
    assert done.stdout == "['0000000000000000FFFF00000100007F', '0100007F']\n", done.stderr


@pytest.mark.parametrize("error", [Exception("no node"), ConnectionError("x"), ray.exceptions.RaySystemError("x")])
def test_whatever_ray_raises_while_it_starts_is_one_sentence_with_a_way_out(monkeypatch, error):
    def init(**settings):
        raise error

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with pytest.raises(ClusterError, match=r"RAY_TMPDIR=/short/dir"), connected("local", SMALL):
        pass


def test_a_token_is_not_left_to_ray_to_write(monkeypatch):
    monkeypatch.setattr(ray, "init", lambda **settings: None)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    for mode, has_token in (("token", True), (None, True), ("disabled", False)):
        monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
        monkeypatch.setenv("RAY_AUTH_MODE", mode) if mode else monkeypatch.delenv("RAY_AUTH_MODE")
        with connected("local", SMALL):
            assert bool(os.environ.get("RAY_AUTH_TOKEN")) == has_token
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)


def test_nothing_of_a_private_ray_is_in_shared_memory_which_may_be_full_or_read_only(monkeypatch):
    settings = {}
    monkeypatch.setattr(ray, "init", lambda **given: settings.update(given))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with connected("local", SMALL):
        assert settings["_temp_dir"] == settings["_plasma_directory"] + "/ray"


def test_the_folder_of_a_private_ray_is_closed_to_others_and_gone_afterwards(monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    with private_folder() as folder:
        assert folder.parent == type(folder)(os.environ["RAY_TMPDIR"])
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "session").mkdir()
    assert not folder.exists()


def test_what_still_uses_the_folder_is_ended():
    with private_folder() as folder:
        (folder / "log").write_text("")
        with (folder / "log").open() as log:
            using = subprocess.Popen(["sleep", "60"], stdin=log)
    assert using.wait(20) == -9
    assert not folder.exists()


def test_a_driver_that_still_has_one_of_its_files_open_lives_on():
    with private_folder() as folder:
        log = (folder / "log").open("w")
    log.close()
    assert not folder.exists()


@pytest.mark.parametrize("place", ["/proc", "/nowhere", "/tmp/" + 90 * "x"])
def test_a_folder_that_ray_cannot_use_is_refused_with_a_way_out(monkeypatch, place):
    if place.startswith("/tmp"):
        os.makedirs(place, exist_ok=True)
    monkeypatch.setenv("RAY_TMPDIR", place)
    with pytest.raises(ClusterError, match=rf"{place}.*RAY_TMPDIR=/short/dir"), private_folder():
        pass
    if place.startswith("/tmp"):
        os.rmdir(place)
