"""Faults of what lies in a study's folder: links out of it, edited and damaged records."""

import json
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from study.analyze.analysis import examine
from study.analyze.drawing import draw
from study.analyze.tables import write_all
from study.files import seal
from study.folder import Folder, FolderError
from tests.faults.folder_scene import OUTSIDE, WHERE, a_folder, contents, refused
from tests.faults.hostile import FILES
from tests.faults.table import Fault

# A2: links out of the folder


def outputs(folder: Folder) -> None:
    """Write everything that is derived from the records."""
    analysis = examine(folder.path)
    with folder.locked():
        write_all(folder, analysis.study, analysis.records)
    draw(analysis)


def linked_output(name: str, is_folder: bool, folder: Path) -> None:
    """An output is a link to something outside."""
    study, outside = a_folder(folder), folder / "outside"
    if is_folder:
        outside.mkdir()
        for file in ("trials.png", "effects.png", "0001.json", "mine"):
            (outside / file).write_text("mine")
        target = study.path / name
        shutil.rmtree(target, ignore_errors=True)
    else:
        outside.write_text("mine")
        target = study.path / name
        target.parent.mkdir(exist_ok=True)
    target.symlink_to(outside)
    before = contents(folder / "outside") if is_folder else outside.read_bytes()
    with suppress(FolderError):
        outputs(study)
    assert (contents(outside) if is_folder else outside.read_bytes()) == before


def hostile_record(kind: str, name: str, folder: Path) -> None:
    """Something that is no regular file is in place of a file of the study."""
    study = a_folder(folder)
    path = study.path / name
    path.unlink()
    FILES[kind](path)
    refused(lambda: examine(study.path), path.name) if path.exists() or path.is_symlink() else None


# A4: what is in the records


def flips(name: str, folder: Path) -> None:
    """Each digit of a file in turn is another one."""
    study = a_folder(folder, records=1)
    path = study.path / name
    content = path.read_bytes()
    places = [found.start() for found in re.finditer(rb"[0-9]", content)]
    for place in places[:: max(1, len(places) // 60)]:
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        refused(lambda: examine(study.path), f"{path} ")


def edited(change: Callable[[str], str], part: str, folder: Path) -> None:
    """A record was edited by hand."""
    study = a_folder(folder)
    path = study.trials / "0002.json"
    path.write_text(change(path.read_text()))
    refused(lambda: examine(study.path), part)
    refused(lambda: examine(study.path), str(path))


def accepted(name: str, change: Callable[[str], str], folder: Path) -> None:
    """An edit is accepted by the command that the refusal names, and everything else stays as it is."""
    study = a_folder(folder)
    path = study.path / name
    path.write_text(change(path.read_text()))
    others = {file: content for file, content in contents(study.path).items() if file != name}
    refused(lambda: examine(study.path), "python -m study.analyze --accept ")
    assert study.accept_edits() == [path]
    assert len(examine(study.path).records) == 3
    assert {file: content for file, content in contents(study.path).items() if file != name} == others


def impossible(change: Callable[[dict[str, object]], object], folder: Path) -> None:
    """A record whose checksum is right says what cannot be."""
    study = a_folder(folder)
    path = study.trials / "0002.json"
    entries = json.loads(path.read_text())
    del entries["sha256"]
    change(entries)
    path.write_text(seal(entries))
    refused(lambda: examine(study.path), "0002.json is damaged")


def _gain(entries: dict[str, object]) -> None:
    entries["result"]["score"]["gain"] = 0.5  # type: ignore[index]


def _config(entries: dict[str, object]) -> None:
    entries["config"]["epochs"] = entries["result"]["config"]["epochs"] = 3  # type: ignore[index]


NAMED = "refused with the file at fault"
ACCEPT = "refused with the command that accepts an edit"
TWICE = '"state": "failed", "state": "complete"'


FAULTS = (
    *(
        Fault("A2", f"{name} is a link to a folder", WHERE, OUTSIDE, partial(linked_output, name, True))
        for name in ("figures", "trials")
    ),
    *(
        Fault("A2", f"{name} is a link to a file", WHERE, OUTSIDE, partial(linked_output, name, False))
        for name in (
            "trials.csv",
            "best.json",
            "summary.md",
            "study.db",
            "study.db-journal",
            "figures/trials.png",
            "figures",
        )
    ),
    *(
        Fault("A4", f"another digit in {name}", WHERE, NAMED, partial(flips, name))
        for name in ("study.json", "trials/0001.json")
    ),
    Fault(
        "A4",
        "a key twice",
        WHERE,
        NAMED,
        partial(edited, lambda text: text.replace('"state": "complete"', TWICE), "'state' twice"),
    ),
    Fault(
        "A4", "a record without its end", WHERE, NAMED, partial(edited, lambda text: text[: len(text) // 2], "no JSON")
    ),
    Fault(
        "A4",
        "a record without a checksum",
        WHERE,
        ACCEPT,
        partial(edited, lambda text: re.sub(r'  "sha256".*\n', "", text), "--accept"),
    ),
    Fault(
        "A4",
        "a record edited by hand",
        WHERE,
        ACCEPT,
        partial(accepted, "trials/0002.json", lambda text: text.replace('"seconds": 60.0', '"seconds": 61.0')),
    ),
    Fault(
        "A4",
        "a record in another layout",
        WHERE,
        ACCEPT,
        partial(accepted, "trials/0002.json", lambda text: json.dumps(json.loads(text))),
    ),
    Fault(
        "A4",
        "study.json edited by hand",
        WHERE,
        ACCEPT,
        partial(accepted, "study.json", lambda text: text.replace('"trials": 5', '"trials": 6')),
    ),
    Fault("A4", "a gain that is no difference", WHERE, NAMED, partial(impossible, _gain)),
    Fault("A4", "a config off the space", WHERE, NAMED, partial(impossible, _config)),
    *(
        Fault("B9", f"{kind} in place of {name}", WHERE, NAMED, partial(hostile_record, kind, name))
        for kind in FILES
        for name in ("study.json", "trials/0002.json")
    ),
)
