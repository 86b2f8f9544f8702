"""`python -m study.run --results URL`: wrong usage, and a study that is killed and goes on elsewhere."""

import pytest

from moe.store.files import Remote
from study import run
from tests.remote.helpers import eventually
from tests.run_helpers import ONE_AT_A_TIME, SMALL, call, furnished, records, start, until


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--name x", "--name is x; memory://refused has such a study already: add --resume"),
        ("--name z --resume", "--name is z; expected a study in memory://refused: x"),
        ("--name y --space nowhere.yaml", "--space"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_written(words, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = Remote("memory://refused")
    place.replace("x/study.json", b"{}")
    with pytest.raises(SystemExit) as refused:
        run.main(["--results", "memory://refused", *words.split()])
    assert refused.value.code == 2
    assert sentence in capsys.readouterr().err
    assert place.folders("") == ["x"]
    assert set(place.files("x")) == {"study.json"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("", "--results is s3://bucket/r, without --name; expected"),
        ("--name x --results s3://bucket//r", "--results is s3://bucket//r; expected a URL with a name after each /"),
        ("--name x --results s3://bucket/../r", "--results is s3://bucket/../r; expected"),
        ("--name x --results s3://", "--results is s3://; expected"),
        ("--name x --worker --trials all", "--worker is given with --results s3://bucket/r; expected"),
        ("--name x --results s3://me:secret@bucket", "--results is s3://..., with credentials"),
        ("--name x --results nowhere://bucket", "--results is nowhere://bucket; expected"),
    ],
)
def test_what_cannot_work_is_refused(words, sentence, capsys):
    with pytest.raises(SystemExit) as refused:
        run.main(["--results", "s3://bucket/r", *words.split()])
    assert refused.value.code == 2
    assert sentence in capsys.readouterr().err


def test_a_study_that_is_killed_goes_on_elsewhere_with_what_the_bucket_has(s3, tmp_path):
    one, two = (furnished(tmp_path / name) for name in ("one", "two") if not (tmp_path / name).mkdir())
    words = ("--name", "x", "--results", f"{s3}/studies", *ONE_AT_A_TIME)
    grid = (*SMALL, "--space", "four.yaml", "--sampler", "grid", "--trials", "3")
    with start(one, *grid, *words) as driver:
        until(driver, "trial 2 started")
        bucket = Remote(f"{s3}/studies")
        eventually(lambda: b'"complete"' in (bucket.read("x/trials/0001.json") or b""))
        driver.kill()
    code, printed = call(two, "--resume", "--trials", "4", *words)
    assert code == 0, printed
    assert "A copy is at" in printed
    first, *rest = records(two, "x")
    assert first == records(one, "x")[0]
    assert [record["state"] for record in rest] == ["complete"] * 3
    assert len({(record["config"]["epochs"], record["config"]["train_examples"]) for record in (first, *rest)}) == 4
    copied = {name: bucket.read(f"x/trials/{name}") for name in bucket.files("x/trials")}
    assert copied == {path.name: path.read_bytes() for path in (two / "results" / "x" / "trials").glob("*.json")}
    assert {"best.json", "trials.csv", "epochs.csv", "summary.md", "study.db"} <= set(bucket.files("x"))
