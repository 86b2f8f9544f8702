"""CIFAR-10 in a folder or up to three levels below, in a form that people have it in, or on the network.

    cifar-10-batches-py/data_batch_1 ...    the official batches, in a folder of any name
    cifar-10-python.tar.gz                  the official archive of the same batches, under any name
    data_batch_1.bin ...                    the binary version, or its archive
    train-00000-of-00002.parquet ...        Parquet files as commonly redistributed; the half by the file or its folder
    train/airplane/0001.png ...             PNG folders by class

What is found is checked as far as that takes no decoding and no torch. A form that is whole goes before one that is
not, which is named only where there is no other.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from moe.data import images, official, parquet
from moe.data.dataset import ROWS, Arrays, DataError
from moe.data.download import download
from moe.files import expanded, irregular, open_regular

FORMS = (
    f"{official.BATCHES}/, {official.ARCHIVE}, the binary version, train-*.parquet and test-*.parquet, "
    "or train/ and test/ with a folder of PNGs for each class"
)
OFFICIAL = "cifar10-official"  # names batches, archive and download in the cache: their images are the same
UNOFFICIAL = "cifar10-2-"  # begins the names of all others
LEVELS = 3  # below the folder that is named
MOST_ENTRIES = 300_000  # names that are looked at
_ARCHIVES = (".gz", ".tgz", ".tar")
_CIFAR100 = re.compile("cifar-?100")
_MATLAB = re.compile(r"(data_batch_\d|test_batch)\.mat")


@dataclass(frozen=True)
class Source:
    """CIFAR-10 that was found."""

    where: str  # in words
    name: str  # in the cache
    decode: Callable[[], Arrays]

    def read(self) -> Arrays:
        """All images and labels.

        Raises:
            DataError: they cannot be had or are of other sizes, or, in a form that is not official, images are there
                twice or a class is missing.
        """
        with _one_sentence(self.where):
            arrays = self.decode()
        if not arrays.well_formed():
            sizes = f"{len(arrays.train_images)} train and {len(arrays.test_images)} test images"
            raise DataError(f"{self.where} has {sizes}; expected {ROWS['train']} and {ROWS['test']}")
        if self.name != OFFICIAL and (problem := arrays.problem()):
            raise DataError(f"{self.where} has {problem}")
        return arrays


@dataclass(frozen=True)
class Listing:
    """The names in a folder, without hidden ones, such as what macOS leaves beside every file."""

    path: Path
    files: frozenset[str]
    folders: frozenset[str]


def find(place: Path) -> Source:
    """The form of CIFAR-10 that a folder or a file is; the md5 of official files is checked already.

    Raises:
        DataError: there is no such folder, nothing in it is CIFAR-10, or a file is missing or damaged.
    """
    with _one_sentence(str(place)):
        listings = list(_walk(place))
        incomplete: list[str] = []
        for form in (_in_batches, _in_archive, _in_parquet, _in_binaries, _in_classes):
            for listing in listings:
                try:
                    if source := form(listing):
                        return source
                except (DataError, OSError) as error:
                    incomplete.append(_reason(error, listing.path))
        raise DataError(incomplete[0] if incomplete else f"{place} {_seen(listings)}; expected {FORMS}")


def missing(folder: str | Path | None) -> str | None:
    """Why there is no CIFAR-10 in a folder, by `find`; None where it is, and where no folder is named."""
    try:
        if folder:
            find(expanded(folder))
    except DataError as error:
        return str(error)
    return None


def online() -> Source:
    """The official archive on the network."""

    def decode() -> Arrays:
        with tempfile.TemporaryDirectory(prefix="cifar10-") as folder:
            archive = Path(folder) / official.ARCHIVE
            download(official.URL, official.MD5[official.ARCHIVE], archive)
            return official.read_pickles(official.in_archive(archive, official.PICKLES), official.URL)

    return Source(official.URL, OFFICIAL, decode)


def _walk(place: Path) -> Iterator[Listing]:
    """A folder and those below it, level by level; a file stands for itself, or for the form that it is a part of."""
    if not os.path.lexists(place):
        raise DataError(f"{place} is not a folder or a file that exists; expected {FORMS}")
    if not place.is_dir():
        if kind := irregular(place):
            raise DataError(f"{place} is {kind}; expected a folder or a file with CIFAR-10")
        part = place.suffix == ".parquet" or place.name in (*official.PICKLES, *official.BINARIES)
        yield _list(place.parent) if part else Listing(place.parent, frozenset({place.name}), frozenset())
        return
    level, left = [_list(place)], MOST_ENTRIES
    for _ in range(LEVELS + 1):
        yield from level
        below = [listing.path / name for listing in level for name in sorted(listing.folders)]
        level = []
        for folder in below:
            with suppress(OSError):  # it may not be read, or is gone
                level.append(_list(folder))
                left -= len(level[-1].files) + len(level[-1].folders)
            if left < 0:
                break


def _list(folder: Path) -> Listing:
    with os.scandir(folder) as entries:
        names = {
            each.name: os.path.isdir(each) if each.is_symlink() else each.is_dir()  # a link in a circle is no folder
            for each in entries
            if each.name[0] != "."
        }
    folders = frozenset(name for name, is_folder in names.items() if is_folder)
    return Listing(folder, frozenset(names) - folders, folders)


def _in_batches(listing: Listing) -> Source | None:
    if not listing.files & {*official.PICKLES}:
        return None
    for name in official.PICKLES:
        if name not in listing.files:
            expected = ", ".join(official.PICKLES)
            raise DataError(f"{listing.path / name} is missing; expected the official files {expected}")
        with open_regular(listing.path / name, official.MOST_BATCH) as file:
            official.check_md5(listing.path / name, file, name)
    read = official.in_folder(listing.path)
    where = f"the official batches in {listing.path}"
    return Source(where, OFFICIAL, lambda: official.read_pickles(read, listing.path))


def _in_archive(listing: Listing) -> Source | None:
    problem: DataError | OSError | None = None
    for path in sorted(listing.path / name for name in listing.files if name.endswith(_ARCHIVES)):
        inside = official.first_folder(path)
        try:
            if inside == official.BATCHES or (path.name.startswith("cifar-10-python") and not inside):
                return _official_archive(path)
            if inside == "cifar-10-batches-bin":
                return _binary_archive(path)
        except (DataError, OSError) as error:
            problem = problem or error
    if problem:
        raise problem
    return None


def _binary_archive(path: Path) -> Source:
    def decode() -> Arrays:
        return official.read_binaries(official.in_archive(path, official.BINARIES), path)

    return Source(f"the binary version in {path}", f"{UNOFFICIAL}{_digest([path])}", decode)


def _official_archive(path: Path) -> Source:
    if not path.name.endswith(".tar"):  # without gzip it has no official md5, but its batches have
        with open_regular(path, official.MOST_ARCHIVE) as file:
            official.check_md5(path, file, official.ARCHIVE)

    def decode() -> Arrays:
        return official.read_pickles(official.in_archive(path, official.PICKLES), path)

    return Source(f"the official archive {path}", OFFICIAL, decode)


def _in_binaries(listing: Listing) -> Source | None:
    if not listing.files & {*official.BINARIES}:
        return None
    if missing := [name for name in official.BINARIES if name not in listing.files]:
        raise DataError(f"{listing.path / missing[0]} is missing; expected {', '.join(official.BINARIES)}")
    where, read = f"the binary version in {listing.path}", official.in_folder(listing.path)
    paths = [listing.path / name for name in official.BINARIES]
    return Source(where, f"{UNOFFICIAL}{_digest(paths)}", lambda: official.read_binaries(read, listing.path))


def _in_parquet(listing: Listing) -> Source | None:
    shards = parquet.shards(listing.path, listing.files, listing.folders)
    if not any(shards.values()):
        return None
    parquet.check(shards, listing.path)
    name = f"{UNOFFICIAL}{_digest([path for paths in shards.values() for path in paths])}"
    return Source(f"Parquet files in {listing.path}", name, lambda: parquet.read(shards))


def _in_classes(listing: Listing) -> Source | None:
    if not {*ROWS} <= listing.folders:
        return None
    folders = {half: images.folders(listing.path / half) for half in ROWS}
    if not all(images.NAMES[0] in each for each in folders.values()):
        return None
    files = {half: images.list_half(listing.path / half, half, folders[half]) for half in ROWS}
    name = f"{UNOFFICIAL}{images.digest(files)}"
    return Source(f"images by class in {listing.path}", name, lambda: images.read(files))


def _digest(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with open_regular(path, official.MOST_ARCHIVE) as file:
            digest.update(
                os.fsencode(path.parent.name) + os.fsencode(path.name) + hashlib.file_digest(file, "sha256").digest()
            )
    return digest.hexdigest()


def _seen(listings: Sequence[Listing]) -> str:
    """What a folder holds instead of CIFAR-10."""
    paths = [listing.path / name for listing in listings for name in sorted(listing.files)]
    for path in [listings[0].path, *(listing.path for listing in listings[1:]), *paths]:
        archive = path.name.endswith(_ARCHIVES)
        if _CIFAR100.match(path.name) or (archive and _CIFAR100.match(official.first_folder(path))):
            return f"holds CIFAR-100 ({path.name})"
        if path.name == "trainLabels.csv":
            return f"holds Kaggle's CIFAR-10 ({path}), whose test images have no labels"
        if _MATLAB.fullmatch(path.name):
            return f"holds CIFAR-10 for MATLAB ({path}), which is not read"
    some = ", ".join(str(path.relative_to(listings[0].path)) for path in paths[:3])
    return f"holds no CIFAR-10: {len(paths)} files{f', such as {some}' if some else ''}"


def _reason(error: Exception, where: Path) -> str:
    """An error of ours or of the system as one sentence."""
    if isinstance(error, DataError):
        return str(error)
    reason = getattr(error, "strerror", None) or error
    return f"{getattr(error, 'filename', None) or where} cannot be read: {reason}"


@contextmanager
def _one_sentence(where: str) -> Iterator[None]:
    """Turn the errors of the system into a `DataError`."""
    try:
        yield
    except OSError as error:
        raise DataError(_reason(error, Path(where))) from error
