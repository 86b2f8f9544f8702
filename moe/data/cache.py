"""A folder of decoded data sets, memory-mapped by whoever loads them.

    <folder>/<name>/train_images.npy    (50000, 32, 32, 3) uint8
                    train_labels.npy    (50000,) int64
                    test_images.npy     (10000, 32, 32, 3) uint8
                    test_labels.npy     (10000,) int64
                    fingerprint         sha256 of the content, compared whenever the entry is loaded

An entry appears whole or not at all, and the first one written stays. A damaged one is removed.
"""

import dataclasses
import os
import shutil
import time
import uuid
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np

from moe.data.arrays import Arrays

STALE_S = 24 * 3600  # no writer takes that long; what is older was left behind by one that was killed


def default_folder() -> Path:
    """`MOE_CACHE`, or else the user's cache folder."""
    import platformdirs

    return Path(os.environ.get("MOE_CACHE") or platformdirs.user_cache_dir("moe"))


class Cache:
    """The decoded data sets of one folder, which need not exist."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, name: str) -> Arrays | None:
        """The entry, memory-mapped copy-on-write, or None; a damaged one is removed."""
        entry = self.folder / name
        if not entry.is_dir():
            return None
        try:
            return _read(entry)
        except FileNotFoundError:
            self._remove(entry)
        except OSError:  # it may be whole and only out of reach
            pass
        except Exception:  # np.load raises almost anything on a damaged header
            self._remove(entry)
        return None

    def keep(self, name: str, arrays: Arrays) -> Arrays:
        """Write the entry and map it; where that is impossible, warn and give the arrays back."""
        try:
            self._write(name, arrays)
        except OSError as error:
            reason = error.strerror or error
            warnings.warn(
                f"{self.folder} cannot be written ({reason}), so the data is held in memory; "
                "name a writable folder in MOE_CACHE",
                stacklevel=2,
            )
            return arrays
        return self.find(name) or arrays

    def _write(self, name: str, arrays: Arrays) -> None:
        partial = self.folder / f"partial-{uuid.uuid4().hex}"
        try:
            partial.mkdir(parents=True)
            self._remove_stale()
            for field, array in arrays.items():
                np.save(partial / f"{field}.npy", array)
            (partial / "fingerprint").write_text(arrays.fingerprint)
            _publish(partial, self.folder / name)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _remove_stale(self) -> None:
        for left in self.folder.glob("partial-*"):
            with suppress(FileNotFoundError):  # its writer may just have finished
                if time.time() - left.stat().st_mtime > STALE_S:
                    shutil.rmtree(left, ignore_errors=True)

    def _remove(self, entry: Path) -> None:
        aside = self.folder / f"partial-{uuid.uuid4().hex}"
        try:
            entry.rename(aside)  # in one step, so that nobody reads an entry that is being deleted
        except OSError:
            return
        shutil.rmtree(aside, ignore_errors=True)


def _read(entry: Path) -> Arrays:
    names = [field.name for field in dataclasses.fields(Arrays)]
    expected = (entry / "fingerprint").read_text()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a damaged header
        arrays = Arrays(**{name: np.load(entry / f"{name}.npy", mmap_mode="c") for name in names})
    if not arrays.well_formed() or arrays.fingerprint != expected:
        raise ValueError(f"{entry} does not match its fingerprint")
    return arrays


def _publish(partial: Path, entry: Path) -> None:
    try:
        partial.rename(entry)
    except OSError:
        if not entry.is_dir():
            raise
        # another process was faster, and its entry is the one to use
