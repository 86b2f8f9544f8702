import json
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from moe import run
from moe.config import Config
from moe.stages import STAGES, plan
from moe.store.__main__ import main
from moe.store.care import Care
from moe.store.damage import check
from moe.store.entries import Entries, as_json, folder_of
from moe.store.eviction import SLACK_S, carry_out, choose, evict
from moe.store.eviction import plan as plan_gc
from moe.store.inventory import Entry, Presence, take
from moe.store.leases import Owner
from moe.store.local import Local
from moe.store.location import place_at
from moe.store.manifest import Manifest
from moe.store.place import PlaceError
from moe.store.session import DEAD_S
from moe.store.store import Store
from moe.store.words import ago, human, size
from moe.training.numerics import Numerics

SMALL = Config(epochs=2, train_examples=100, test_examples=50, batch_size=20)
NUMERICS = Numerics(device="cpu", torch="2.6", instructions="AVX2")
NOW = 1_800_000_000.0
HEX = uuid.UUID(int=7).hex


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A store in which one config has been trained, and its result."""
    folder = tmp_path_factory.mktemp("trained")
    with Store(str(folder)) as store:
        return folder, run(SMALL, data, store)


@pytest.fixture
def folder(trained, tmp_path):
    """A copy of it, of links: what is changed is written anew."""
    return Path(shutil.copytree(trained[0], tmp_path / "store", copy_function=os.link))


@pytest.fixture(params=["local", "memory"])
def place(request, tmp_path):
    """An empty place of each kind."""
    return place_at(str(tmp_path / "place") if request.param == "local" else f"memory://{uuid.uuid4().hex}")


def warned(sentence):
    raise AssertionError(sentence)


def spec_of(seed, stage="gate"):
    return plan(replace(SMALL, seed=seed), "f" * 64, NUMERICS)[stage].spec


def put(place, seed=0, used=NOW, stage="gate", epochs=1):
    """A chain of a few bytes, as a store writes it; its folder."""
    spec = spec_of(seed, stage)
    folder, entries = folder_of(spec), Entries(Care(place, warned, 0), warned)
    weights = {epoch: entries.put(folder, {"weight": torch.full((100,), seed + epoch / 10)}) for epoch in (1, epochs)}
    losses = tuple({"validation_loss": 1.0 / epoch} for epoch in range(1, epochs + 1))
    entries.publish(folder, Manifest(spec=as_json(spec), epochs=losses, weights=weights, end=None, made={}))
    if used is not None:
        place.replace(f"{folder}/used", str(used).encode())
    return folder


def arrive(place, since=NOW, beat=NOW, **more):
    """The file of a session; its path."""
    path = f"sessions/{uuid.uuid4().hex}.json"
    place.replace(path, json.dumps({"since": since, "beat": beat, **more}).encode())
    return path


def gc(place, max_bytes=0, now=NOW):
    return carry_out(place, plan_gc(take(place), max_bytes, now))


def kept(place):
    return {entry.folder for entry in take(place).entries if entry.files}


def paths(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def flip(path):
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)


def entry(name, used, size=10):
    return Entry(folder=f"gate/{name}", files={"used": size}, used=used)


def presence(since, beat=NOW):
    return Presence(path="sessions/x.json", bytes=1, since=since, beat=beat)


class TestWhatLiesInAStore:
    def test_it_is_what_was_trained(self, folder, trained):
        inventory = take(Local(folder))
        assert {entry.stage for entry in inventory.entries} == set(STAGES)
        assert {entry.epochs for entry in inventory.entries} == {2}
        assert {entry.stage: entry.predictions for entry in inventory.entries} == {
            **dict.fromkeys(STAGES, 2),
            "mixture": 1,
        }
        assert sum(entry.bytes for entry in inventory.entries) == sum(
            (trained[0] / path).stat().st_size for path in paths(trained[0])
        )
        assert all(0 <= time.time() - entry.used < 600 for entry in inventory.entries)

    def test_the_most_recently_used_comes_first(self, place):
        middle, last, unknown, first = (put(place, n, used) for n, used in enumerate([NOW, NOW - 9, None, NOW + 9]))
        assert [entry.folder for entry in take(place).entries] == [first, middle, last, unknown]

    def test_a_chain_that_is_only_begun_has_no_epochs(self, place):
        place.replace(f"gate/{HEX}/lease-0001.json", b"{}")
        (found,) = take(place).entries
        assert (found.epochs, found.used, found.bytes, found.unreadable) == (0, None, 2, False)

    @pytest.mark.parametrize("content", [b"", b"soon", b"nan", b"\xff"])
    def test_a_damaged_time_of_use_is_none(self, place, content):
        place.replace(f"{put(place)}/used", content)
        assert take(place).entries[0].used is None

    def test_a_damaged_session_is_not_alive(self, place):
        place.replace(arrive(place), b"[1]")
        assert not take(place).sessions[0].alive(NOW)


class TestVerify:
    @pytest.mark.parametrize("kind", [r"chain-.*", r"[0-9a-f]{64}\..*", r"says-.*"])
    def test_a_flipped_bit_is_found_named_and_made_good_by_the_next_run(self, folder, trained, data, kind, capsys):
        path = next(path for path in folder.glob("gate/*/*") if re.fullmatch(kind, path.name))
        flip(path)
        assert main(["--store", str(folder), "verify"]) == 5
        found, last = capsys.readouterr().out.splitlines()
        assert path.name in found
        assert "1 damaged, set aside" in last
        assert not path.exists()
        assert path.name in "".join(paths(folder / "aside"))
        assert main(["--store", str(folder), "verify"]) == 0
        assert "none damaged" in capsys.readouterr().out
        with Store(str(folder), warn=warned) as store:
            assert run(SMALL, data, store).score == trained[1].score

    def test_a_whole_store_is_counted(self, folder, capsys):
        before = paths(folder)
        hashed = [path for path in before if path.endswith(".safetensors") or "chain-" in path]
        total = sum((folder / path).stat().st_size for path in hashed)
        assert main(["--store", str(folder), "verify"]) == 0
        assert capsys.readouterr().out == f"{len(hashed)} files ({human(total)}) checked in {folder}: none damaged\n"
        assert paths(folder) == before

    def test_a_manifest_goes_with_what_it_lacks(self, place):
        folder = put(place, epochs=3)
        lost, *_ = (name for name in place.files(folder) if name.endswith(".safetensors"))
        place.remove(f"{folder}/{lost}")
        (damage,) = check(place, folder).damages
        assert damage.names == ("chain-0003.json",)
        assert damage.why == f"{lost} is missing"

    def test_a_manifest_goes_with_what_is_damaged_of_it(self, place):
        folder = put(place, epochs=3)
        bad, *_ = (name for name in place.files(folder) if name.endswith(".safetensors"))
        place.replace(f"{folder}/{bad}", b"half")
        (damage,) = check(place, folder).damages
        assert damage.names == ("chain-0003.json", bad)

    def test_content_that_no_manifest_needs_is_checked_too(self, place):
        place.replace(f"gate/{HEX}/{'a' * 64}.safetensors", b"half")
        assert [damage.names for damage in check(place, f"gate/{HEX}").damages] == [(f"{'a' * 64}.safetensors",)]

    def test_a_manifest_in_another_chains_folder_is_damage(self, place):
        here, there = put(place, 0), put(place, 1)
        for name in place.files(here):
            place.replace(f"{there}/{name}", place.read(f"{here}/{name}"))
        (damage,) = check(place, there).damages
        assert damage.why == "it belongs to another chain"

    def test_a_manifest_that_a_longer_one_replaces_meanwhile_is_no_damage(self, place, monkeypatch):
        folder = put(place)
        manifest = place.read(f"{folder}/chain-0001.json")

        def replaced(path):
            for name in place.files(folder):
                place.remove(f"{folder}/{name}")
            return manifest if path.endswith("chain-0001.json") else None

        monkeypatch.setattr(place, "read", replaced)
        assert check(place, folder).damages == ()

    def test_what_reads_well_the_second_time_is_no_damage(self, place, monkeypatch):
        folder, read, seen = put(place), place.read, set()

        def garbled(path):
            content = read(path)
            if path in seen:
                return content
            seen.add(path)
            return content[:-1]

        monkeypatch.setattr(place, "read", garbled)
        assert check(place, folder).damages == ()

    def test_damage_in_a_store_that_cannot_be_written_is_named_all_the_same(self, folder, monkeypatch, capsys):
        flip(next(folder.glob("gate/*/chain-*.json")))

        def refused(*_):
            raise PlaceError("read-only")

        monkeypatch.setattr(Local, "move", refused)
        assert main(["--store", str(folder), "verify"]) == 5
        found, last = capsys.readouterr().out.splitlines()
        assert "chain-0002.json: it is damaged" in found or "does not match" in found
        assert "not all of it set aside" in last
        assert "read-only" in last


class TestChoosing:
    @pytest.mark.parametrize(
        ("max_bytes", "chosen"),
        [(30, []), (29, ["old"]), (20, ["old"]), (19, ["old", "middle"]), (0, ["old", "middle", "new"])],
    )
    def test_the_least_recently_used_go_until_the_rest_fits(self, max_bytes, chosen):
        entries = [entry("new", NOW), entry("middle", NOW - 5), entry("old", NOW - 9)]
        assert [found.address for found in choose(entries, [], max_bytes, NOW)] == chosen

    def test_what_was_used_since_a_running_study_began_stays(self):
        entries = [entry("before", NOW - 1000 - SLACK_S - 1), entry("since", NOW - 1000 - SLACK_S)]
        assert [found.address for found in choose(entries, [presence(NOW - 1000)], 0, NOW)] == ["before"]

    def test_the_oldest_of_several_running_studies_counts(self):
        entries = [entry("long ago", NOW - 5000)]
        assert choose(entries, [presence(NOW - 10), presence(NOW - 6000), presence(NOW - 10)], 0, NOW) == []

    def test_a_study_whose_process_was_killed_protects_nothing_at_once(self, place):
        put(place)
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
            born = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
            owner = asdict(replace(Owner.me(), pid=process.pid, born=born))
            arrive(place, owner=owner)
            gc(place)
            assert len(kept(place)) == 1
            process.kill()
        gc(place)
        assert kept(place) == set()

    @pytest.mark.parametrize(("silent_s", "stays"), [(DEAD_S - 1, True), (DEAD_S, False), (-30, True)])
    def test_a_study_without_a_beat_protects_nothing(self, silent_s, stays):
        entries = [entry("one", NOW)]
        assert choose(entries, [presence(NOW, NOW - silent_s)], 0, NOW) == ([] if stays else entries)

    def test_without_a_sign_of_use_it_is_in_the_making_or_the_first_to_go(self):
        entries = [entry("used", 5.0), entry("unknown", None)]
        assert [found.address for found in choose(entries, [], 10, NOW)] == ["unknown"]
        assert [found.address for found in choose(entries, [presence(NOW)], 0, NOW)] == ["used"]


class TestGc:
    def test_what_is_evicted_is_trained_again_to_the_same_score(self, folder, trained, data, capsys):
        used = next(folder.glob("gate/*/used"))
        used.unlink()
        used.write_text("5.0")
        assert main(["--store", str(folder), "gc", "--max-bytes", str(sum_of(folder) - 1)]) == 0
        assert "1 chain (" in capsys.readouterr().out
        assert {path.split("/")[0] for path in paths(folder)} == set(STAGES) - {"gate"}
        with Store(str(folder), warn=warned) as store:
            again = run(SMALL, data, store)
        assert again.score == trained[1].score
        assert {name for name, stage in again.stages.items() if not stage.epochs_reused} == {"gate"}

    def test_nothing_is_left_of_an_emptied_store_not_even_folders(self, folder):
        gc(Local(folder), 0, time.time())
        assert list(folder.iterdir()) == []

    def test_a_dry_run_says_what_would_go_and_deletes_nothing(self, folder, capsys):
        before = paths(folder)
        assert main(["--store", str(folder), "gc", "--max-bytes", "0", "--dry-run"]) == 0
        said = capsys.readouterr().out
        assert f"Would free {human(sum_of(folder))}: 5 chains" in said
        assert all(path.split("/")[1][:8] in said for path in before)
        assert paths(folder) == before

    def test_a_store_at_work_keeps_what_it_uses_until_it_is_closed(self, folder, data, capsys):
        before = {path for path in paths(folder) if not path.endswith("used")}
        with Store(str(folder), warn=warned) as store:
            run(SMALL, data, store)
            assert main(["--store", str(folder), "gc", "--max-bytes", "1 kB"]) == 0
            said = capsys.readouterr().out
            assert "Freed 0 B: 0 chains" in said
            assert re.search(r"more than 1.0 kB: .* MB are needed by 1 running session\n", said)
            assert before <= set(paths(folder))
        assert main(["--store", str(folder), "gc", "--max-bytes", "1 kB"]) == 0
        assert "more than" not in capsys.readouterr().out
        assert paths(folder) == []

    def test_at_every_moment_a_reader_finds_a_whole_chain_or_none(self, place, monkeypatch):
        folder, remove, moments = put(place, epochs=3), place.remove, []
        reader = Entries(Care(place, warned, 0), warned)  # a warning would be a damaged chain
        spec = spec_of(0)
        before = reader.newest(spec)

        def watched(path):
            remove(path)
            found = reader.newest(spec)
            states = [reader.load(folder, before, content) for content in before.weights.values()]
            moments.append((found, states))
            if found:
                assert all(states)

        monkeypatch.setattr(place, "remove", watched)
        assert evict(place, take(place).entries[0])
        assert moments[0][0] is None
        assert len(moments) == 4
        assert kept(place) == set()
        assert place.files("aside/gate") == {}
        assert take(place).aside == {}

    def test_a_sign_of_use_goes_last(self, place, monkeypatch):
        folder, gone = put(place), []
        place.replace(f"{folder}/lease-0001.json", b"{}")
        files, remove = place.files, place.remove
        monkeypatch.setattr(place, "files", lambda folder: dict(sorted(files(folder).items(), reverse=True)))
        monkeypatch.setattr(place, "remove", lambda path: (gone.append(path.split("/")[-1][:5]), remove(path)))
        gc(place)
        assert (gone[0], {*gone[-2:]}) == ("chain", {"lease", "used"})

    def test_a_chain_that_came_into_use_after_it_was_listed_stays(self, place):
        idle, busy = put(place, 0), put(place, 1)
        planned = plan_gc(take(place), 0, NOW)
        place.replace(f"{busy}/used", str(NOW + 1).encode())
        freed = carry_out(place, planned)
        assert [entry.folder for entry in freed.chains] == [idle]
        assert [entry.folder for entry in freed.spared] == [busy]
        assert kept(place) == {busy}
        assert check(place, busy).damages == ()

    def test_what_serves_nobody_goes_whatever_the_limit(self, place):
        folder = put(place, epochs=3)
        place.replace(f"{folder}/says-0001-stop-{'b' * 64}.safetensors", b"kept")
        whole = place.files(folder)
        place.replace(f"{folder}/{'a' * 64}.safetensors", b"never published")
        place.replace(f"{folder}/.partial-{HEX}", b"half")
        place.replace(f"gate/{HEX}/{'a' * 64}.safetensors", b"never published")
        place.replace(f"gate/{HEX}/lease-0001.json", b"{}")
        place.replace(f"probe-{HEX}", b"")
        place.replace(f"aside/{folder}/12345678-used", b"damaged")
        arrive(place, beat=NOW - 25 * 3600)
        arrive(place, beat=NOW - 23 * 3600)
        assert len(plan_gc(take(place), 10**9, NOW).leftovers) == 7
        gc(place, 10**9)
        assert kept(place) == {folder}
        assert place.files(folder) == whole
        assert place.files("") == {}
        assert take(place).aside == {}
        assert [session.beat for session in take(place).sessions] == [NOW - 23 * 3600]

    def test_what_may_be_in_the_making_stays_while_anyone_is_at_work(self, place):
        folder = put(place, used=NOW - 10_000)
        making = f"{folder}/{'a' * 64}.safetensors", f"{folder}/.partial-{HEX}", f"gate/{HEX}/lease-0001.json"
        for path in (*making, f"probe-{HEX}", f"aside/{folder}/12345678-used"):
            place.replace(path, b"x")
        dead, alive = arrive(place, beat=NOW - 25 * 3600), arrive(place, since=NOW - 9)
        gc(place, 10**9)
        assert all(place.read(path) for path in (*making, f"probe-{HEX}"))
        assert take(place).aside == {}
        assert (place.read(dead), bool(place.read(alive))) == (None, True)

    def test_what_a_manifest_of_another_format_needs_is_not_taken_for_a_leftover(self, place):
        folder = put(place)
        before = place.files(folder)
        manifest = json.loads(place.read(f"{folder}/chain-0001.json"))
        place.replace(f"{folder}/chain-0001.json", json.dumps({**manifest, "format": 2}).encode())
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

    def test_an_empty_folder_goes_unless_someone_may_just_be_making_it(self, tmp_path):
        place = Local(tmp_path)
        (tmp_path / "gate" / HEX).mkdir(parents=True)
        session = arrive(place)
        gc(place)
        assert place.folders("gate") == [HEX]
        place.remove(session)
        gc(place)
        assert list(tmp_path.iterdir()) == []


def sum_of(folder):
    return sum((folder / path).stat().st_size for path in paths(folder))


def test_a_folder_that_is_pruned_before_its_first_file_is_there_is_made_again(tmp_path, monkeypatch):
    place, mkdir, prunes = Local(tmp_path), Path.mkdir, iter((True, True))

    def pruned(path, *arguments, **settings):
        mkdir(path, *arguments, **settings)
        if next(prunes, False):
            place.prune("gate/a")

    monkeypatch.setattr(Path, "mkdir", pruned)
    place.replace("gate/a/used", b"x")
    assert place.read("gate/a/used") == b"x"
    assert next(prunes, None) is None


def test_pruning_takes_empty_folders_only_and_never_the_root(tmp_path):
    place = Local(tmp_path / "store")
    place.replace("gate/a/used", b"x")
    place.replace("gate/b/used", b"x")
    place.remove("gate/b/used")
    for folder in ("gate/a", "gate/b", "gate/none"):
        place.prune(folder)
    assert (place.folders("gate"), place.read("gate/a/used")) == (["a"], b"x")
    place.remove("gate/a/used")
    place.prune("gate/gone")
    assert place.folders("") == ["gate"]
    place.prune("gate/a")
    (tmp_path / "store" / "nearly").mkdir()
    place.prune("nearly/gone")
    place.prune("")
    assert list(tmp_path.rglob("*")) == [tmp_path / "store"]


class TestWords:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            *[("0", 0), ("500000000", 500_000_000), ("20GB", 20 * 10**9), ("1.5 tib", 3 * 2**39), ("2kb", 2000)],
            *[("3KiB", 3072), ("4 MB", 4 * 10**6), ("5mib", 5 * 2**20), ("0.5GiB", 2**29), ("1TB", 10**12)],
        ],
    )
    def test_a_size_may_have_a_unit(self, text, value):
        assert size(text) == value

    @pytest.mark.parametrize(
        "text", ["", "-1", "-5GB", "many", "20XB", "1e9", "20 G B", "inf", "nan", "GB", "1.GB", "٣"]
    )
    def test_any_other_size_is_refused_in_one_sentence(self, text, capsys):
        with pytest.raises(SystemExit) as ended:
            main(["gc", "--max-bytes", text])
        assert ended.value.code == 2
        (sentence,) = capsys.readouterr().err.splitlines()
        assert sentence.startswith(f"python -m moe.store gc: --max-bytes is {text!r}; expected ")
        assert "TiB" in sentence

    @pytest.mark.parametrize(
        ("count", "said"),
        [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (999_949, "999.9 kB"),
            (999_950, "1.0 MB"),
            (10**15, "1000.0 TB"),
        ],
    )
    def test_bytes_are_written_with_the_unit_that_keeps_them_short(self, count, said):
        assert human(count) == said

    @pytest.mark.parametrize(
        ("seconds", "said"),
        [(-5, "0 s ago"), (119, "119 s ago"), (120, "2 min ago"), (7200, "2 h ago"), (3 * 86400, "3 days ago")],
    )
    def test_times_are_written_with_the_unit_that_keeps_them_short(self, seconds, said):
        assert ago(seconds) == said


class TestCommandLine:
    def call(self, tmp_path, *arguments, **settings):
        """The command where an import of torch would end it."""
        (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
        environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{Path.cwd()}"}
        command = [sys.executable, "-m", "moe.store", *arguments]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **settings}
        return subprocess.run(command, text=True, check=False, env=environment, **streams)

    def test_ls_shows_a_line_for_each_chain_and_one_for_all_without_torch(self, folder, tmp_path):
        done = self.call(tmp_path, "--store", str(folder), "ls")
        assert done.returncode == 0, done.stderr
        head, *rows, last = done.stdout.splitlines()
        assert head.split()[0] == "stage"
        assert {row.split()[0] for row in rows} == set(STAGES)
        assert all(re.search(r" small +100 +2(, stopped)? +batch_size=20 test_examples=50 +[12] ", row) for row in rows)
        assert last == f"5 chains, 10 epochs, {human(sum_of(folder))} in {folder}"

    def test_gc_frees_without_torch(self, folder, tmp_path):
        done = self.call(tmp_path, "gc", "--max-bytes", "0", "--store", str(folder))
        assert done.returncode == 0, done.stderr
        assert paths(folder) == []

    def test_a_reader_that_leaves_is_no_error(self, folder, tmp_path):
        reading, writing = os.pipe()
        os.close(reading)
        done = self.call(tmp_path, "--store", str(folder), "ls", stdout=writing)
        os.close(writing)
        assert (done.returncode, done.stderr) == (0, "")

    def test_a_store_that_is_not_there_holds_nothing(self, tmp_path, capsys):
        for command, said in (
            (["ls"], "holds no chains"),
            (["verify"], "0 files"),
            (["gc", "--max-bytes", "0"], "0 B"),
        ):
            assert main([*command, "--store", str(tmp_path / "none")]) == 0
            assert said in capsys.readouterr().out
        assert not (tmp_path / "none").exists()

    def test_a_stopped_chain_says_so(self, place, capsys):
        put(place, epochs=3)
        assert main(["--store", place.name, "ls"]) == 0
        assert " 3, stopped " in capsys.readouterr().out

    @pytest.mark.parametrize("location", ["", "nowhere://x", "s3://me:secret@bucket"])
    def test_a_location_that_is_none_is_refused(self, location, capsys, monkeypatch):
        with pytest.raises(SystemExit) as ended:
            main(["--store", location, "ls"])
        assert ended.value.code == 2
        (sentence,) = capsys.readouterr().err.splitlines()
        assert sentence.startswith("python -m moe.store: --store is ")
        assert "secret" not in sentence

    def test_so_is_that_of_the_environment_under_its_name(self, capsys, monkeypatch):
        monkeypatch.setenv("MOE_STORE", "nowhere://x")
        with pytest.raises(SystemExit):
            main(["ls"])
        assert "MOE_STORE is nowhere://x; expected" in capsys.readouterr().err

    @pytest.mark.parametrize("command", [["ls"], ["verify"], ["gc", "--max-bytes", "0"]])
    @pytest.mark.parametrize(
        ("failure", "code", "sentences"),
        [(PermissionError(13, "Permission denied"), 4, 1), (KeyboardInterrupt(), 130, 0)],
    )
    def test_a_store_that_cannot_be_read_is_one_sentence(
        self, command, failure, code, sentences, tmp_path, monkeypatch, capsys
    ):
        def fails(*_):
            raise failure

        monkeypatch.setattr("moe.store.local.os.scandir", fails)
        assert main([*command, "--store", str(tmp_path)]) == code
        said = capsys.readouterr().err.splitlines()
        assert len(said) == sentences
        assert all(f"{tmp_path}: Permission denied" in sentence for sentence in said)
