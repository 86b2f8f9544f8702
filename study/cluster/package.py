"""The files that a cluster gets: the checkout's tracked ones that a job imports, without secrets and anything large.

Outside a checkout they are the installed modules. Ray sends the folder that `copied` makes.
"""

import fnmatch
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from study.machine import ClusterError

ROOT = Path(__file__).parents[2]
PACKAGES = ("moe", "study")  # all that a job imports
LARGEST_FILE = 5 * 2**20
LARGEST = 50 * 2**20
EXTRA = "submitted"

_ALONGSIDE = "pyproject.toml"
_UNWANTED = ("*.pt", "*.safetensors", ".rayignore", ".gitignore")  # weights, and what Ray would leave files out for
_SECRETS = (
    *("*.env", ".env*", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "id_*", ".netrc", ".git-credentials"),
    *("*token", "*token.*", "*secret*", "*credential*", "*password*", "*service?account*"),
)


@dataclass(frozen=True)
class Package:
    """Files of a folder, by their path in it."""

    root: Path
    files: tuple[str, ...]
    bytes: int
    large: tuple[str, ...] = ()  # left out for their size
    secret: tuple[str, ...] = ()  # left out for their names
    untracked: tuple[str, ...] = ()  # modules that git does not track, and that stay here for that reason

    def __str__(self) -> str:
        said = f"{len(self.files)} files of {' and '.join(PACKAGES)}, {self.bytes / 2**20:.1f} MiB"
        if self.large:
            said += f", without {_some(self.large)} of over {LARGEST_FILE // 2**20} MiB"
        if self.secret:
            said += f", without {_some(self.secret)}, by the name a secret"
        if self.untracked:
            said += f", and without {_some(self.untracked)}: git does not track them"
        return said


def collect(root: Path = ROOT) -> Package:
    """The files to send.

    Raises:
        ClusterError: one has a name that cannot be sent.
    """
    tracked = _git(root, "--cached")
    if f"{PACKAGES[1]}/__init__.py" not in tracked:
        return _sorted(root, [path for package in PACKAGES for path in _modules(root, package)])
    # those that git ignores as well: a job would miss them all the same
    untracked = [path for path in _git(root, "--others") if _is_module(path)]
    return _sorted(root, [path for path in tracked if _is_ours(path)], untracked)


@contextmanager
def copied(package: Package, extra: Path | None = None) -> Iterator[Path]:
    """A temporary folder with the files of a package, and with one more in `submitted`."""
    with tempfile.TemporaryDirectory(prefix="study-submit-") as name:
        folder = Path(name)
        for path in package.files:
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(package.root / path, target)
        if extra:
            (folder / EXTRA).mkdir()
            shutil.copyfile(extra, folder / EXTRA / extra.name)
        yield folder


def _sorted(root: Path, paths: list[str], untracked: list[str] | None = None) -> Package:
    present = [path for path in sorted(paths) if _is_file(root / path) and not _named_as(path, _UNWANTED)]
    secret = tuple(path for path in present if _named_as(path, _SECRETS))
    sizes = {path: (root / path).stat().st_size for path in present if path not in secret}
    files = tuple(path for path, size in sizes.items() if size <= LARGEST_FILE)
    for path in files:
        if not path.isprintable():  # bytes that are no UTF-8 are not; Ray can send neither
            raise ClusterError(f"the file {path!r} has a name that cannot be sent; rename it")
    return Package(
        root,
        files,
        sum(sizes[path] for path in files),
        large=tuple(path for path in sizes if path not in files),
        secret=secret,
        untracked=tuple(sorted(untracked or [])),
    )


def _is_ours(path: str) -> bool:
    """Whether a job imports what is in this file's folder."""
    return path == _ALONGSIDE or path.split("/")[0] in PACKAGES


def _named_as(path: str, patterns: tuple[str, ...]) -> bool:
    name = PurePosixPath(path).name.lower()
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def _is_file(path: Path) -> bool:
    """A link may lead to anything."""
    return path.is_file() and not path.is_symlink()


def _is_module(path: str) -> bool:
    return path.endswith(".py") and _is_ours(path)


def _modules(root: Path, package: str) -> list[str]:
    return [path.relative_to(root).as_posix() for path in (root / package).rglob("*.py")]


def _git(root: Path, *which: str) -> list[str]:
    """The paths that git lists below a folder; none where it is no checkout."""
    command = ["git", "ls-files", "-z", *which]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, check=False)
    except OSError:
        return []
    return [path for path in done.stdout.decode(errors="surrogateescape").split("\0") if path]


def _some(paths: tuple[str, ...]) -> str:
    shown = ", ".join(paths[:3])
    return shown if len(paths) <= 3 else f"{shown} and {len(paths) - 3} more"
