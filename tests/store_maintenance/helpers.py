"""Chains in a store, and ways to damage them."""

import json
import time
import uuid

import torch

from moe.config import Config
from moe.result import Epoch
from moe.stages import plan
from moe.store.damage import read_aside
from moe.store.entries import Entries, folder_of
from moe.store.eviction import KEEP_S, delete, plan_gc
from moe.store.listing import Entry, read_entries
from moe.store.manifest import Manifest, canonical, digest
from moe.store.tolerant import TolerantFiles
from moe.training.numerics import Numerics

SMALL = Config(epochs=2, train_examples=100, test_examples=50, batch_size=20)

NUMERICS = Numerics(device="cpu", torch="2.6", instructions="AVX2")

NOW = 1_800_000_000.0

LONG_AGO = NOW - KEEP_S - 1  # used before the last day

HEX = uuid.UUID(int=7).hex


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


def sum_of(folder):
    return sum((folder / path).stat().st_size for path in paths(folder))
