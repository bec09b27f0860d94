"""What of a pod's specification the process kubelet carries out, and what it may leave aside.

Whatever is in neither list is refused loudly: a test must not believe in something that nobody did.
"""

from collections.abc import Iterator
from typing import Any

DONE = {
    "pod": {"containers", "initContainers", "volumes", "restartPolicy", "terminationGracePeriodSeconds", "nodeName"}
    | {"serviceAccountName", "serviceAccount", "automountServiceAccountToken"},
    "container": {"name", "image", "command", "args", "env", "envFrom", "volumeMounts", "workingDir", "lifecycle"}
    | {
        "ports",
        "startupProbe",
        "livenessProbe",
        "readinessProbe",
        "terminationMessagePath",
        "terminationMessagePolicy",
    },
    "volume": {"name", "secret", "configMap", "projected", "emptyDir"},
    "source": {"secret", "configMap", "downwardAPI", "serviceAccountToken"},
    "mount": {"name", "mountPath", "subPath", "readOnly", "recursiveReadOnly"},
    "probe": {"httpGet", "initialDelaySeconds", "periodSeconds", "timeoutSeconds", "successThreshold"}
    | {"failureThreshold"},
    "lifecycle": {"preStop"},
    "hook": {"exec", "sleep"},
}

# They are about nodes, networks, images and kernels, of which there are none here.
LEFT_ASIDE = {
    "pod": {"affinity", "dnsConfig", "dnsPolicy", "enableServiceLinks", "hostname", "imagePullSecrets", "nodeSelector"}
    | {"os", "overhead", "preemptionPolicy", "priority", "priorityClassName", "runtimeClassName", "schedulerName"}
    | {"securityContext", "shareProcessNamespace", "subdomain", "tolerations", "topologySpreadConstraints"}
    | {"hostUsers", "setHostnameAsFQDN"},
    "container": {"imagePullPolicy", "resources", "securityContext"},
}


class UnsupportedError(Exception):
    """A pod asks for something that the process kubelet cannot do."""


def check_supported(spec: dict[str, Any]) -> None:
    """Refuse a pod with anything that would not be carried out."""
    unknown = sorted(_unsupported(spec))
    if unknown:
        raise UnsupportedError(f"the process kubelet does not support {', '.join(unknown)}")


def _unsupported(spec: dict[str, Any]) -> Iterator[str]:
    yield from _keys("pod", spec, "spec")
    for volume in spec.get("volumes", ()):
        place = f"spec.volumes[{volume['name']}]"
        yield from _keys("volume", volume, place)
        for source in volume.get("projected", {}).get("sources", ()):
            yield from _keys("source", source, f"{place}.projected.sources")
    for container in (*spec.get("initContainers", ()), *spec["containers"]):
        yield from _unsupported_in_container(container, f"container {container['name']}: ")


def _unsupported_in_container(container: dict[str, Any], place: str) -> Iterator[str]:
    yield from _keys("container", container, place)
    for mount in container.get("volumeMounts", ()):
        yield from _keys("mount", mount, f"{place}volumeMounts")
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        yield from _keys("probe", container.get(probe, {}), f"{place}{probe}")
    yield from _keys("lifecycle", container.get("lifecycle", {}), f"{place}lifecycle")
    yield from _keys("hook", container.get("lifecycle", {}).get("preStop", {}), f"{place}lifecycle.preStop")


def _keys(kind: str, found: dict[str, Any], place: str) -> Iterator[str]:
    for key in found.keys() - DONE[kind] - LEFT_ASIDE.get(kind, set()):
        yield f"{place}.{key}"
