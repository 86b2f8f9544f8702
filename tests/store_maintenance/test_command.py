"""`python -m moe.store`: its words and what it prints."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.filesize import decimal

from moe.stages import PIPELINE
from moe.store.__main__ import main, size
from tests.store_maintenance.helpers import (
    SMALL,
    age,
    paths,
    put,
    sum_of,
)


class TestWords:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            *[("0", 0), ("500000000", 500_000_000), ("20GB", 20 * 10**9), ("1.5 tib", 3 * 2**39), ("2kb", 2000)],
            *[("3KiB", 3072), ("4 MB", 4 * 10**6), ("5mib", 5 * 2**20), ("0.5GiB", 2**29), ("1TB", 10**12)],
        ],
    )
    def test_a_size_may_have_a_unit(self, text, value):
        assert size(text) == value

    @pytest.mark.parametrize("text", ["", "-1", "many", "20XB", "1e9", "20 G B", "inf", "nan", "GB", "1.GB", "٣"])
    def test_any_other_size_is_refused_in_one_sentence(self, text, capsys):
        with pytest.raises(SystemExit) as ended:
            main(["gc", "--max-bytes", text])
        assert ended.value.code == 2
        (sentence,) = capsys.readouterr().err.splitlines()
        assert sentence.startswith(f"python -m moe.store gc: --max-bytes is {text!r}; expected ")
        assert "TiB" in sentence

    def test_a_negative_size_with_a_unit_is_refused_too(self, capsys):
        with pytest.raises(SystemExit) as ended:
            main(["gc", "--max-bytes", "-5GB"])
        assert ended.value.code == 2
        assert "--max-bytes" in capsys.readouterr().err


class TestCommandLine:
    def call(self, tmp_path, *arguments, **settings):
        """The command where an import of torch would end it."""
        (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
        environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{Path.cwd()}"}
        command = [sys.executable, "-m", "moe.store", *arguments]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **settings}
        return subprocess.run(command, text=True, check=False, env=environment, **streams)

    def test_ls_shows_a_line_for_each_chain_and_one_for_all_without_torch(self, folder, tmp_path):
        done = self.call(tmp_path, "--store", str(folder), "ls")
        assert done.returncode == 0, done.stderr
        head, *rows, last = done.stdout.splitlines()
        assert head.split()[0] == "stage"
        assert {row.split()[0] for row in rows} == set(PIPELINE)
        assert all(re.search(r" small +2(, stopped)? +batch_size=20 test_examples=50 +100 +[12] ", row) for row in rows)
        assert last == f"5 chains, 10 epochs, {decimal(sum_of(folder))} in {folder}"

    def test_gc_frees_without_torch(self, folder, tmp_path):
        age(folder)
        done = self.call(tmp_path, "gc", "--max-bytes", "0", "--store", str(folder))
        assert done.returncode == 0, done.stderr
        assert paths(folder) == []

    def test_a_reader_that_leaves_is_no_error(self, folder, tmp_path):
        reading, writing = os.pipe()
        os.close(reading)
        done = self.call(tmp_path, "--store", str(folder), "ls", stdout=writing)
        os.close(writing)
        assert (done.returncode, done.stderr) == (0, "")

    def test_what_the_encoding_lacks_is_replaced(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PYTHONIOENCODING", "ascii")
        done = self.call(tmp_path, "--store", str(tmp_path / "ü"), "ls")
        assert (done.returncode, done.stderr) == (0, "")
        assert str(tmp_path / "?") in done.stdout

    def test_a_store_that_is_not_there_holds_nothing(self, tmp_path, capsys):
        for command, said in (
            (["ls"], "is not there yet"),
            (["verify"], "0 files"),
            (["gc", "--max-bytes", "0"], "Freed 0 bytes"),
        ):
            assert main([*command, "--store", str(tmp_path / "none")]) == 0
            assert said in capsys.readouterr().out
        assert not (tmp_path / "none").exists()

    def test_a_stopped_chain_says_so(self, place, capsys):
        put(place, epochs=3)
        assert main(["--store", place.name, "ls"]) == 0
        assert " 3, stopped " in capsys.readouterr().out

    @pytest.mark.parametrize("location", ["", "nowhere://x", "s3://me:secret@bucket"])
    def test_a_location_that_is_none_is_refused(self, location, capsys, monkeypatch):
        with pytest.raises(SystemExit) as ended:
            main(["--store", location, "ls"])
        assert ended.value.code == 2
        (sentence,) = capsys.readouterr().err.splitlines()
        assert sentence.startswith("python -m moe.store: --store is ")
        assert "secret" not in sentence

    def test_so_is_that_of_the_environment_under_its_name(self, capsys, monkeypatch):
        monkeypatch.setenv("MOE_STORE", "nowhere://x")
        with pytest.raises(SystemExit):
            main(["ls"])
        assert "MOE_STORE is nowhere://x; expected" in capsys.readouterr().err

    @pytest.mark.parametrize("command", [["ls"], ["verify"], ["gc", "--max-bytes", "0"]])
    @pytest.mark.parametrize(
        ("failure", "code", "sentences"),
        [(PermissionError(13, "Permission denied"), 4, 1), (KeyboardInterrupt(), 130, 0)],
    )
    def test_a_store_that_cannot_be_read_is_one_sentence(
        self, command, failure, code, sentences, tmp_path, monkeypatch, capsys
    ):
        def fails(*_):
            raise failure

        monkeypatch.setattr("moe.store.files.os.scandir", fails)
        assert main([*command, "--store", str(tmp_path)]) == code
        said = capsys.readouterr().err.splitlines()
        assert len(said) == sentences
        assert all(f"{tmp_path}: Permission denied" in sentence for sentence in said)


def test_json_lists_every_chain_with_its_spec(folder, capsys):
    assert main(["--store", str(folder), "ls", "--json"]) == 0
    chains = json.loads(capsys.readouterr().out)
    assert {chain["stage"]: chain["epochs"] for chain in chains} == dict.fromkeys(PIPELINE, SMALL.epochs)
    assert {chain["spec"]["seed"] for chain in chains} == {SMALL.seed}
