import os
import stat
import subprocess

import pytest
import ray

from study.machine import ClusterError
from study.search.ray_cluster import connected, private_folder
from study.search.resources import Resources

SMALL = Resources(cpus_per_trial=1, gpus_per_trial=0, concurrency=1)


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


def test_workers_of_a_private_ray_keep_freed_memory_in_one_heap(monkeypatch):
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with connected("local", SMALL):
        assert ray.get(ray.remote(lambda: os.environ.get("MALLOC_ARENA_MAX")).remote()) == "1"


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
