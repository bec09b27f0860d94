"""A container's command and environment, with paths of volumes turned into the real folders.

There are no mount namespaces here: every environment value and argument that begins with a mount path, or is a folder
above one, is rewritten to where the volume really is. Programs that have a path from anywhere else do not find it.
"""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.cluster.kubelet.api import Object
from tests.cluster.kubelet.support import UnsupportedError

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


class Root:
    """A container's root folder: it has the container's mount paths, as links to the volumes, and nothing else.

    A subPath's files follow their volume here, while on a node they stay as they were when the container started.
    """

    def __init__(self, folder: Path, container: Object, volumes: Callable[[str], Path]) -> None:
        self._folder = folder
        self._last_words = container.get("terminationMessagePath", "/dev/termination-log")
        self._links = {
            Path(mount["mountPath"]): volumes(mount["name"]) / mount.get("subPath", "")
            for mount in container.get("volumeMounts", ())
        }
        for path in self._links:
            if self._links.keys() & {*path.parents}:
                raise UnsupportedError(f"the process kubelet does not support {path}, a mount within another")

    def lay_out(self) -> None:
        """Make the links; the volumes are there by now, but for subPaths."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self.last_words.write_bytes(b"")
        for path, volume in self._links.items():
            link = self.real(path)
            link.parent.mkdir(parents=True, exist_ok=True)
            if not volume.exists():
                volume.mkdir(parents=True)
            if not link.is_symlink():
                link.symlink_to(volume)

    def has(self, path: str) -> bool:
        """Say whether a volume is mounted at this path."""
        return Path(path) in self._links

    def real(self, path: Path) -> Path:
        """Return where a path of the container really is."""
        return self._folder / path.relative_to("/")

    @property
    def last_words(self) -> Path:
        """Where the file really is that becomes the container's termination message."""
        return self._folder / "termination-message"

    def translate(self, text: str) -> str:
        """Rewrite a path in a volume, or a folder above volumes unless it is a system's own, to the real one."""
        if text == self._last_words:
            return str(self.last_words)
        path = Path(text)
        within = any(path == mount or mount in path.parents for mount in self._links)
        above = len(path.parts) > 2 and any(path in mount.parents for mount in self._links)
        return str(self.real(path)) if path.is_absolute() and (within or above) else text


def command_line(container: Object, variables: Mapping[str, str], root: Root) -> Sequence[str]:
    """Return what to run: the command as it is, or the entrypoint of our image, which is the code of this work tree."""
    given = [root.translate(expand(word, variables)) for word in container.get("command", ())]
    # A command without arguments of its own hides those of the image; ours has none.
    arguments = [root.translate(expand(word, variables)) for word in container.get("args", ())]
    return [*(given or (sys.executable, "-P", "-m", "integrations")), *arguments]
