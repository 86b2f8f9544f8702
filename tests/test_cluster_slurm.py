"""The file for sbatch, the commands about a study under Slurm, and the file with programs in place of Slurm's."""

import os
import shlex
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from study.cluster.options import read
from study.cluster.package import ROOT
from study.cluster.slurm import script
from study.folder import Folder
from study.options import parse
from study.study import Run
from tests.scheduler_helpers import Recorder, submit
from tests.study_helpers import STARTED, a_record, a_study

WORDS = ("--on", "slurm", "--time", "1:00:00")
#: in place of srun: the command on one node after another, at once, with the rest of the options left out
SRUN = """
at = next(place for place, word in enumerate(words) if word in ("bash", "ray", "mkdir", "rm"))
count = next((int(word.split("=")[1]) for word in words if word.startswith("--ntasks=")), 1)
nodes = [subprocess.Popen(words[at:], env={**os.environ, "SLURM_PROCID": str(place)}) for place in range(count)]
sys.exit(max(node.wait() for node in nodes))
"""
#: in place of Python: it makes the token, and the study that waits for its end
PYTHON = """
if words[0] == "-c":
    print("secret")
else:
    study = os.path.join(os.environ["results"], "x")
    os.makedirs(study, exist_ok=True)
    open(os.path.join(study, "study.json"), "w").close()
    token = os.environ["RAY_AUTH_TOKEN_PATH"]
    note = [open(token).read().strip(), oct(os.stat(token).st_mode), oct(os.stat(os.path.dirname(token)).st_mode)]
    print(*note, os.environ["RAY_AUTH_MODE"], os.environ["STUDY_NODES"], os.environ.get("RAY_AUTH_TOKEN"),
          os.environ.get("A"), flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    time.sleep(float(os.environ.get("LASTS", "0")))
    sys.exit(int(os.environ.get("CODE", "0")))
"""
#: in place of Ray: it notes its address as Ray does, and lasts until it is stopped
RAY = """
if words[0] == "symmetric-run":
    first = os.environ["SLURM_PROCID"] == "0"
    sys.exit(subprocess.run(words[words.index("--") + 1 :]).returncode if first else 0)
if "--head" in words:
    folder = words[words.index("--temp-dir") + 1]
    os.makedirs(folder)
    if os.environ.get("BROKEN"):
        print("no room")
        sys.exit(1)
    open(os.path.join(folder, "ray_current_cluster"), "w").write("10.0.0.1:4321")
time.sleep(60)
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Programs in place of Slurm's and the study's."""
    monkeypatch.chdir(tmp_path)
    recorder = Recorder(tmp_path, monkeypatch)
    recorder.put("sbatch", prints="12;one\n")
    recorder.put("squeue", prints="12|study-x|RUNNING|1:02|n[1-2]\n13|other|PENDING|0:00|(Priority)\n")
    for name, body in (("scancel", ""), ("scontrol", ""), ("srun", SRUN), ("python", PYTHON), ("ray", RAY)):
        recorder.put(name, body, prints="n1\n" if name == "scontrol" else "")
    return recorder


def file(*words, exclusive=False):
    """The file of a study x."""
    request = read([*WORDS, *(["--exclusive"] if exclusive else []), "--nodes", "2", "--env", "A=b c", "--", *words])
    return script(request, "x", parse(["--name", "x", *words]))


@pytest.mark.parametrize("exclusive", [False, True])
def test_the_file_is_correct_shell(exclusive, tmp_path):
    path = tmp_path / "job.sh"
    path.write_text(file("--results", "/a b/it's", "--data", "/$(touch x)", exclusive=exclusive))
    subprocess.run(["bash", "-n", path], check=True)
    check = Path(sys.executable).with_name("shellcheck")
    subprocess.run([check, "--severity=warning", "--exclude=SC2089,SC2090", path], check=True)
    if not exclusive:
        node = path.read_text().partition("\nnode='\n")[2].partition("\n'\n")[0]
        path.write_text(f"python='' cpus='' gpus='' memory='' shared=''\n{node}\n")
        subprocess.run([check, "--severity=warning", "--shell=bash", path], check=True)


def test_what_is_printed_is_the_file_and_nothing_else(slurm, capsys):
    assert submit("--on", "slurm", "--", "--name", "x", "--results", "r") == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("#!/bin/bash\n#SBATCH --job-name=study-x\n")
    assert printed.out.endswith((ROOT / "study" / "cluster" / "slurm.sh").read_text())
    assert "--time='<TIME>'" in printed.out
    assert "replace what stands for --time, then submit it with: mkdir -p " in printed.err
    assert submit("--on", "slurm", "--run", "--", "--name", "x") == 2
    assert "--time is missing; expected it with --run" in capsys.readouterr().err
    assert slurm.calls() == []


def test_a_study_is_given_to_sbatch_as_it_was_printed(slurm, tmp_path, capsys):
    words = ("--", "--name", "x", "--results", "r", "--trials", "3")
    assert submit(*WORDS, *words) == 0
    printed = capsys.readouterr().out
    assert submit(*WORDS, "--run", *words) == 0
    assert slurm.calls() == [["sbatch", ["--parsable"], printed]]
    assert (tmp_path / "r").is_dir()  # where Slurm writes what the study prints
    assert "Submitted as job 12." in capsys.readouterr().out
    assert f"#SBATCH --output={tmp_path}/r/x-%j.out\n" in printed
    assert f"study=(--results {tmp_path}/r --trials 3 --name x)\n" in printed


INVALID = [
    ("--time soon --", "--time is 'soon'; expected minutes"),
    ("--time 1:00:00\n#SBATCH --", "expected"),
    ("--nodes 0 --", "--nodes is 0; expected"),
    ("--partition a;b --", "--partition is 'a;b'; expected"),
    ("--address http://h --", "--address is not an option of submit"),
    ("resume", "NAME is missing"),
    ("stop", "NAME"),
    ("fetch x", "--from"),
    ("--env A_TOKEN=x --", "looks like a secret"),
    ("-- --name x --data \x1b[2J", "control character"),
    ("-- --name x --results /r\n#SBATCH", "control character"),
    ("-- --results s3://bucket", "--results is"),
]


@pytest.mark.parametrize(("line", "part"), INVALID)
def test_invalid_options_are_one_sentence_and_exit_code_2(line, part, slurm, capsys):
    action, rest = (line.split()[:1], line.split(" ")[1:]) if line[0] not in "-" else ([], line.split(" "))
    assert submit(*action, "--on", "slurm", *rest) == 2
    printed = capsys.readouterr().err
    assert part in printed
    assert len(printed.splitlines()) == 1
    assert slurm.calls() == []


def test_the_studies_that_slurm_has_are_listed(slurm, capsys):
    assert submit("status", "--on", "slurm") == 0
    assert capsys.readouterr().out == "x is running as job 12 for 1:02: n[1-2]\n"
    slurm.put("squeue")
    assert submit("status", "--on", "slurm", "y") == 0
    assert "no job of study y" in capsys.readouterr().out


def test_a_stop_is_a_signal_to_the_script_and_cancels_what_waits(slurm, capsys):
    assert submit("stop", "--on", "slurm", "x") == 0
    first, second = (words for _, words, _ in slurm.calls("scancel"))
    assert "--state=PENDING" in first
    assert {"--batch", "--signal=TERM"} <= set(second)
    assert "--name=study-x" in first
    assert "--name=study-x" in second
    slurm.put("squeue")
    assert submit("stop", "--on", "slurm", "x") == 4


def test_logs_are_those_of_the_last_job(slurm, tmp_path, capsys):
    for number, (name, text) in enumerate(
        {"x-9.out": "old", "x-10.out": "new \x1b[2J\n", "x-y-11.out": "other"}.items()
    ):
        (tmp_path / name).write_text(text)
        os.utime(tmp_path / name, (number, number))
    assert submit("logs", "--on", "slurm", "x", "--results", ".") == 0
    assert capsys.readouterr().out == "new \\x1b[2J\n"
    assert submit("logs", "--on", "slurm", "x") == 4


def test_a_folder_on_shared_disk_is_fetched(slurm, tmp_path):
    there = Folder(tmp_path / "shared" / "x")
    there.trials.mkdir(parents=True)
    there.write_study(a_study(name="x"), Run(started=STARTED, command="", commit=None, versions={}, store=""))
    there.write_record(a_record(1))
    assert submit("fetch", "--on", "slurm", "x", "--from", "shared") == 0
    here = Folder(tmp_path / "results" / "x")
    assert here.read_records(here.read_study()) == [a_record(1)]
    assert submit("fetch", "--on", "slurm", "y", "--from", "shared") == 4


def test_where_slurm_is_not_or_fails_is_one_sentence(slurm, monkeypatch, capsys):
    slurm.put("squeue", "sys.stderr.write('squeue: error: Unable to contact slurm controller\\n'); sys.exit(1)")
    assert submit("status", "--on", "slurm") == 4
    assert "squeue --user=" in (printed := capsys.readouterr().err)
    assert "Unable to contact" in printed
    monkeypatch.setenv("PATH", "/nowhere")
    assert submit(*WORDS, "--run", "--", "--name", "x") == 4
    assert "sbatch: No such file or directory; expected" in capsys.readouterr().err


class Started:
    """The file of a study, run as Slurm runs it, but with other programs."""

    def __init__(self, slurm, *, exclusive=False, **environment):
        self.slurm = slurm
        self.results = slurm.folder.parent / "results"
        text = file("--results", str(self.results), exclusive=exclusive)
        text = text.replace(f"python={sys.executable}", f"python={slurm.folder}/python\nexport results")
        self.path = slurm.folder.parent / "job.sh"
        self.path.write_text(text)
        ours = {"SLURM_JOB_ID": "12", "SLURM_JOB_NODELIST": "n[1-2]", **environment}
        self.process = subprocess.Popen(
            ["bash", self.path],
            env={**os.environ, **ours},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def send(self, number):
        """Send a signal once the study runs."""
        end = time.monotonic() + 20
        while not self.study() and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(0.3)
        self.process.send_signal(number)

    def study(self):
        """The words of the study."""
        return next((words for _, words, _ in self.slurm.calls("python") if "study.run" in words), None)

    def end(self):
        """The exit code, and what was printed."""
        try:
            out, err = self.process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise
        return self.process.returncode, out, err


@pytest.fixture(params=[False, True], ids=["shared nodes", "whole nodes"])
def exclusive(request):
    """Both forms of the file."""
    return request.param


def test_the_file_starts_ray_on_every_node_and_the_study_on_the_first(slurm, exclusive):
    job = Started(slurm, exclusive=exclusive, CODE="3", LASTS="1.5", RAY_AUTH_TOKEN="of another cluster")
    code, out, err = job.end()
    assert code == 3, err
    assert out.split() == ["secret", "0o100600", "0o40700", "token", "2", "None", "b", "c"]
    assert job.study()[-2:] == ["--address", "n1:6379" if exclusive else "10.0.0.1:4321"]
    assert "--resume" not in job.study()
    assert [path.name for path in job.results.iterdir()] == ["x"]  # token and address are gone
    assert stat.S_IMODE(job.results.stat().st_mode) & 0o055 == 0o055
    if not exclusive:
        (head,), (worker,) = (
            [words for _, words, _ in slurm.calls("ray") if word in words] for word in ("--head", "--address")
        )
        assert worker[worker.index("--address") + 1] == "10.0.0.1:4321"
        folder = Path(head[head.index("--temp-dir") + 1])
        assert len(str(folder)) < 20
        assert not folder.parent.exists()
        for words in (head, worker):
            assert words[words.index("--num-cpus") + 1] == "4"
            assert words[words.index("--memory") + 1] == str(1536 * 2**20)


@pytest.mark.parametrize(("number", "requeued"), [(signal.SIGUSR1, True), (signal.SIGTERM, False)])
def test_a_signal_ends_the_study_in_order_and_the_time_limit_requeues_it(slurm, exclusive, number, requeued):
    job = Started(slurm, exclusive=exclusive, LASTS="20")
    job.send(number)
    code, _, err = job.end()
    assert code == 75, err
    calls = [words for _, words, _ in slurm.calls("scontrol") if words[0] == "requeue"]
    assert calls == ([["requeue", "12"]] if requeued else [])
    if requeued:
        last = [name for name, words, _ in slurm.calls() if name == "scontrol" or "rm" in words][-1]
        assert last == "scontrol"  # what comes later is not run
        slurm.log.unlink()
        job = Started(slurm, exclusive=exclusive, SLURM_RESTART_COUNT="1")
        assert job.end()[0] == 0
        assert "--resume" in job.study()


def test_a_ray_that_does_not_start_is_exit_code_4_with_what_it_printed(slurm):
    code, _, err = Started(slurm, BROKEN="1").end()
    assert code == 4
    assert "Ray did not start on the first node:" in err
    assert "no room" in err


def test_the_command_that_continues_a_study_sizes_its_job_as_it_was():
    words = ("--gpus-per-trial", "0.5", "--concurrency", "4", "--mixed", "--max-failures", "9", "--results", "/r")
    (line,) = [line for line in file(*words).splitlines() if line.startswith("export STUDY_RESUME_COMMAND=")]
    command = shlex.split(shlex.split(line)[1].partition("=")[2])
    at = command.index("--")
    assert command[command.index("--env") + 1] == "A=b c"
    assert parse(command[at + 1 :]) == parse([*words])
    assert read(command[3:]).nodes == 2
