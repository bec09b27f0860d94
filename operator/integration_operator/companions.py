"""What stands beside a pool's Deployment, unwatched: a disruption budget, and what KEDA needs to size the pool.

Pure, as `children` is. Each manifest carries a digest of itself, so a list of metadata tells whether it is up to date.

KEDA logs in as the pool's own role, which sees the pool's rows and no others, and asks for the number that the operator
would choose. It is given host, user and database beside the password, not the connection string: its PostgreSQL scaler
shares connections by these names, and with none of them given all pools would share the first one's login
(`getConnection` in `pkg/scalers/postgresql_scaler.go` of KEDA).
"""

import json
from collections.abc import Sequence
from typing import Final, NamedTuple

from psycopg.conninfo import conninfo_to_dict

from integration_operator.children import owner_reference, replica_bounds
from integration_operator.kube import Json
from integration_operator.names import HASH, POOL_LABEL, ObjectKey, pool_labels
from integration_operator.observed import ConnectionObject, fingerprint
from integration_operator.settings import OperatorSettings

QUESTION: Final = "select integration.wanted_workers()"

_POLL_SECONDS: Final = 5
_FAILURES_BEFORE_FALLBACK: Final = 3


class Companion(NamedTuple):
    """A kind of object that a pool has one of, under its own name."""

    api_version: str
    kind: str
    plural: str


BUDGET: Final = Companion("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
SCALED_OBJECT: Final = Companion("keda.sh/v1alpha1", "ScaledObject", "scaledobjects")
TRIGGER_AUTHENTICATION: Final = Companion("keda.sh/v1alpha1", "TriggerAuthentication", "triggerauthentications")


def companions_of(
    pool: ObjectKey,
    members: Sequence[ConnectionObject],
    settings: OperatorSettings,
    *,
    role: str,
    owner: str,
    keda: bool,
) -> dict[Companion, Json]:
    """Describe them; the Deployment with the uid `owner` owns them, `role` is the pool's in the database."""
    specs: dict[Companion, Json] = {BUDGET: _budget(pool)}
    if keda:
        specs[TRIGGER_AUTHENTICATION] = _trigger_authentication(pool)
        specs[SCALED_OBJECT] = _scaled_object(pool, members, settings, role)
    return {companion: _manifest(companion, pool, spec, owner) for companion, spec in specs.items()}


def _budget(pool: ObjectKey) -> Json:
    return {"maxUnavailable": 1, "selector": {"matchLabels": {POOL_LABEL: pool.name}}}


def _trigger_authentication(pool: ObjectKey) -> Json:
    return {"secretTargetRef": [{"parameter": "password", "name": pool.name, "key": "password"}]}


def _scaled_object(pool: ObjectKey, members: Sequence[ConnectionObject], settings: OperatorSettings, role: str) -> Json:
    least, most = replica_bounds(members)
    database = conninfo_to_dict(settings.worker_database)
    metadata = {
        "host": str(database.get("host", "")),
        "port": str(database.get("port", 5432)),
        "dbName": str(database.get("dbname", "")),
        "sslmode": str(database.get("sslmode", "prefer")),
        "userName": role,
        "query": QUESTION,
        "targetQueryValue": "1",
        "activationTargetQueryValue": "0",
    }
    return {
        "scaleTargetRef": {"name": pool.name},
        "pollingInterval": _POLL_SECONDS,
        "cooldownPeriod": max(1, int(settings.quiet.total_seconds())),
        "minReplicaCount": least,
        "maxReplicaCount": max(most, 1),
        # A database that is away must end no worker: they go on when it is back.
        "fallback": {
            "failureThreshold": _FAILURES_BEFORE_FALLBACK,
            "replicas": least,
            "behavior": "currentReplicasIfHigher",
        },
        "triggers": [
            {
                "type": "postgresql",
                "metricType": "AverageValue",
                "metadata": metadata,
                "authenticationRef": {"name": pool.name},
            }
        ],
    }


def _manifest(companion: Companion, pool: ObjectKey, spec: Json, owner: str) -> Json:
    return {
        "apiVersion": companion.api_version,
        "kind": companion.kind,
        "metadata": {
            "name": pool.name,
            "namespace": pool.namespace,
            "labels": pool_labels(pool),
            "annotations": {HASH: fingerprint(json.dumps([spec, owner], sort_keys=True))},
            "ownerReferences": [owner_reference(pool, owner)],
        },
        "spec": spec,
    }
