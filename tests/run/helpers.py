"""A study of three trials that has ended, to be copied and changed."""

import json
import shutil
from pathlib import Path
from typing import NamedTuple

from tests.run_helpers import furnished


class Finished(NamedTuple):
    """A study of three trials that has ended."""

    home: Path
    code: int
    printed: str

    @property
    def folder(self):
        return self.home / "results" / "shapes-four-1"

    @property
    def about(self):
        return json.loads((self.folder / "study.json").read_text())["study"]

    def copy(self, home):
        """The same study in another working folder, to be changed."""
        shutil.copytree(self.home / "results", home / "results")
        shutil.copytree(self.home / "stages", home / "stages")
        return Finished(furnished(home), self.code, self.printed)
