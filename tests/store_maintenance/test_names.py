"""Names in a manifest that lead elsewhere."""

import json

from moe.files import read_regular
from moe.store.__main__ import main
from moe.store.files import Local
from moe.store.manifest import canonical, digest
from moe.store.store import Store
from tests.store_maintenance.helpers import (
    paths,
    put,
    spec_of,
)


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
