"""Decoded data sets, one file each, which every process maps into its memory.

    <folder>/<name>.safetensors    images (N, 32, 32, 3) uint8 and labels (N,) int64 of both halves;
                                   the SHA-256 of the content, compared whenever the file is loaded

A file appears whole or not at all. A damaged one is written anew.
"""

import time
import uuid
import warnings
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from moe.data.dataset import Arrays
from moe.files import open_regular

MOST = 1 << 30  # bytes of a data set
STALE_S = 24 * 3600  # no writer takes that long; an older partial file is from one that was killed


def load(folder: Path, name: str, framework: str = "pt") -> Arrays | None:
    """A data set; None if its file is missing, unreadable or damaged.

    Args:
        framework: "pt" loads torch and maps it into memory, copy-on-write; "np" reads it without torch.
    """
    path = folder / f"{name}.safetensors"
    try:
        open_regular(path, MOST).close()  # safe_open would wait for a pipe
        with safe_open(path, framework) as file:
            arrays = Arrays(*(np.asarray(file.get_tensor(field.name)) for field in fields(Arrays)))
            fingerprint = (file.metadata() or {}).get("fingerprint")
    except (OSError, SafetensorError):
        return None
    return arrays if arrays.well_formed() and arrays.fingerprint == fingerprint else None


def find(folder: Path, fingerprint: str) -> Arrays | None:
    """The data set with this content, whatever its name; read without torch. None if there is none."""
    for path in sorted(folder.glob("*.safetensors")):
        with suppress(OSError, SafetensorError):
            open_regular(path, MOST).close()
            with safe_open(path, "np") as file:
                found = (file.metadata() or {}).get("fingerprint")
            if found == fingerprint and (arrays := load(folder, path.stem, "np")):
                return arrays
    return None


def save(folder: Path, name: str, arrays: Arrays) -> Arrays:
    """Write a data set and map it; where that is impossible, warn and return the arrays."""
    partial = folder / f"partial-{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_stale(folder)
        save_file(arrays.named(), partial, {"fingerprint": arrays.fingerprint})
        partial.replace(folder / f"{name}.safetensors")
    except (OSError, SafetensorError) as error:
        warnings.warn(
            f"{folder} cannot be written ({getattr(error, 'strerror', None) or error}), so the data is held in "
            "memory; name a writable folder in MOE_CACHE",
            stacklevel=2,
        )
        return arrays
    finally:
        with suppress(OSError):
            partial.unlink()
    return load(folder, name) or arrays


def _remove_stale(folder: Path) -> None:
    for partial in folder.glob("partial-*"):
        with suppress(OSError):  # its writer may just have finished
            if time.time() - partial.stat().st_mtime > STALE_S:
                partial.unlink()
