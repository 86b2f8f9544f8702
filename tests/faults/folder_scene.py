"""A study's folder with complete trials, and what lies in it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from study.folder import Folder, FolderError
from study.study import Run, now
from tests.study_helpers import a_record, a_study


def a_folder(path: Path, records: int = 3) -> Folder:
    """A study with complete trials."""
    folder = Folder(path / "x")
    with folder.locked():
        run = Run(started=now(), command="", commit=None, versions={}, store="none")
        folder.write_study(a_study(name="x"), run)
        for number in range(1, records + 1):
            folder.write_record(a_record(number, 0.01 * number, replicate=number))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """All regular files below a folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def refused(act: Callable[[], object], part: str) -> None:
    """Check that an act raises a FolderError with these words in its sentence."""
    with pytest.raises(FolderError) as refusal:
        act()
    assert part in str(refusal.value)


OUTSIDE = "nothing outside the folder is changed"


WHERE = "study.folder"
