import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from study.cluster.options import job_options, read
from study.options import as_words, parse
from study.submit import main

URL = "http://head:8265"
ROOT = Path(__file__).parent.parent

INVALID = [
    ("", "--address"),
    ("--address head:8265", "--address is 'head:8265'; expected"),
    ("--address auto", "--address is 'auto'; expected"),
    ("--address http://me:secret@head:8265", "--address: has credentials in it; expected"),
    ("--address http://head:99999999", "--address is 'http://head:99999999'; expected"),
    ("--address http://h/$(x);y", "--address is"),
    ("--address http://h/'x'", "--address is"),
    ("--on lsf --address URL", "--on is 'lsf'; expected one of ray, slurm, kubernetes"),
    ("look --address URL", "the action is 'look'; expected submit, status, logs, stop, fetch, resume"),
    ("status ../x --address URL", "NAME is '../x'; expected"),
    ("status --address URL -- --trials 3", "status is followed by --; expected"),
    ("status x y --address URL", "y is not an option of status; expected"),
    ("--address URL stop x", "stop is not an option of submit; expected the action first"),
    ("--address URL --trials 3", "--trials is not an option of submit; expected"),
    ("--address URL --env 3", "--env is '3'; expected NAME=VALUE"),
    ("--address URL --env AWS_SECRET_ACCESS_KEY=secret@", "--env is AWS_SECRET_ACCESS_KEY=..., which looks like"),
    ("--address URL --env WANDB_API_KEY=secret@", "--env is WANDB_API_KEY=..., which looks like"),
    *(
        (f"--address URL --env {name}=secret@", f"--env is {name}=..., which looks like")
        for name in (
            "AZURE_STORAGE_CONNECTION_STRING",
            "MYSQL_PWD",
            "GITHUB_PAT",
            "DB_PW",
            "SECRETKEY",
            "MINIO_ACCESSKEY",
            "SSHKEY",
            "PRIVATEKEY",
        )
    ),
    *(
        (f"--address URL --env X={value}", "--env is X=..., which looks like")
        for value in ("https://h/x?sig=secret@", "AccountKey=secret@", "-----BEGIN-secret@")
    ),
    ("--address URL --env hf_tokens=secret@", "--env is hf_tokens=..., which looks like"),
    ("--address URL --env MOE_STORE=s3://me:secret@host/b", "--env is MOE_STORE=..., which looks like"),
    ("--address URL --env RAY_JOB_STOP_SIGNAL=SIGKILL", "--env is RAY_JOB_STOP_SIGNAL=..., which is set"),
    ("--address URL --ca ca.pem", "--ca is ca.pem and --address is http://head:8265; expected"),
    ("--address https://head:65536", "expected the URL of a dashboard"),
    ("--address URL --env A\u00c9=1", "expected NAME=VALUE"),
    ("fetch --address URL --results s3://bucket/x", "--results is s3:/bucket/x; expected a folder on this machine"),
    ("--address https://head --ca nowhere.pem", "--ca is nowhere.pem: No such file or directory; expected"),
    ("--address https://head --ca .", "--ca is .: Is a directory; expected"),
    ("--address URL -- --data s3://bucket/d", "--data is s3:/bucket/d; expected"),
    ("--address URL -- --results s3://me:secret@bucket", "--results is s3://..., with credentials"),
    ("fetch --from s3://bucket/r", "--from is s3://bucket/r, without NAME; expected"),
    ("fetch --from s3://me:secret@bucket x", "--from is s3://..., with credentials"),
    ("fetch x", "--address is missing; expected"),
    ("--address URL -- --trials 0", "--trials is '0'; expected"),
    ("--address URL -- --space nowhere.yaml", "--space 'nowhere.yaml' is"),
    ("--address URL -- --address auto", "--address is auto after --; expected"),
    ("--address URL -- --resume", "--resume is after --; expected"),
    ("--address URL -- --dry-run", "--dry-run is after --; expected"),
    ("resume one --address URL -- --name two", "--name is two after --; expected one"),
]


@pytest.mark.parametrize(("line", "part"), INVALID)
def test_invalid_options_are_one_sentence_and_exit_code_2(line, part, capsys, monkeypatch):
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    with pytest.raises(SystemExit) as ended:
        main(line.replace("URL", URL).split())
    printed = capsys.readouterr().err
    assert ended.value.code == 2
    assert part in printed
    assert len(printed.splitlines()) == 1
    assert "secret@" not in printed


def test_invalid_options_are_refused_in_two_seconds_without_torch_or_ray(tmp_path):
    for name in ("torch", "ray"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} was imported')")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    for line in ("--on slurm --address URL -- --trials 1", "--address URL -- --trials 0", "fetch --address URL --"):
        began = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "study.submit", *line.replace("URL", URL).split()]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime < 2  # on a busy machine too


def test_an_action_has_its_own_options(monkeypatch):
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", URL)
    request = read(["--env", "MOE_CACHE=/data", "--", "--trials", "7", "--name", "x"])
    assert (request.action, request.on, request.address, request.name) == ("submit", "ray", URL, "x")
    assert (request.env, request.run.trials) == ({"MOE_CACHE": "/data"}, 7)
    request = read(["fetch", "--address", f"{URL}/", "x", "--results", "here"])
    assert (request.action, request.address, request.name, request.results) == ("fetch", URL, "x", Path("here"))
    assert read(["resume", "x", "--", "--hours", "8"]).name == "x"


def test_a_request_has_the_commands_for_its_study():
    request = read(["fetch", "--address", URL])
    assert request.command("stop", "x") == f"python -m study.submit stop --address {URL} x"
    request = read(["stop", "--address", URL, "--without-authentication"])
    assert request.command("logs", "y").endswith("--without-authentication y")


def test_variables_whose_names_only_look_like_a_secrets_are_passed_on():
    for name in ("MONKEY", "KEYBOARD", "AUTHOR", "BYPASS", "MOE_CACHE", "TOKENIZERS_PARALLELISM"):
        assert read(["--address", URL, "--env", f"{name}=1"]).env == {name: "1"}


def words(line, before=None, name="x"):
    return parse(as_words(job_options(read(line.split()), name, before)))


def test_a_job_gets_all_options_of_the_study():
    given = (
        "--trials 9 --dataset shapes --space full --sampler gp --seed 0 --hours 2.5 --no-store --gpus-per-trial 0 "
        "--cpus-per-trial 2 --concurrency 3 --objective gain --protocol notebook --results /r --name x"
    )
    assert words(f"--address {URL} -- {given}") == parse([*given.split(), "--address", "auto"])
    assert words(f"--address {URL} --dry-run -- {given}").dry_run


def test_paths_are_absolute_in_a_job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text("epochs: [1, 2]\ntrain_examples: 50\ntest_examples: 50\n")
    run = words(f"--address {URL} -- --results r --data d --store s --space my.yaml")
    assert (run.results, run.data, run.store) == (str(tmp_path / "r"), tmp_path / "d", str(tmp_path / "s"))
    assert run.space == "submitted/my.yaml"
    assert words(f"--address {URL} -- --store s3://bucket/stages").store == "s3://bucket/stages"
    assert words(f"--address {URL} --").results == str(tmp_path / "results")
    assert words(f"--address {URL} -- --results s3://bucket/r").results == "s3://bucket/r"


def test_a_resume_takes_over_resources_and_places_that_are_not_given():
    given = "--trials 5 --results /r --data /d --store /s --cpus-per-trial 2 --seed 4 --name x"
    before = parse(given.split())
    run = words(f"resume --address {URL}", before)
    assert (run.results, run.store, run.cpus_per_trial, run.resume) == ("/r", "/s", 2, True)
    assert (run.trials, run.seed, run.data) == (None, None, None)  # these are in the study's folder
    run = words(f"resume --address {URL} -- --cpus-per-trial 3 --no-store --results /other", before)
    assert (run.cpus_per_trial, run.store, run.no_store, run.results) == (3, None, True, "/other")


def test_a_job_that_runs_every_point_gets_the_word_for_it():
    assert words(f"--address {URL} -- --trials all").trials == 0


def test_a_resume_takes_over_all_that_the_studys_folder_does_not_hold():
    given = "--name x --mixed --stall-minutes 5 --max-failures 7 --log tensorboard --no-store"
    run = words(f"resume --address {URL}", parse(given.split()))
    assert (run.mixed, run.stall_minutes, run.max_failures, run.log, run.no_store) == (True, 5, 7, "tensorboard", True)


def test_a_resume_of_a_scheduler_is_sized_as_the_job_was():
    line = "--on slurm --nodes 2 --partition p --env A=b --"
    request = read(line.split())
    assert request.command("resume", "x") == (
        "python -m study.submit resume --on slurm --nodes 2 --partition p --env A=b x"
    )
    assert request.command("stop", "x") == "python -m study.submit stop --on slurm x"


def test_ctrl_c_while_the_command_loads_is_one_sentence(monkeypatch, capsys):
    class Loading:
        def __getattr__(self, name):
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "study.cluster.options", Loading())
    assert main(["status"]) == 75
    assert capsys.readouterr().err == "python -m study.submit: interrupted\n"


def test_a_pipe_in_place_of_certificates_is_not_waited_for(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SystemExit) as ended:
        read(["status", "--address", "https://head:8265", "--ca", str(tmp_path / "pipe")])
    assert ended.value.code == 2
    assert "no certificate in PEM" in capsys.readouterr().err
