"""The files that a job gets: the files of `moe` and `study` that git tracks, else the installed modules."""

import io
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from study.cluster.options import SPACE_FOLDER

ROOT = Path(__file__).parents[2]
PACKAGES = ("moe", "study")  # all that a job imports


def files(root: Path = ROOT) -> list[str]:
    """The paths of the files to send, relative to the root."""
    with suppress(OSError):  # no git
        listed = subprocess.run(["git", "ls-files", "-z", *PACKAGES], cwd=root, capture_output=True, check=False).stdout
        paths = listed.decode(errors="surrogateescape").split("\0")
        if "study/__init__.py" in paths:
            return [path for path in paths if (root / path).is_file()]
    found = (path for name in PACKAGES for path in (root / name).rglob("*") if path.suffix in (".py", ".sh"))
    return sorted(path.relative_to(root).as_posix() for path in found)


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


def zipped(folder: Path) -> bytes:
    """The files of a folder as an archive, which is the same for the same files."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix())  # its date is a fixed one
            entry.external_attr = 0o644 << 16
            packed.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return archive.getvalue()
