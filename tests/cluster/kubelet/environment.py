"""A container's command and environment, with paths of volumes turned into the real folders.

There are no mount namespaces here: every environment value and argument that begins with a mount path is rewritten to
where the volume really is. Programs that have a path from anywhere else do not find it.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.cluster.kubelet.api import Object

TOKEN_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"

_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_.-][A-Za-z0-9_.-]*)\)")
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]")


def field_value(pod: Object, path: str, pod_ip: str) -> str:
    """Return what a fieldRef names."""
    metadata, spec = pod["metadata"], pod["spec"]
    if subscript := _SUBSCRIPT.fullmatch(path):
        return str(metadata.get(subscript[1], {}).get(subscript[2], ""))
    values = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", ""),
        "status.podIP": pod_ip,
        "status.hostIP": "127.0.0.1",
    }
    return str(values[path])


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace `$(NAME)` by the variable's value, as Kubernetes does; `$$` stands for a dollar sign."""

    def value(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        return variables.get(found[1], found[0])

    return _REFERENCE.sub(value, text)


def mount_points(container: Object, folders: Mapping[str, Path]) -> dict[str, Path]:
    """Return the real folder of each mount path, longest paths first."""
    mounts = {
        mount["mountPath"].rstrip("/"): folders[mount["name"]] / mount.get("subPath", "")
        for mount in container.get("volumeMounts", ())
    }
    return dict(sorted(mounts.items(), key=lambda each: -len(each[0])))


def translate(text: str, mounts: Mapping[str, Path]) -> str:
    """Rewrite a path in a volume to where it really is."""
    for path, folder in mounts.items():
        if text == path or text.startswith(f"{path}/"):
            return f"{folder}{text[len(path) :]}"
    return text


def command_line(container: Object, variables: Mapping[str, str], mounts: Mapping[str, Path]) -> Sequence[str]:
    """Return what to run: the command as it is, or the entrypoint of our image, which is the code of this work tree."""
    entrypoint = container.get("command") or [sys.executable, "-P", "-m", "integrations"]
    # A command without arguments of its own hides those of the image; ours has none.
    return [translate(expand(word, variables), mounts) for word in (*entrypoint, *container.get("args", ()))]
