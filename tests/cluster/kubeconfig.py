"""Kubeconfig files: where an API server is, whom to trust, and who one is."""

import json
from base64 import b64encode
from pathlib import Path

from tests.cluster.certificates import KeyPair


def write_kubeconfig(
    file: Path,
    server: str,
    authority: Path,
    *,
    token: str | None = None,
    client: KeyPair | None = None,
    namespace: str = "default",
) -> Path:
    """Write a kubeconfig that stands alone: certificates and the token or client key are within it."""
    user = (
        {"token": token}
        if client is None
        else {"client-certificate-data": _encoded(client.certificate), "client-key-data": _encoded(client.key)}
    )
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "test", "cluster": {"server": server, "certificate-authority-data": _encoded(authority)}}
        ],
        "users": [{"name": "test", "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": namespace}}],
        "current-context": "test",
    }
    file.touch(mode=0o600)
    # JSON is YAML.
    file.write_text(json.dumps(content))
    return file


def _encoded(file: Path) -> str:
    return b64encode(file.read_bytes()).decode()
