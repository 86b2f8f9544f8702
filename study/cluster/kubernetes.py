"""A study on Kubernetes: a RayJob of KubeRay (`ray.io/v1`), and the commands for a study that is there.

The pods run an image that has this project installed, and share a volume at /shared for results, stages and data.
Every attempt of the job is a new cluster, on which the study continues (`study.cluster.attempt`).
"""

import re
import shlex
import time
import uuid
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from moe.cli import refuse
from moe.console import Exit, emit
from study.cluster.client import ENV
from study.cluster.fetch import receive
from study.cluster.options import job_options, space_file
from study.cluster.request import PROGRAM, Action, Request
from study.cluster.scheduler import NodeSize, call, continuation, hint, job_name, node_size, placeholder, show, written
from study.machine import ClusterError
from study.options import RESUME_COMMAND, Options, as_words

SHARED = Path("/shared")  # where the pods have the volume
POD = ("image", "claim")  # the options without which there is no pod
SPACE = "/space"  # where they have the file of a search space
ATTEMPTS = 3  # after the first one
ENDING_S = 120  # for a study to save and end before a pod is killed
POD_S = 300.0  # for a pod that sends a folder to start and end
LABELS = {"app.kubernetes.io/part-of": "moe-study"}
HEAD = NodeSize(cpus=1, gpus=0, trial_bytes=2**31)  # the driver: no trials
OBJECTS = str(200 * 2**20)  # bytes of Ray's object store, which a study hardly uses
_QUOTED = re.compile(r"[^\w@%+=:,./-]", re.ASCII)  # what a shell would change

Spec = dict[str, Any]  # a part of a document for Kubernetes, which nobody reads here


def submit(request: Request) -> int:
    """Write the RayJob of a study, or of its continuation, and with --run create it."""
    name = job_name(request)
    run = options_in_pods(request, name)
    text = yaml.safe_dump_all(documents(request, name, run), sort_keys=False, width=10_000)
    verb = ["replace", "--force"] if request.action == "resume" else ["create"]  # of what is there still, or is not
    if not written(request, text, POD, " ".join([*_kubectl(request), *verb, "-f", "FILE"])):
        return Exit.DONE
    emit(call(*_kubectl(request), *verb, "-f", "-", content=text).strip())
    hint(request, name)
    return Exit.DONE


def options_in_pods(request: Request, name: str) -> Options:
    """The options of study.run in the pods: results and stages are on their volume unless they are elsewhere."""
    run = job_options(request, name, space_folder=SPACE)
    run = run.replace(results=run.results if request.results_given else str(SHARED / "results"))
    if not (run.store or run.no_store):
        run = run.replace(store=str(SHARED / "stages"))
    for field in ("results", "data"):
        folder = getattr(run, field)
        if folder and "://" not in str(folder) and not Path(folder).is_relative_to(SHARED):
            refuse(PROGRAM, f"--{field} is {folder}; expected a folder in {SHARED}, where the pods have their volume")
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", name):
        refuse(PROGRAM, f"--name is {name}; expected at most 40 of a-z, 0-9 and -, as Kubernetes has names")
    for word in as_words(run):
        if _QUOTED.search(word):
            refuse(PROGRAM, f"an option is {word!r}; expected letters, digits and @ % + = : , . / - on Kubernetes")
    return run


def documents(request: Request, name: str, run: Options) -> list[Spec]:
    """What Kubernetes is to have: the RayJob, and before it the file of a search space."""
    queue = {"kueue.x-k8s.io/queue-name": request.queue} if request.queue else {}
    metadata: Spec = {"name": f"study-{name}", "labels": {**LABELS, "study": name, **queue}}
    file = space_file(request)
    size = node_size(run, request.nodes)
    workers = {
        "groupName": "trials",
        **dict.fromkeys(("replicas", "minReplicas", "maxReplicas"), request.nodes),
        "rayStartParams": {"object-store-memory": OBJECTS},
        "template": _pod(request, "worker", size, None),
    }
    head = {
        "rayStartParams": {"num-cpus": "0", "object-store-memory": OBJECTS},
        "template": _pod(request, "head", HEAD, metadata["name"] if file else None),
    }
    resume = continuation(request, name, run)
    variables = {**request.env, **ENV, RESUME_COMMAND: resume, "STUDY_NODES": str(request.nodes + 1)}
    job = {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": metadata,
        "spec": {
            "entrypoint": " ".join(["python", "-m", "study.cluster.attempt", *as_words(run)]),
            "runtimeEnvYAML": yaml.safe_dump({"env_vars": variables}, width=10_000),
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": 600,
            "backoffLimit": ATTEMPTS,
            "rayClusterSpec": {
                "rayVersion": version("ray"),
                "authOptions": {"mode": "token"},
                "headGroupSpec": head,
                "workerGroupSpecs": [workers],
            },
        },
    }
    if not file:
        return [job]
    data = {file.name: file.read_text("utf-8")}
    return [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {**metadata, "labels": LABELS}, "data": data}, job]


def _pod(request: Request, role: str, size: NodeSize, space: str | None) -> Spec:
    """A pod of the cluster; `space` names the ConfigMap with the file of a search space."""
    amounts = {"cpu": str(size.cpus), "memory": f"{size.mebibytes}Mi"}
    if size.gpus:
        amounts["nvidia.com/gpu"] = str(size.gpus)
    container = _container(request, f"ray-{role}")
    container["resources"] = {"limits": amounts, "requests": {**amounts}}
    container["volumeMounts"] += [{"name": "shm", "mountPath": "/dev/shm"}]
    volumes = [_volume(request), {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}]
    if space:
        container["volumeMounts"] += [{"name": "space", "mountPath": SPACE}]
        volumes += [{"name": "space", "configMap": {"name": space}}]
    return {"spec": {"terminationGracePeriodSeconds": ENDING_S, "containers": [container], "volumes": volumes}}


def _container(request: Request, name: str) -> Spec:
    return {
        "name": name,
        "image": placeholder("image", request.image),
        "env": [{"name": "MOE_CACHE", "value": str(SHARED / "cache")}],
        "volumeMounts": [{"name": "shared", "mountPath": str(SHARED)}],
    }


def _volume(request: Request) -> Spec:
    return {"name": "shared", "persistentVolumeClaim": {"claimName": placeholder("claim", request.claim)}}


def _kubectl(request: Request) -> list[str]:
    return ["kubectl", *(["--namespace", request.namespace] if request.namespace else [])]


def status(request: Request) -> int:
    """Print the RayJob of a study, or all."""
    labels = {**LABELS, **({"study": request.name} if request.name else {})}
    which = ",".join(f"{name}={value}" for name, value in labels.items())
    columns = "NAME:.metadata.labels.study,JOB:.status.jobStatus,CLUSTER:.status.jobDeploymentStatus,"
    columns += "STARTED:.status.startTime,FAILED:.status.failed"
    words = ("get", "rayjobs", "--selector", which, "--output", f"custom-columns={columns}")
    emit(call(*_kubectl(request), *words).rstrip())
    return Exit.DONE


def logs(request: Request) -> int:
    """Print what a study has printed in this attempt, and with --follow what it still prints, until Ctrl-C."""
    follow = ["--follow"] if request.follow else []
    show(*_kubectl(request), "logs", *follow, f"job/study-{request.name}")  # the one by which KubeRay submits it
    return Exit.DONE


def stop(request: Request) -> int:
    """Suspend a study: KubeRay stops its job, which saves and ends, and removes the cluster."""
    patch = '{"spec":{"suspend":true}}'
    call(*_kubectl(request), "patch", "rayjob", f"study-{request.name}", "--type", "merge", "--patch", patch)
    emit(f"Stopping study {request.name}: it saves and ends, and its cluster is removed.")
    return Exit.DONE


def fetch(request: Request) -> int:
    """Copy a study's folder from the volume, by a pod that prints it."""
    assert request.name
    if missing := [f"--{option}" for option in POD if getattr(request, option) is None]:
        refuse(PROGRAM, f"{', '.join(missing)} is missing; expected what the study was submitted with")
    name = f"fetch-{uuid.uuid4().hex[:12]}"
    container = _container(request, "fetch")
    source = str(request.source or SHARED / "results")
    container["command"] = ["python", "-m", "study.cluster.fetch", source, request.name]
    spec = {"restartPolicy": "Never", "containers": [container], "volumes": [_volume(request)]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": LABELS}, "spec": spec}
    call(*_kubectl(request), "create", "-f", "-", content=yaml.safe_dump(pod))
    try:
        phase = _ended(request, name)
        log = call(*_kubectl(request), "logs", f"pod/{name}")
    finally:
        call(*_kubectl(request), "delete", "pod", name, "--wait=false")
    failure = None if phase == "Succeeded" else f"the pod {name} {phase.lower()}"
    return receive(log, failure, request.results, request.name)


def _ended(request: Request, pod: str) -> str:
    """Succeeded or Failed, once a pod has ended."""
    end = time.monotonic() + POD_S
    while time.monotonic() < end:
        phase = call(*_kubectl(request), "get", "pod", pod, "--output", "jsonpath={.status.phase}").strip()
        if phase in ("Succeeded", "Failed"):
            return phase
        time.sleep(1)
    why = shlex.join([*_kubectl(request), "get", "events", "--field-selector", f"involvedObject.name={pod}"])
    raise ClusterError(f"the pod {pod} did not end within {POD_S:.0f} s; see: {why}")


ACTIONS: dict[Action, Callable[[Request], int]] = {
    "submit": submit, "status": status, "logs": logs, "stop": stop, "fetch": fetch, "resume": submit,
}  # fmt: skip
