"""What lies in a store, and what of it is damaged."""

import re
import time

import pytest
from rich.filesize import decimal

from moe import run
from moe.stages import PIPELINE
from moe.store.__main__ import main
from moe.store.damage import find_damage
from moe.store.files import Local, PlaceError
from moe.store.listing import read_entries
from moe.store.store import Store
from tests.store_maintenance.helpers import HEX, NOW, SMALL, flip, of_a_later_format, paths, put, sum_of, warned


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
