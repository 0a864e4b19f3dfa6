"""The Kubernetes manifests: schemas, volumes, and commands that the command line really takes.

Core kinds and pod templates are checked against Kubernetes 1.37's own schemas, strictly. KubeRay publishes no
package with its schemas, so those of its kinds are written by hand: the documented fields that we use, and
no others (KubeRay's API reference, 1.6 and 1.7: RayJobSpec, RayCronJobSpec, RayClusterSpec, AuthOptions).
"""

import copy
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from pipelines.cli.submit import prepare

FOLDER = Path(__file__).parents[2] / "pipelines" / "cluster"
KUBERNETES = "1.37"


def closed(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    """An object with these fields and no others."""
    shape = {"type": "object", "properties": properties, "additionalProperties": False}
    return shape | {"required": list(required)}


TEXT = {"type": "string", "minLength": 1}
COUNT = {"type": "integer", "minimum": 0}
YES_NO = {"type": "boolean"}
STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}
POD = {"type": "object"}  # checked apart, by Kubernetes' schema

HEAD = closed(("rayStartParams", "template"), rayStartParams=STRINGS, template=POD)
GROUP = closed(
    ("groupName", "replicas", "minReplicas", "maxReplicas", "template"),
    groupName={"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$"},
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas=COUNT,
    rayStartParams=STRINGS,
    template=POD,
)
CLUSTER = closed(
    ("rayVersion", "headGroupSpec", "workerGroupSpecs"),
    rayVersion={"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
    authOptions=closed(("mode",), mode={"enum": ["token", "disabled"]}, secretName=TEXT),
    enableInTreeAutoscaling=YES_NO,
    headGroupSpec=HEAD,
    workerGroupSpecs={"type": "array", "items": GROUP, "minItems": 1},
)
JOB = closed(
    ("entrypoint", "rayClusterSpec"),
    entrypoint=TEXT,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode"]},
    backoffLimit=COUNT,
    activeDeadlineSeconds={"type": "integer", "minimum": 1},
    shutdownAfterJobFinishes=YES_NO,
    ttlSecondsAfterFinished=COUNT,
    suspend=YES_NO,
    runtimeEnvYAML=TEXT,
    rayClusterSpec=CLUSTER,
)
CRON = closed(("schedule", "jobTemplate"), schedule=TEXT, suspend=YES_NO, jobTemplate=JOB)
SPECS = {"RayJob": JOB, "RayCronJob": CRON, "RayCluster": CLUSTER}


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text())
    return found


def check(manifest: dict[str, Any]) -> None:
    """Raises jsonschema.ValidationError."""
    if manifest["kind"] not in SPECS:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
        return
    metadata = closed(("name",), name=TEXT, namespace=TEXT, labels=STRINGS)
    kind = {"const": manifest["kind"]}
    top = {"apiVersion": {"const": "ray.io/v1"}, "kind": kind, "metadata": metadata}
    whole = closed((*top, "spec"), **top, spec=SPECS[manifest["kind"]])
    jsonschema.Draft202012Validator(whole).validate(manifest)
    for pod in pods(manifest):
        template = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": pod}
        kubernetes_validate.validate(template, KUBERNETES, strict=True)


def pods(node: Any) -> Iterator[dict[str, Any]]:
    """Every pod template in a manifest."""
    if isinstance(node, list):
        for entry in node:
            yield from pods(entry)
    if isinstance(node, dict):
        if "spec" in node.get("template", {}):
            yield node["template"]
        for entry in node.values():
            yield from pods(entry)


NAMES = sorted(path.name for path in FOLDER.glob("*.yaml"))


def test_all_manifests_are_here() -> None:
    assert NAMES == ["cronjob.yaml", "raycluster.yaml", "raycronjob.yaml", "rayjob.yaml", "volume.yaml"]


@pytest.mark.parametrize("name", NAMES)
def test_a_manifest_is_valid(name: str) -> None:
    check(load(name))


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("rayjob.yaml", ("spec", "backofLimit"), 3),
        ("rayjob.yaml", ("spec", "backoffLimit"), "3"),
        ("rayjob.yaml", ("spec", "rayClusterSpec", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
        ("rayjob.yaml", ("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "container"), []),
        ("raycronjob.yaml", ("spec", "concurrencyPolicy"), "Forbid"),
        ("raycluster.yaml", ("spec", "entrypoint"), "true"),
        ("raycluster.yaml", ("apiVersion",), "ray.io/v1alpha1"),
        ("cronjob.yaml", ("spec", "concurencyPolicy"), "Forbid"),
        ("volume.yaml", ("spec", "accessMode"), ["ReadWriteMany"]),
    ],
)
def test_a_slip_is_found(name: str, place: tuple[str, ...], value: Any) -> None:
    manifest = copy.deepcopy(load(name))
    node = manifest
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        check(manifest)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "volume.yaml"])
def test_every_pod_has_the_shared_volume_and_a_memory_limit(name: str) -> None:
    claim = load("volume.yaml")["metadata"]["name"]
    found = list(pods(load(name)))
    assert found
    for pod in found:
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        assert volumes["data"]["persistentVolumeClaim"]["claimName"] == claim
        for container in pod["spec"]["containers"]:
            mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
            assert mounts["data"] == "/data" and set(mounts) <= set(volumes)
            assert container["resources"]["limits"]["memory"]


def test_the_commands_are_ours() -> None:
    """What the manifests run parses, with the options of today, and never leaves the shared volume."""
    job = shlex.split(load("rayjob.yaml")["spec"]["entrypoint"])
    nightly = shlex.split(load("raycronjob.yaml")["spec"]["jobTemplate"]["entrypoint"])
    assert job == nightly and job[0] == "vitruvian" and prepare(job[1:]).words
    (pod,) = pods(load("cronjob.yaml"))
    container = pod["spec"]["containers"][0]
    assert container["command"][:3] == ["vitruvian", "submit", "curate"]
    sent = prepare(["curate", *container["args"]])
    assert sent.out == prepare(job[1:]).out == "/data/out/annotations"
    assert container["command"][4] == f"http://{load('raycluster.yaml')['metadata']['name']}-head-svc:8265"


@pytest.mark.parametrize("name", ["rayjob.yaml", "raycluster.yaml", "raycronjob.yaml"])
def test_the_head_does_no_work_and_workers_claim_what_their_pod_has(name: str) -> None:
    spec = load(name)["spec"]
    spec = spec.get("jobTemplate", spec)
    cluster = spec.get("rayClusterSpec", spec)
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in cluster["workerGroupSpecs"]:
        requests = group["template"]["spec"]["containers"][0]["resources"]["requests"]
        assert group["rayStartParams"]["num-cpus"] == requests["cpu"]
        assert group["rayStartParams"].get("num-gpus") == requests.get("nvidia.com/gpu")
