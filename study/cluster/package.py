"""The files that a job gets: the files of `moe` and `study` that git tracks, else the installed modules."""

import io
import subprocess
import zipfile
from contextlib import suppress
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


def zipped(space_file: Path | None = None, root: Path = ROOT) -> bytes:
    """The files to send and a space file as an archive, which is the same for the same files."""
    contents = {name: root / name for name in files(root)}
    if space_file:
        contents[f"{SPACE_FOLDER}/{space_file.name}"] = space_file
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, path in sorted(contents.items()):
            entry = zipfile.ZipInfo(name)  # its date is a fixed one
            entry.external_attr = 0o644 << 16
            packed.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return archive.getvalue()
