"""Which studies there are in a results folder, and what a new one is called."""

import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path


def named(folder: Path) -> Path:
    """The folder by a path that ends in its name, as `.` does not."""
    return folder if folder.name not in ("", "..") else Path(os.path.abspath(folder))


def studies(results: Path) -> list[Path]:
    """The study folders in a results folder, the newest last."""
    found = [path.parent for path in results.glob("*/study.json")]
    return sorted(found, key=lambda path: (path / "study.json").stat().st_mtime)


def free_name(results: Path, stem: str) -> str:
    """The first of stem-1, stem-2, ... that no folder in `results` has, in characters that a name may have."""
    return next(name for name in numbered(stem) if not (results / name).exists())


def numbered(stem: str) -> Iterator[str]:
    """stem-1, stem-2, ..., in characters that a name may have."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", stem)[:60]
    return (f"{plain}-{number}" for number in itertools.count(1))
