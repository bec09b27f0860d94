"""Names that the operator gives and looks for: labels, annotations, field managers, and what its children are called.

They are part of the interface: people select by them, and a changed one would orphan what exists.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Final, assert_never

from contracts.connection import CommonConnectionSpec, Isolation

GROUP: Final = "integrations.queast.io"
VERSION: Final = "v1alpha1"
PLURAL: Final = "integrationconnections"
KIND: Final = "IntegrationConnection"
REPLAY_PLURAL: Final = "integrationreplays"
REPLAY_KIND: Final = "IntegrationReplay"
API_VERSION: Final = f"{GROUP}/{VERSION}"

TENANT_CLAIM_PREFIX: Final = f"tenant.{GROUP}/"
"""A namespace holds connections and replays of the tenants whose name follows this in one of its labels' keys."""

CREDENTIALS_LABEL: Final = f"{GROUP}/credentials"
"""Secrets with this label (value "true") are watched, so that a rotation is noticed at once."""

POOL_LABEL: Final = f"{GROUP}/pool"
CHECK_LABEL: Final = f"{GROUP}/endpoint-check"
NAME_LABEL: Final = "app.kubernetes.io/name"
MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
WORKER: Final = "integration-worker"
OPERATOR: Final = "integration-operator"

RECONCILE_AT: Final = f"{GROUP}/reconcileAt"
RELEASE_AT: Final = f"{GROUP}/releaseAt"
TEST_AT: Final = f"{GROUP}/testAt"
HASH: Final = f"{GROUP}/hash"
SECRETS: Final = f"{GROUP}/secrets"
CREDENTIAL: Final = f"{GROUP}/credential"
ROTATED_AT: Final = f"{GROUP}/rotatedAt"
OAUTH_KEYS: Final = f"{GROUP}/oauthKeys"

DRAIN_FINALIZER: Final = f"{GROUP}/drain"

FIELD_MANAGER: Final = OPERATOR
SCALER: Final = "integration-scaler"

_LONGEST_NAME: Final = 52
"""A Deployment's name is a label value and the stem of its pods' names, 63 characters at most with their suffixes."""

_SHORTENED: Final = re.compile(r"-[0-9a-f]{8}$")


@dataclass(frozen=True, slots=True, order=True)
class ObjectKey:
    """An object of a kind that is clear from the context."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def pool_key(namespace: str, name: str, spec: CommonConnectionSpec) -> ObjectKey:
    """Name the pool, and so the Deployment, that delivers for the connection `name` in `namespace`.

    Pods can mount Secrets of their own namespace only, so a pool never spans namespaces.
    """
    match spec.workers.isolation:
        case Isolation.SHARED:
            wanted = "integrations-shared"
        case Isolation.TENANT:
            wanted = f"integrations-tenant-{spec.tenant}"
        case Isolation.CONNECTION:
            wanted = f"integrations-connection-{name}"
        case _:
            assert_never(spec.workers.isolation)
    return ObjectKey(namespace, _shortened(wanted))


def pool_labels(pool: ObjectKey) -> dict[str, str]:
    """Return the labels of everything that belongs to a pool."""
    return {NAME_LABEL: WORKER, MANAGED_BY_LABEL: OPERATOR, POOL_LABEL: pool.name}


def _shortened(name: str) -> str:
    """Keep the name within the limit and unique: no name that stays as it is ends like one that was shortened."""
    label = name.replace(".", "-")
    if label == name and len(name) <= _LONGEST_NAME and not _SHORTENED.search(name):
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{label[: _LONGEST_NAME - 9].rstrip('-')}-{digest}"
