"""Faults of what is shown of others' texts: formulas in CSV, HTML and links in Markdown, columns without a type."""

import csv as reader
import io
from functools import partial
from pathlib import Path

import pandas as pd

from study.analyze.tables import summary, trials_csv
from tests.faults.table import Fault
from tests.study_helpers import a_record, a_study


def in_csv(text: str, shown: str, folder: Path) -> None:
    """The cell of a trial that failed with this error."""
    record = a_record(1, state="failed").replace(error=text)
    rows = list(reader.DictReader(io.StringIO(trials_csv(a_study(), [record]), newline="")))
    assert [row["error"] for row in rows] == [shown]


def in_markdown(text: str, forbidden: str, folder: Path) -> None:
    """The page of a study whose data's source, and whose trial's error, is this text."""
    record = a_record(1, state="failed").replace(error=text)
    page = summary(a_study(source=text), [record], None)
    assert forbidden not in page
    assert page.count("\n# ") + page.startswith("# ") == 1


def no_errors(folder: Path) -> None:
    """A table without failed trials."""
    table = pd.read_csv(io.StringIO(trials_csv(a_study(), [a_record(1), a_record(2, state="running")])))
    assert table["error"].tolist() == ["none", "none"]
    assert table["gain"].dtype == "float64"
    assert table["gain"][0] == 0.01


def negative(folder: Path) -> None:
    """A number is no formula."""
    assert ",-0.01," in trials_csv(a_study(), [a_record(1, -0.01)])


CELLS = {
    "=HYPERLINK(1)": "'=HYPERLINK(1)",
    "\x1b[0m=HYPERLINK(1)": "'=HYPERLINK(1)",
    "+1": "'+1",
    "-1": "'-1",
    "@SUM(A1)": "'@SUM(A1)",
    "\t=1": "'\t=1",
    " =1": "' =1",
    "\x1b[2J": r"\x1b[2J",
    'a,"b"': 'a,"b"',
    "a\nb": "a\nb",
}
TEXTS = {
    "<script>alert(1)</script>": "<script",
    "<img src=x onerror=y>": "<img",
    "![x](http://example.org/)": "![x]",
    "[x](javascript:y)": "[x]",
    "a\n# another heading": "\n# another",
    "a | b": "a | b",
    "`x`": " `x`",
    "\x1b[2J": "\x1b",
}
WHERE = "study.analyze.tables"
FAULTS = (
    *(
        Fault("D20", f"{text!a} in CSV", WHERE, "no formula", partial(in_csv, text, cell))
        for text, cell in CELLS.items()
    ),
    *(
        Fault("D20", f"{text!a} in Markdown", WHERE, "only text", partial(in_markdown, text, bad))
        for text, bad in TEXTS.items()
    ),
    Fault("D20", "a negative gain in CSV", WHERE, "a number", negative),
    Fault("H39", "no trial failed", WHERE, "the column of errors is text", no_errors),
)
