"""A stage store with a chain of little content, the commands about it, and what lies in it."""

import contextlib
import io
import time
from dataclasses import replace
from pathlib import Path

import torch

from moe.stages import Checkpoint
from moe.store.__main__ import main
from moe.store.entries import folder_of
from moe.store.eviction import KEEP_S
from moe.store.store import Store
from tests.store_helpers import AT_ONCE, a_spec, advance, straight

SPEC = a_spec()
CHAIN = folder_of(SPEC)
CHECKPOINT = Checkpoint(SPEC.stage, SPEC.address, 2)
PREDICTED = {"log_probs": torch.arange(20.0).view(2, 10)}


def command(root: Path, *words: str) -> tuple[int, str]:
    """The exit code of `python -m moe.store`, and what it printed."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = main(["--store", str(root), *words])
    return int(code), output.getvalue()


def train(root: Path, epochs: int, spec=SPEC) -> list[str]:
    """Train a chain and store its second epoch's predictions; the warnings."""
    warned: list[str] = []
    with Store(str(root), warn=warned.append, timing=AT_ONCE) as store:
        chain = advance(store, spec, epochs)
        assert chain.losses == straight(spec, epochs).losses
        if store.load_predictions(replace(CHECKPOINT, address=spec.address), "stop") is None:
            store.save_predictions(replace(CHECKPOINT, address=spec.address), "stop", PREDICTED)
    return warned


def age(root: Path) -> None:
    """Make every use an old one."""
    for path in root.glob("*/*/used-*"):
        if path.resolve().is_relative_to(root) and path.is_file():
            path.write_text(str(time.time() - 10 * KEEP_S))


PATTERNS = {
    "a manifest": "chain-*.json",
    "weights": "[0-9a-f]*.safetensors",
    "predictions": "predictions-*",
    "a note of use": "used-*",
    "a lease": "lease-*.json",
    "a beat": "lease-*.beat",
}
