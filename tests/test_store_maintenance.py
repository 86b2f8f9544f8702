import json
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
import torch
from rich.filesize import decimal

from moe import run
from moe.config import Config
from moe.files import read_regular
from moe.result import Epoch
from moe.stages import PIPELINE, plan
from moe.store.__main__ import main, size
from moe.store.entries import Entries, folder_of
from moe.store.files import Local, PlaceError
from moe.store.location import place_at
from moe.store.maintenance import KEEP_S, Entry, delete, find_damage, plan_gc, read_aside, read_entries
from moe.store.manifest import Manifest, canonical, digest
from moe.store.store import Store
from moe.store.tolerant import TolerantFiles
from moe.training.numerics import Numerics

SMALL = Config(epochs=2, train_examples=100, test_examples=50, batch_size=20)
NUMERICS = Numerics(device="cpu", torch="2.6", instructions="AVX2")
NOW = 1_800_000_000.0
LONG_AGO = NOW - KEEP_S - 1  # used before the last day
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
    return plan(SMALL.replace(seed=seed), "f" * 64, NUMERICS)[stage].spec


def put(place, seed=0, used=LONG_AGO, stage="gate", epochs=1):
    """A chain of a few bytes, as a store writes it; its folder."""
    spec = spec_of(seed, stage)
    folder, entries = folder_of(spec), Entries(TolerantFiles(place, warned, 0), warned)
    weights = {epoch: entries.put(folder, {"weight": torch.full((100,), seed + epoch / 10)}) for epoch in (1, epochs)}
    entries.publish(
        folder,
        Manifest(
            spec=spec.hashed(), epochs=tuple(map(epoch, range(1, epochs + 1))), weights=weights, end=None, made={}
        ),
    )
    if used is not None:
        place.replace(f"{folder}/used-0", str(used).encode())
    return folder


def epoch(number):
    return Epoch(loss=1.0, accuracy=0.5, validation_loss=1.0 / number, validation_accuracy=0.5, seconds=0.1)


def plan_of(place, max_bytes=0, now=NOW):
    return plan_gc(read_entries(place), read_aside(place), max_bytes, now)


def gc(place, max_bytes=0, now=NOW):
    return delete(place, plan_of(place, max_bytes, now))


def kept(place):
    return {entry.folder for entry in read_entries(place)}


def age(folder):
    """Make all chains of a store those of the day before yesterday."""
    for path in folder.glob("*/*/used-0"):
        path.unlink()
        path.write_text(str(time.time() - 2 * KEEP_S))


def paths(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def flip(path):
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)


def entry(name, used, size=10):
    return Entry(folder=f"gate/{name}", files={"used-0": size}, used=used, unreadable=True)


def of_a_later_format(place, folder):
    """Make the manifest of a chain one that a later version of this program wrote."""
    fields = json.loads(place.read(f"{folder}/chain-0001.json")) | {"format": 9}
    del fields["sha256"]
    sealed = {"sha256": digest(canonical(fields)), **fields}
    place.replace(f"{folder}/chain-0001.json", json.dumps(sealed).encode())


class TestWhatLiesInAStore:
    def test_it_is_what_was_trained(self, folder, trained):
        entries = read_entries(Local(folder))
        assert {entry.folder.split("/")[0] for entry in entries} == set(PIPELINE)
        assert {entry.epochs for entry in entries} == {2}
        assert sum(entry.bytes for entry in entries) == sum_of(trained[0])
        assert all(0 <= time.time() - entry.used < 600 for entry in entries)

    def test_the_most_recently_used_comes_first(self, place):
        middle, last, unknown, first = (put(place, n, used) for n, used in enumerate([NOW, NOW - 9, None, NOW + 9]))
        assert [entry.folder for entry in read_entries(place)] == [first, middle, last, unknown]

    def test_a_chain_that_is_only_begun_has_no_epochs(self, place):
        place.replace(f"gate/{HEX}/lease-0001.json", b"{}")
        (found,) = read_entries(place)
        assert (found.epochs, found.used, found.bytes, found.unreadable) == (0, None, 2, False)

    @pytest.mark.parametrize("content", [b"", b"soon", b"nan", b"1e300", b"-1", b"\xff"])
    def test_a_damaged_time_of_use_is_none(self, place, content):
        place.replace(f"{put(place)}/used-0", content)
        assert read_entries(place)[0].used is None


class TestVerify:
    @pytest.mark.parametrize("kind", [r"chain-.*", r"[0-9a-f]{64}\..*", r"predictions-.*"])
    def test_a_flipped_bit_is_found_named_and_made_good_by_the_next_run(self, folder, trained, data, kind, capsys):
        path = next(path for path in folder.glob("gate/*/*") if re.fullmatch(kind, path.name))
        flip(path)
        assert main(["--store", str(folder), "verify"]) == 5
        assert path.name in capsys.readouterr().out
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
        assert capsys.readouterr().out == f"{len(hashed)} files ({decimal(total)}) checked in {folder}: none damaged\n"
        assert paths(folder) == before

    def faults(self, place, folder):
        return find_damage(place, folder).faults

    def test_a_manifest_is_damaged_where_a_file_of_it_is_missing(self, place):
        folder = put(place, epochs=3)
        lost, *_ = (name for name in place.files(folder) if name.endswith(".safetensors"))
        place.remove(f"{folder}/{lost}")
        assert self.faults(place, folder).keys() == {"chain-0003.json"}
        assert lost in self.faults(place, folder)["chain-0003.json"]

    def test_a_manifest_is_damaged_where_a_file_of_it_is(self, place):
        folder = put(place, epochs=3)
        bad, *_ = (name for name in place.files(folder) if name.endswith(".safetensors"))
        place.replace(f"{folder}/{bad}", b"half")
        assert self.faults(place, folder).keys() == {"chain-0003.json", bad}

    def test_content_that_no_manifest_needs_is_checked_too(self, place):
        place.replace(f"gate/{HEX}/{'a' * 64}.safetensors", b"half")
        assert self.faults(place, f"gate/{HEX}").keys() == {f"{'a' * 64}.safetensors"}

    def test_a_manifest_in_another_chains_folder_is_damage(self, place):
        here, there = put(place, 0), put(place, 1)
        for name in place.files(here):
            place.replace(f"{there}/{name}", place.read(f"{here}/{name}"))
        assert self.faults(place, there) == {"chain-0001.json": "it belongs to another chain"}

    def test_a_manifest_of_another_format_is_no_damage(self, place):
        folder = put(place)
        of_a_later_format(place, folder)
        assert self.faults(place, folder) == {}

    def test_a_manifest_that_a_longer_one_replaces_meanwhile_is_no_damage(self, place, monkeypatch):
        folder = put(place)
        manifest = place.read(f"{folder}/chain-0001.json")

        def replaced(path):
            for name in place.files(folder):
                place.remove(f"{folder}/{name}")
            return manifest if path.endswith("chain-0001.json") else None

        monkeypatch.setattr(place, "read", replaced)
        assert self.faults(place, folder) == {}

    def test_what_reads_well_the_second_time_is_no_damage(self, place, monkeypatch):
        folder, read, seen = put(place), place.read, set()

        def garbled(path):
            content = read(path)
            if path in seen:
                return content
            seen.add(path)
            return content[:-1]

        monkeypatch.setattr(place, "read", garbled)
        assert self.faults(place, folder) == {}

    def test_damage_in_a_store_that_cannot_be_written_is_named_all_the_same(self, folder, monkeypatch, capsys):
        flip(next(folder.glob("gate/*/chain-*.json")))

        def refused(*_):
            raise PlaceError("read-only")

        monkeypatch.setattr(Local, "move", refused)
        assert main(["--store", str(folder), "verify"]) == 5
        found, last = capsys.readouterr().out.splitlines()
        assert "chain-0002.json: " in found
        assert "not all of it set aside" in last
        assert "read-only" in last


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


class TestNames:
    """A name read from a file is never a path."""

    def stored(self, tmp_path, **changed):
        """A store with a sealed manifest that names a file outside of it, and that file."""
        victim, place = tmp_path / f"{'a' * 64}.safetensors", Local(tmp_path / "store")
        victim.write_bytes(b"mine")
        folder = put(place)
        fields = json.loads(place.read(f"{folder}/chain-0001.json"))
        del fields["sha256"]
        fields["weights"]["1"]["sha256"] = f"../../../{'a' * 64}"
        sealed = {"sha256": digest(canonical(fields)), **fields}
        place.replace(f"{folder}/chain-0001.json", json.dumps(sealed).encode())
        return place, folder, victim

    def test_a_manifest_that_names_one_elsewhere_is_set_aside_unopened(self, tmp_path, monkeypatch):
        _, folder, victim = self.stored(tmp_path)
        read, opened, said = read_regular, [], []
        monkeypatch.setattr(
            "moe.store.files.read_regular", lambda path, most: (opened.append(path.resolve()), read(path, most))[1]
        )
        with Store(str(tmp_path / "store"), warn=said.append) as store:
            assert store.chain(spec_of(0)).epochs == []
        assert opened
        assert victim not in opened
        assert len(said) == 1
        assert f"{folder}/chain-0001.json" in said[0]

    def test_nothing_elsewhere_is_deleted_by_a_longer_chain_by_verify_or_by_gc(self, tmp_path):
        place, folder, victim = self.stored(tmp_path)
        shorter = place.read(f"{folder}/chain-0001.json")
        put(place, epochs=3)
        assert "chain-0001.json" not in place.files(folder)
        place.replace(f"{folder}/chain-0001.json", shorter)
        assert main(["--store", place.name, "verify"]) == 5
        place.replace(f"{folder}/chain-0001.json", shorter)
        place.replace(f"{folder}/used-0", b"5")
        assert main(["--store", place.name, "gc", "--max-bytes", "0"]) == 0
        assert paths(tmp_path / "store") == []
        assert victim.read_bytes() == b"mine"


def sum_of(folder):
    return sum((folder / path).stat().st_size for path in paths(folder))


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

    @pytest.mark.parametrize("text", ["", "-1", "many", "20XB", "1e9", "20 G B", "inf", "nan", "GB", "1.GB", "٣"])
    def test_any_other_size_is_refused_in_one_sentence(self, text, capsys):
        with pytest.raises(SystemExit) as ended:
            main(["gc", "--max-bytes", text])
        assert ended.value.code == 2
        (sentence,) = capsys.readouterr().err.splitlines()
        assert sentence.startswith(f"python -m moe.store gc: --max-bytes is {text!r}; expected ")
        assert "TiB" in sentence

    def test_a_negative_size_with_a_unit_is_refused_too(self, capsys):
        with pytest.raises(SystemExit) as ended:
            main(["gc", "--max-bytes", "-5GB"])
        assert ended.value.code == 2
        assert "--max-bytes" in capsys.readouterr().err


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
        assert {row.split()[0] for row in rows} == set(PIPELINE)
        assert all(re.search(r" small +2(, stopped)? +batch_size=20 test_examples=50 +100 +[12] ", row) for row in rows)
        assert last == f"5 chains, 10 epochs, {decimal(sum_of(folder))} in {folder}"

    def test_gc_frees_without_torch(self, folder, tmp_path):
        age(folder)
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
            (["gc", "--max-bytes", "0"], "Freed 0 bytes"),
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

        monkeypatch.setattr("moe.store.files.os.scandir", fails)
        assert main([*command, "--store", str(tmp_path)]) == code
        said = capsys.readouterr().err.splitlines()
        assert len(said) == sentences
        assert all(f"{tmp_path}: Permission denied" in sentence for sentence in said)


def test_json_lists_every_chain_with_its_spec(folder, capsys):
    assert main(["--store", str(folder), "ls", "--json"]) == 0
    chains = json.loads(capsys.readouterr().out)
    assert {chain["stage"]: chain["epochs"] for chain in chains} == dict.fromkeys(PIPELINE, SMALL.epochs)
    assert {chain["spec"]["seed"] for chain in chains} == {SMALL.seed}
