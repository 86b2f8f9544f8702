"""The files that a job gets: the files of `moe` and `study` that git tracks, else the installed modules."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from study.cluster.options import SPACE_FOLDER

ROOT = Path(__file__).parents[2]
PACKAGES = ("moe", "study")  # all that a job imports


def files(root: Path = ROOT) -> list[str]:
    """The paths of the files to send, relative to the root."""
    tracked = [path for path in _git(root, "ls-files", "-z", *PACKAGES) if (root / path).is_file()]
    if "study/__init__.py" in tracked:
        return tracked
    return sorted(path.relative_to(root).as_posix() for name in PACKAGES for path in (root / name).rglob("*.py"))


def untracked(root: Path = ROOT) -> list[str]:
    """The modules that stay here because git does not track them."""
    if "study/__init__.py" not in _git(root, "ls-files", "-z", *PACKAGES):
        return []
    return [path for path in _git(root, "ls-files", "-z", "--others", *PACKAGES) if path.endswith(".py")]


@contextmanager
def copied(space_file: Path | None = None, root: Path = ROOT) -> Iterator[Path]:
    """A temporary folder with the files to send and a space file."""
    with tempfile.TemporaryDirectory(prefix="study-submit-") as name:
        folder = Path(name)
        for path in files(root):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / path, folder / path)
        if space_file:
            (folder / SPACE_FOLDER).mkdir()
            shutil.copyfile(space_file, folder / SPACE_FOLDER / space_file.name)
        yield folder


def _git(root: Path, *words: str) -> list[str]:
    """The paths that a git command lists; none outside a checkout or without git."""
    try:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, check=False)
    except OSError:
        return []
    return [path for path in done.stdout.decode(errors="surrogateescape").split("\0") if path]
