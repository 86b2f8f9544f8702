"""The RayJob of a study, against the real schema where that is here, and the commands with a recorder for kubectl."""

import base64
import copy
import gzip
import itertools
import shlex
from pathlib import Path

import pytest
import yaml

from moe.store.location import place_at
from study.cluster import attempt, fetch
from study.folder import Folder
from study.options import parse
from study.study import Run
from tests.scheduler_helpers import Recorder, submit
from tests.study_helpers import STARTED, a_record, a_study

#: of KubeRay, which the project does not ship
SCHEMA = Path(__file__).parents[2] / "shared" / "kuberay" / "ray.io_rayjobs.yaml.gz"
WORDS = ("--on", "kubernetes")
GIVEN = ("--image", "registry/moe@sha256:0f", "--claim", "shared-rwx")


@pytest.fixture
def kubectl(tmp_path, monkeypatch):
    """A program in place of kubectl, which finds all as it should be."""
    monkeypatch.chdir(tmp_path)
    recorder = Recorder(tmp_path, monkeypatch)
    recorder.put("kubectl", prints="rayjob.ray.io/study-x created\n")
    return recorder


def documents(capsys, *words):
    """What is printed for a study x, as documents."""
    own, _, rest = " ".join(words).partition("--- ")
    assert submit(*WORDS, *own.split(), "--", "--name", "x", *rest.split()) == 0
    return list(yaml.safe_load_all(capsys.readouterr().out))


def strict(schema):
    """The schema, but for fields that it does not have."""
    schema = copy.deepcopy(schema)
    for part in walk(schema):
        if "properties" in part and not part.get("x-kubernetes-preserve-unknown-fields"):
            part.setdefault("additionalProperties", False)
    return schema


def walk(part):
    if isinstance(part, dict):
        yield part
        for value in part.values():
            yield from walk(value)
    elif isinstance(part, list):
        for value in part:
            yield from walk(value)


@pytest.fixture(scope="module")
def schema():
    """Of a RayJob."""
    if not SCHEMA.exists():
        pytest.skip("KubeRay's schema is not on this machine")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the other one takes 7 s
    versions = yaml.load(gzip.decompress(SCHEMA.read_bytes()), loader)["spec"]["versions"]
    return strict(next(each for each in versions if each["name"] == "v1")["schema"]["openAPIV3Schema"])


@pytest.mark.parametrize("words", ["", "--nodes 3 --queue q --namespace n --- --gpus-per-trial 0.5 --concurrency 8"])
def test_the_rayjob_fits_the_schema_of_kuberay(words, schema, capsys):
    jsonschema = pytest.importorskip("jsonschema")
    (job,) = documents(capsys, *GIVEN, *words.split())
    metadata = job.pop("metadata")
    jsonschema.validate({**job, "metadata": {}}, schema)
    assert metadata["name"] == "study-x"
    job["spec"]["rayClusterSpec"]["authOption"] = {}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**job, "metadata": {}}, schema)


def test_what_is_printed_is_the_file_and_nothing_else(kubectl, capsys):
    assert submit(*WORDS, "--", "--name", "x") == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("apiVersion: ray.io/v1\nkind: RayJob\n")
    assert printed.out.count("<IMAGE>") == 2
    assert printed.out.count("<CLAIM>") == 2
    assert "replace what stands for --image, --claim, then submit it with: kubectl create -f FILE" in printed.err
    assert submit(*WORDS, "--run", "--image", "i", "--", "--name", "x") == 2
    assert "--claim is missing; expected it with --run" in capsys.readouterr().err
    assert kubectl.calls() == []


def test_the_job_is_safe_and_survives_its_cluster(capsys):
    (job,) = documents(capsys, *GIVEN, "--nodes", "2", "--queue", "q", "--env", "A=b", "---", "--trials", "9")
    spec, cluster = job["spec"], job["spec"]["rayClusterSpec"]
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "q"
    assert cluster["authOptions"] == {"mode": "token"}
    assert spec["shutdownAfterJobFinishes"]
    assert spec["backoffLimit"] > 0
    words = shlex.split(spec["entrypoint"])
    assert words[:3] == ["python", "-m", "study.cluster.attempt"]
    run = parse(words[3:])
    assert (run.trials, run.name, str(run.results), run.store) == (9, "x", "/shared/results", "/shared/stages")
    variables = yaml.safe_load(spec["runtimeEnvYAML"])["env_vars"]
    assert (variables["A"], variables["STUDY_NODES"], variables["RAY_JOB_STOP_SIGNAL"]) == ("b", "3", "SIGINT")
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    (workers,) = cluster["workerGroupSpecs"]
    assert workers["replicas"] == 2
    for group in (cluster["headGroupSpec"], workers):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert container["image"] == GIVEN[1]
        assert container["resources"]["limits"] == container["resources"]["requests"]
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert volumes[mounts["/shared"]]["persistentVolumeClaim"] == {"claimName": "shared-rwx"}
        assert volumes[mounts["/dev/shm"]]["emptyDir"]["medium"] == "Memory"


def test_gpus_cpus_and_memory_are_those_of_the_studys_options(capsys):
    (job,) = documents(capsys, "--nodes", "2", "---", "--gpus-per-trial 0.5 --concurrency 8 --cpus-per-trial 2")
    (workers,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    limits = workers["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits == {"cpu": "8", "memory": f"{2048 + 4 * 1536}Mi", "nvidia.com/gpu": "2"}
    assert "&id" not in capsys.readouterr().out  # YAML's anchors


def test_a_file_of_a_space_travels_as_a_config_map(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = "epochs: [1, 2]\ntrain_examples: 50\ntest_examples: 50\n"
    Path("my.yaml").write_text(text)
    config, job = documents(capsys, "---", "--space", "my.yaml")
    assert (config["kind"], config["data"]) == ("ConfigMap", {"my.yaml": text})
    assert parse_space(job) == "/space/my.yaml"
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    assert {"name": "space", "configMap": {"name": config["metadata"]["name"]}} in head["volumes"]
    assert {"name": "space", "mountPath": "/space"} in head["containers"][0]["volumeMounts"]


def parse_space(job):
    words = shlex.split(job["spec"]["entrypoint"])
    return words[words.index("--space") + 1]


INVALID = [
    ("-- --name X", "--name is X; expected"),
    ("-- --results /r", "--results is /r; expected a folder in /shared"),
    ("-- --data /d", "--data is /d; expected a folder in /shared"),
    ("-- --store /a$(b)", "an option is"),
    ("--image a;b --", "--image is 'a;b'; expected"),
    ("--queue a\nb: --", "--queue is"),
    ("--nodes 0 --", "--nodes is 0; expected"),
    ("--time 1 --", "--time is not an option of submit"),
    ("resume", "NAME is missing"),
    ("fetch x", "--image, --claim is missing"),
    ("status ../x", "NAME is '../x'"),
]


@pytest.mark.parametrize(("line", "part"), INVALID)
def test_invalid_options_are_one_sentence_and_exit_code_2(line, part, kubectl, capsys):
    action, rest = ([], line.split(" ")) if line.startswith("-") else (line.split()[:1], line.split()[1:])
    assert submit(*action, *WORDS, *rest) == 2
    printed = capsys.readouterr().err
    assert part in printed
    assert len(printed.splitlines()) == 1
    assert kubectl.calls() == []


def test_a_study_is_created_as_it_was_printed_and_replaced_by_a_resume(kubectl, capsys):
    assert submit(*WORDS, *GIVEN, "--", "--name", "x") == 0
    printed = capsys.readouterr().out
    assert submit(*WORDS, *GIVEN, "--run", "--", "--name", "x") == 0
    assert submit("resume", *WORDS, *GIVEN, "--namespace", "n", "--run", "x", "--", "--trials", "9") == 0
    (_, first, created), (_, second, replaced) = kubectl.calls()
    assert (first, created) == (["create", "-f", "-"], printed)
    assert second == ["--namespace", "n", "replace", "--force", "-f", "-"]
    assert "--trials 9" in replaced


def test_the_commands_about_a_study_name_it(kubectl):
    assert submit("status", *WORDS) == 0
    assert submit("status", *WORDS, "x") == 0
    assert submit("logs", *WORDS, "x", "--follow") == 0
    assert submit("stop", *WORDS, "x") == 0
    every, one, logs, stop = (words for _, words, _ in kubectl.calls())
    assert every[:2] == ["get", "rayjobs"]
    assert one[one.index("--selector") + 1] == f"{every[every.index('--selector') + 1]},study=x"
    assert logs == ["logs", "--follow", "job/study-x"]
    assert stop[:3] == ["patch", "rayjob", "study-x"]
    assert '{"spec":{"suspend":true}}' in stop


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_folder_is_fetched_by_a_pod_that_is_removed(phase, kubectl, tmp_path, capsys):
    there = Folder(tmp_path / "there" / "x")
    there.trials.mkdir(parents=True)
    there.write_study(a_study(name="x"), Run(started=STARTED, command="", commit=None, versions={}, store=""))
    there.write_record(a_record(1))
    log = f"{fetch._PREFIX}{base64.b64encode(fetch.pack(there.path)).decode()}\n"
    answers = {"get": phase, "logs": log if phase == "Succeeded" else "fetch: it holds no study\n"}
    kubectl.put("kubectl", f"sys.stdout.write({answers!r}.get(words[0], ''))")
    code = submit("fetch", *WORDS, *GIVEN, "x")
    assert code == (0 if phase == "Succeeded" else 4)
    (_, created, pod), *_, (_, deleted, _) = kubectl.calls()
    pod = yaml.safe_load(pod)
    assert created[0] == "create"
    assert pod["spec"]["containers"][0]["command"][-3:] == ["study.cluster.fetch", "/shared/results", "x"]
    assert deleted[:3] == ["delete", "pod", pod["metadata"]["name"]]
    if phase == "Succeeded":
        here = Folder(tmp_path / "results" / "x")
        assert here.read_records(here.read_study()) == [a_record(1)]
    else:
        assert "fetch: it holds no study" in capsys.readouterr().err


@pytest.mark.parametrize("results", ["{folder}", "memory://attempts"])
def test_every_attempt_after_the_first_continues_the_study(tmp_path, monkeypatch, results):
    given, results = [], results.format(folder=tmp_path)
    monkeypatch.setattr("study.run.main", lambda words: given.append(words) or 0)
    words = ["--name", "x", "--results", results]
    attempt.main(words)
    place_at(results).replace("x/study.json", b"{}")
    monkeypatch.chdir(tmp_path)
    attempt.main(words)
    assert given == [words, [*words, "--resume"]]


def test_results_may_be_behind_a_url(capsys):
    (job,) = documents(capsys, *GIVEN, "---", "--trials", "9", "--results", "s3://bucket/r")
    assert parse(shlex.split(job["spec"]["entrypoint"])[3:]).results == "s3://bucket/r"


def test_the_command_that_continues_a_study_sizes_the_cluster_as_it_was(capsys):
    given = "--gpus-per-trial 1.0 --mixed --store s3://bucket/stages"
    (job,) = documents(capsys, *GIVEN, "--nodes", "3", "--env", "A=b", "---", given)
    command = yaml.safe_load(job["spec"]["runtimeEnvYAML"])["env_vars"]["STUDY_RESUME_COMMAND"]
    own, _, rest = command.removeprefix("python -m study.submit resume ").partition(" -- ")
    assert {"--nodes 3", "--env A=b", f"--claim {GIVEN[3]}"} <= {
        " ".join(pair) for pair in itertools.pairwise(own.split())
    }
    run = parse(rest.split())
    assert (run.gpus_per_trial, run.mixed, run.store) == (1, True, "s3://bucket/stages")


def test_a_pod_that_does_not_end_is_removed_and_where_to_look_is_named(kubectl, capsys, monkeypatch):
    monkeypatch.setattr("study.cluster.kubernetes.POD_S", 0)
    assert submit("fetch", *WORDS, *GIVEN, "--namespace", "n", "x") == 4
    *_, (_, deleted, _) = kubectl.calls()
    name = deleted[deleted.index("pod") + 1]
    assert f"kubectl --namespace n get events --field-selector involvedObject.name={name}" in capsys.readouterr().err
