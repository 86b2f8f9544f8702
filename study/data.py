"""The data of a study that ran before."""

from pathlib import Path

from moe.data import DataSet, load
from study.folder import FolderError
from study.study import Study

_SHOWN = 12  # characters of a fingerprint


def folder_of(study: Study, given: Path | None = None) -> Path | None:
    """The absolute path where the data are: that given, or else where the study had them; None for the cache."""
    folder = given or study.data_folder
    return Path(folder).resolve() if folder else None


def load_data(folder: Path | None, study: Study) -> DataSet:
    """The study's data: from a folder if one is given, else from where the study had them.

    Raises:
        DataError: they cannot be read.
        FolderError: they are not there, or are others.
    """
    if not folder and study.data_folder:
        folder = Path(study.data_folder)
        if not folder.exists():
            raise FolderError(
                f"study {study.name} had its data in {folder}, which is not here; name their folder with --data"
            )
    data = load(study.dataset, folder)
    if data.fingerprint != study.data:
        raise FolderError(
            f"the data are {data.fingerprint[:_SHOWN]} ({data.source}); expected {study.data[:_SHOWN]}, "
            f"those of study {study.name}: name their folder with --data"
        )
    return data
