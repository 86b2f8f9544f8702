"""Every promise of the table is kept."""

from pathlib import Path

import pytest

from tests.faults.table import SkippedError, faults

TABLE = faults()


@pytest.mark.parametrize("fault", TABLE, ids=[fault.name for fault in TABLE])
def test_what_is_promised_under_a_fault_holds(fault, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        fault.check(tmp_path)
    except SkippedError as reason:
        pytest.skip(str(reason))


def test_their_number_is_where_results_are_kept():
    text = (Path(__file__).parents[1] / "benchmarks" / "README.md").read_text("utf-8")
    assert f"{len(TABLE)} other faults of {len({fault.kind for fault in TABLE})} kinds" in text


def test_each_row_is_there_once():
    names = [fault.name for fault in TABLE]
    assert sorted(set(names)) == sorted(names)
