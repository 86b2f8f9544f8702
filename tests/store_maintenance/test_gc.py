"""What is evicted, and what stays."""

import os
import time

import pytest
from rich.filesize import decimal

from moe import run
from moe.stages import PIPELINE
from moe.store.__main__ import main
from moe.store.damage import find_damage, read_aside
from moe.store.entries import Entries
from moe.store.eviction import KEEP_S, delete, plan_gc
from moe.store.files import Local, PlaceError
from moe.store.locks import Owner
from moe.store.store import Store
from moe.store.tolerant import TolerantFiles
from tests.store_maintenance.helpers import (
    HEX,
    LONG_AGO,
    NOW,
    SMALL,
    age,
    entry,
    gc,
    kept,
    of_a_later_format,
    paths,
    plan_of,
    put,
    spec_of,
    sum_of,
    warned,
)


class TestPlan:
    @pytest.mark.parametrize(
        ("max_bytes", "chosen"),
        [(30, []), (29, ["old"]), (20, ["old"]), (19, ["old", "middle"]), (0, ["old", "middle", "new"])],
    )
    def test_the_least_recently_used_go_until_the_rest_fits(self, max_bytes, chosen):
        entries = [entry("new", LONG_AGO), entry("middle", LONG_AGO - 5), entry("old", LONG_AGO - 9)]
        plan = plan_gc(entries, {}, max_bytes, NOW)
        assert [found.folder for found in plan.chains] == [f"gate/{name}" for name in chosen]
        assert len(plan.kept) == 3 - len(chosen)

    @pytest.mark.parametrize(("ago_s", "stays"), [(KEEP_S - 1, True), (KEEP_S, False), (0, True), (-KEEP_S, True)])
    def test_what_was_used_in_the_last_day_stays_and_what_another_clock_dates_later(self, ago_s, stays):
        one = entry("one", NOW - ago_s)
        assert plan_gc([one], {}, 0, NOW).kept == ((one,) if stays else ())

    def test_what_has_no_time_of_use_is_the_first_to_go(self):
        entries = [entry("used", 5.0), entry("unknown", None)]
        assert [found.folder for found in plan_gc(entries, {}, 10, NOW).chains] == ["gate/unknown"]


class TestGc:
    def test_what_is_evicted_is_trained_again_to_the_same_score(self, folder, trained, data, capsys):
        used = next(folder.glob("gate/*/used-0"))
        used.unlink()
        used.write_text("5.0")
        assert main(["--store", str(folder), "gc", "--max-bytes", str(sum_of(folder) - 1)]) == 0
        assert "1 chain (" in capsys.readouterr().out
        assert {path.split("/")[0] for path in paths(folder)} == set(PIPELINE) - {"gate"}
        with Store(str(folder), warn=warned) as store:
            again = run(SMALL, data, store)
        assert again.score == trained[1].score
        assert {name for name, stage in again.stages.items() if not stage.epochs_reused} == {"gate"}

    def test_no_file_is_left_of_an_emptied_store(self, folder):
        gc(Local(folder), 0, time.time() + 2 * KEEP_S)
        assert paths(folder) == []

    def test_a_dry_run_shows_what_would_go_and_deletes_nothing(self, folder, capsys):
        age(folder)
        before = paths(folder)
        assert main(["--store", str(folder), "gc", "--max-bytes", "0", "--dry-run"]) == 0
        said = capsys.readouterr().out
        assert f"Would free {decimal(sum_of(folder))}: 5 chains" in said
        assert all(path.split("/")[1][:8] in said for path in before)
        assert paths(folder) == before

    def test_what_a_run_has_used_stays_for_a_day(self, folder, data, capsys):
        age(folder)
        before = {path for path in paths(folder) if not path.endswith("used-0")}
        with Store(str(folder), warn=warned) as store:
            run(SMALL, data, store)
        assert main(["--store", str(folder), "gc", "--max-bytes", "1 kB"]) == 0
        said = capsys.readouterr().out
        assert "Freed 0 bytes: 0 chains" in said
        assert "more than 1.0 kB" in said
        assert before <= set(paths(folder))
        age(folder)
        assert main(["--store", str(folder), "gc", "--max-bytes", "1 kB"]) == 0
        assert "more than" not in capsys.readouterr().out
        assert paths(folder) == []

    def test_help_names_the_day(self, capsys):
        with pytest.raises(SystemExit):
            main(["gc", "--help"])
        assert "24 hours" in " ".join(capsys.readouterr().out.split())

    def test_a_use_is_written_again_after_an_hour(self, tmp_path, monkeypatch):
        place = Local(tmp_path)
        folder, clock = put(place), [1000.0]
        monkeypatch.setattr("moe.store.store.time.time", lambda: NOW + clock[0])
        monkeypatch.setattr("moe.store.store.time.monotonic", lambda: clock[0])
        with Store(str(tmp_path), warn=warned) as store:
            for clock[0], used in ((1000.0, 1000.0), (4599.0, 1000.0), (4600.0, 4600.0)):
                store.chain(spec_of(0))
                store.flush()
                assert float(place.read(f"{folder}/used-0")) == NOW + used

    def test_at_every_moment_a_reader_finds_a_whole_chain_or_none(self, place, monkeypatch):
        folder, remove, moments = put(place, epochs=3), place.remove, []
        reader = Entries(TolerantFiles(place, warned, 0), warned)  # a warning would be a damaged chain
        spec = spec_of(0)
        before, plan = reader.newest(spec), plan_of(place)

        def watched(path):
            remove(path)
            found = reader.newest(spec)
            states = [reader.load(folder, before, content) for content in before.weights.values()]
            moments.append((found, states))
            if found:
                assert all(states)

        monkeypatch.setattr(place, "remove", watched)
        assert len(delete(place, plan).chains) == 1
        assert moments[0][0] is None
        assert len(moments) == 4
        assert kept(place) == set()
        assert place.files("aside/gate") == {}
        assert read_aside(place) == {}

    def test_a_sign_of_use_goes_last(self, place, monkeypatch):
        folder, gone = put(place), []
        place.replace(f"{folder}/lease-0001.json", b"{}")
        files, remove = place.files, place.remove
        monkeypatch.setattr(place, "files", lambda folder: dict(sorted(files(folder).items(), reverse=True)))
        monkeypatch.setattr(place, "remove", lambda path: (gone.append(path.split("/")[-1][:5]), remove(path)))
        gc(place)
        assert (gone[0], {*gone[-2:]}) == ("chain", {"lease", "used-"})

    def test_a_chain_that_came_into_use_after_it_was_listed_stays(self, place):
        idle, busy = put(place, 0), put(place, 1)
        planned = plan_of(place)
        place.replace(f"{busy}/used-0", str(NOW + 1).encode())
        done = delete(place, planned)
        assert [entry.folder for entry in done.chains] == [idle]
        assert [entry.folder for entry in done.used] == [busy]
        assert kept(place) == {busy}
        assert find_damage(place, busy).faults == {}

    def test_a_chain_whose_trainer_s_beat_cannot_be_read_stays_and_that_is_reported(self, place, monkeypatch):
        folder, read = put(place), place.read
        place.replace(f"{folder}/lease-0001.json", Owner.of(os.getpid()).model_dump_json().encode())

        def fail(path):
            if path.endswith(".beat"):
                raise PlaceError("no answer")
            return read(path)

        planned = plan_of(place)
        monkeypatch.setattr(place, "read", fail)
        done = delete(place, planned, pause_s=0)
        assert (done.chains, done.errors) == ((), ("no answer",))
        assert kept(place) == {folder}

    @pytest.mark.parametrize("sign", ["used-0", "used-7", "lease-0002.json"])
    def test_leftovers_stay_where_a_training_began_after_they_were_listed(self, place, sign):
        busy, idle = f"gate/{HEX}", f"gate/{'b' * 32}"
        for folder in (busy, idle):
            for name, content in (
                ("used-0", str(LONG_AGO)),
                ("lease-0001.json", "{}"),
                (f"{'a' * 64}.safetensors", ""),
            ):
                place.replace(f"{folder}/{name}", content.encode())
        planned = plan_of(place)
        assert len(planned.leftovers) == 6
        place.replace(f"{busy}/{sign}", str(NOW).encode())
        done = delete(place, planned)
        assert place.files(busy).keys() == {sign, "used-0", "lease-0001.json", f"{'a' * 64}.safetensors"}
        assert place.files(idle) == {}
        assert {path.rpartition("/")[0] for path in done.leftovers} == {idle}

    def test_what_nobody_needs_goes_whatever_the_limit(self, place):
        folder = put(place, epochs=3)
        place.replace(f"{folder}/predictions-0001-stop-{'b' * 64}.safetensors", b"kept")
        whole = place.files(folder)
        place.replace(f"{folder}/{'a' * 64}.safetensors", b"never published")
        place.replace(f"{folder}/.partial-{HEX}", b"half")
        place.replace(f"{folder}/says-0001-stop-{'b' * 64}.safetensors", b"an earlier version's")
        place.replace(f"gate/{HEX}/{'a' * 64}.safetensors", b"never published")
        place.replace(f"gate/{HEX}/lease-0001.json", b"{}")
        place.replace(f"aside/{folder}/12345678-used", b"damaged")
        assert len(plan_of(place, 10**9).leftovers) == 6
        gc(place, 10**9)
        assert kept(place) == {folder}
        assert place.files(folder) == whole
        assert read_aside(place) == {}

    def test_what_may_be_in_the_making_stays_for_a_day(self, place):
        folder = put(place, used=NOW)
        making = f"{folder}/{'a' * 64}.safetensors", f"{folder}/.partial-{HEX}", f"gate/{HEX}/lease-0001.json"
        for path in making:
            place.replace(path, b"x")
        place.replace(f"gate/{HEX}/used-0", str(NOW - 9).encode())
        gc(place, 10**9)
        assert all(place.read(path) for path in making)

    def test_what_a_manifest_of_another_format_needs_is_not_taken_for_a_leftover(self, place):
        folder = put(place)
        before = place.files(folder)
        of_a_later_format(place, folder)
        gc(place, 10**9)
        assert place.files(folder).keys() == before.keys()

    def test_files_of_others_are_neither_seen_nor_deleted(self, tmp_path, capsys):
        for path in (
            "photos/2024/used",
            "gate/notes.txt",
            f"gate/{HEX}/my.txt",
            "aside/me/used",
            "sessions/me.json",
            f"aside/gate/{HEX}/me",
        ):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text("mine")
        before = paths(tmp_path)
        assert main(["--store", str(tmp_path), "ls"]) == 0
        assert "holds no chains yet" in capsys.readouterr().out
        assert main(["--store", str(tmp_path), "gc", "--max-bytes", "0"]) == 0
        assert paths(tmp_path) == before

    def test_nor_are_they_in_the_folder_of_a_chain(self, tmp_path):
        place = Local(tmp_path)
        folder = put(place)
        place.replace(f"{folder}/notes.txt", b"mine")
        gc(place)
        assert paths(tmp_path) == [f"{folder}/notes.txt"]
