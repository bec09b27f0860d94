"""What a pool consists of in the cluster: a Deployment, and a Secret with its way to the database.

Pure: the same members give the same manifests, in whatever order they come. Each manifest holds only the fields that
are ours; whatever others set beside them stays.
"""

import json
import math
from collections.abc import Sequence
from datetime import UTC
from typing import Final
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from contracts.connection import ReplicasSpec, secret_references
from integration_operator.kube import Json
from integration_operator.names import (
    CREDENTIAL,
    CREDENTIALS_LABEL,
    HASH,
    OAUTH_KEYS,
    POOL_LABEL,
    ROTATED_AT,
    SECRETS,
    ObjectKey,
    pool_labels,
)
from integration_operator.observed import ConnectionObject, PoolSecret, fingerprint
from integration_operator.settings import OperatorSettings

OAUTH_KEYS_FILE: Final = "oauth-keys"
DATABASE_DIRECTORY: Final = "/etc/integrations/database"
SECRETS_DIRECTORY: Final = "/etc/integrations/secrets"
PORT: Final = 8080

_DRAIN_MARGIN_SECONDS: Final = 15
_GRACE_STEP_SECONDS: Final = 30
_USER: Final = 65532


def deployment(
    pool: ObjectKey,
    members: Sequence[ConnectionObject],
    settings: OperatorSettings,
    *,
    secrets: str,
    replicas: int | None,
) -> Json:
    """Describe a pool's workers. `replicas` is None where somebody else, or our scaler, owns the number."""
    spec: Json = {
        "selector": {"matchLabels": {POOL_LABEL: pool.name}},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "progressDeadlineSeconds": 300,
        "revisionHistoryLimit": 2,
        "template": worker_pod(pool, members, settings),
    }
    body: Json = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": pool.name, "namespace": pool.namespace, "labels": pool_labels(pool)},
        "spec": spec,
    }
    body["metadata"]["annotations"] = {HASH: _digest(body), SECRETS: secrets}
    if replicas is not None:
        spec["replicas"] = replicas
    return body


def scaled(pool: ObjectKey, replicas: int) -> Json:
    """Describe nothing but how many workers a pool has."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": pool.name, "namespace": pool.namespace},
        "spec": {"replicas": replicas},
    }


def pool_secret(pool: ObjectKey, owner: str, url: str, held: PoolSecret, oauth_keys: str) -> Json:
    """Describe the Secret that holds a pool's connection string, and keys for its OAuth grants if there are any.

    The Deployment with the uid `owner` owns it.
    """
    data = {"url": url, "password": password_in(url)}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {
            "name": pool.name,
            "namespace": pool.namespace,
            "labels": pool_labels(pool) | {CREDENTIALS_LABEL: "true"},
            "annotations": {
                CREDENTIAL: held.credential,
                ROTATED_AT: held.rotated_at.astimezone(UTC).isoformat(timespec="seconds"),
                OAUTH_KEYS: held.oauth_keys,
            },
            "ownerReferences": [owner_reference(pool, owner)],
        },
        "stringData": data | ({OAUTH_KEYS_FILE: oauth_keys} if oauth_keys else {}),
    }


def database_url(settings: OperatorSettings, role: str, password: str) -> str:
    """Complete the workers' connection string with a role and its password."""
    parts = urlsplit(settings.worker_database)
    return urlunsplit(parts._replace(netloc=f"{quote(role)}:{quote(password, safe='')}@{parts.netloc}"))


def password_in(url: str) -> str:
    """Return the password of a connection string."""
    return unquote(urlsplit(url).password or "")


def owner_reference(pool: ObjectKey, uid: str) -> Json:
    """Have an object go with the pool's Deployment, which has this uid."""
    return {"apiVersion": "apps/v1", "kind": "Deployment", "name": pool.name, "uid": uid}


def replica_bounds(members: Sequence[ConnectionObject]) -> tuple[int, int]:
    """Return how few and how many workers a pool may have: the largest that any of its connections asks for.

    A pool without any has orphaned connections to deliver for; those that are being deleted keep no worker waiting.
    """
    staying = [member.spec.workers.replicas for member in members if member.spec and member.deleted_at is None]
    asking = staying or [member.spec.workers.replicas for member in members if member.spec]
    least = max((replicas.min for replicas in staying), default=0)
    return least, max((replicas.max for replicas in asking), default=ReplicasSpec().max)


def worker_pod(pool: ObjectKey, members: Sequence[ConnectionObject], settings: OperatorSettings) -> Json:
    """Describe a pod that delivers for these connections: image, rights, network's labels, and mounted Secrets."""
    longest = max((member.spec.delivery.timeout.total_seconds() for member in members if member.spec), default=0.0)
    drain = math.ceil(max(longest, 1.0) / _GRACE_STEP_SECONDS) * _GRACE_STEP_SECONDS
    pod: Json = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": drain + _DRAIN_MARGIN_SECONDS,
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {POOL_LABEL: pool.name}},
            }
        ],
        "containers": [_container(pool, settings, drain)],
        "volumes": [
            {"name": "database", "secret": {"secretName": pool.name, "defaultMode": 0o440}},
            {"name": "secrets", "projected": {"defaultMode": 0o440, "sources": _sources(members)}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
    if settings.worker_image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in settings.worker_image_pull_secrets]
    return {"metadata": {"labels": pool_labels(pool)}, "spec": pod}


def _container(pool: ObjectKey, settings: OperatorSettings, drain_seconds: int) -> Json:
    values = {
        "DATABASE_URL_FILE": f"{DATABASE_DIRECTORY}/url",
        "OAUTH_KEYS_FILE": f"{DATABASE_DIRECTORY}/{OAUTH_KEYS_FILE}",
        "SECRETS_DIRECTORY": SECRETS_DIRECTORY,
        "HEALTH_PORT": str(PORT),
        "DRAIN": f"PT{drain_seconds}S",
        "LOG_LEVEL": settings.log_level,
        "EGRESS_ALLOW": json.dumps([str(network) for network in settings.worker_egress_allow]),
    }
    fields = {"WORKER_NAME": "metadata.name", "HEALTH_HOST": "status.podIP"}
    environment: list[Json] = [{"name": f"INTEGRATIONS_{name}", "value": value} for name, value in values.items()]
    environment += [
        {"name": f"INTEGRATIONS_{name}", "valueFrom": {"fieldRef": {"fieldPath": path}}}
        for name, path in fields.items()
    ]
    return {
        "name": "worker",
        "image": settings.worker_image,
        "args": ["worker"],
        "env": environment,
        "ports": [{"name": "health", "containerPort": PORT, "protocol": "TCP"}],
        "startupProbe": _probe("/healthz", every=1, failures=60),
        "livenessProbe": _probe("/healthz", every=10, failures=6),
        "readinessProbe": _probe("/readyz", every=5, failures=2),
        "resources": {
            "requests": {"cpu": settings.worker_cpu, "memory": settings.worker_memory},
            "limits": {"memory": settings.worker_memory},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "database", "mountPath": DATABASE_DIRECTORY, "readOnly": True},
            {"name": "secrets", "mountPath": f"{SECRETS_DIRECTORY}/{pool.namespace}", "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 -- the container's own
        ],
    }


def _sources(members: Sequence[ConnectionObject]) -> list[Json]:
    """List the referenced keys, and no others; a Secret that is missing keeps nobody else's from being mounted."""
    keys: dict[str, set[str]] = {}
    for member in members:
        if member.spec:
            for reference in secret_references(member.spec):
                # No Secret can have this key, and a path with it would have the whole Deployment refused.
                if reference.key != "..":
                    keys.setdefault(reference.name, set()).add(reference.key)
    return [
        {
            "secret": {
                "name": name,
                "optional": True,
                "items": [{"key": key, "path": f"{name}/{key}"} for key in sorted(keys[name])],
            }
        }
        for name in sorted(keys)
    ]


def _probe(path: str, *, every: int, failures: int) -> Json:
    return {
        "httpGet": {"path": path, "port": PORT},
        "periodSeconds": every,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _digest(body: Json) -> str:
    return fingerprint(json.dumps(body, sort_keys=True))
