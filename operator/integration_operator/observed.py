"""What the operator has seen of its objects: only what it needs, taken from the watches' JSON.

Nothing here does I/O or raises for what is in an object: one that cannot be read carries its problems with it, and
every other one is looked after all the same.
"""

import base64
import hashlib
import hmac
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from contracts.connection import ConnectionSpec, parse_connection_spec
from contracts.errors import InvalidSpecError
from contracts.ids import ConnectionUid
from integration_operator.kube import Json
from integration_operator.names import (
    CREDENTIAL,
    CREDENTIALS_LABEL,
    FIELD_MANAGER,
    HASH,
    OAUTH_KEYS,
    POOL_LABEL,
    RECONCILE_AT,
    RELEASE_AT,
    ROTATED_AT,
    SCALER,
    SECRETS,
    TENANT_CLAIM_PREFIX,
    TEST_AT,
    ObjectKey,
)

_DIGEST_CHARACTERS: Final = 16

_LONGEST_REQUEST: Final = 253
"""Annotations can be far longer than what the status may answer (`contracts.status.AnsweredRequest`)."""


@dataclass(frozen=True, slots=True)
class ConnectionObject:
    """An IntegrationConnection. `spec` is None if it cannot be read; `problems` says why."""

    key: ObjectKey
    uid: ConnectionUid
    generation: int
    resource_version: str
    spec: ConnectionSpec | None
    problems: tuple[str, ...]
    deleted_at: datetime | None
    finalizers: tuple[str, ...]
    reconcile_at: str | None
    release_at: str | None
    test_at: str | None
    status: Json = field(repr=False)


@dataclass(frozen=True, slots=True)
class SecretObject:
    """A Secret's keys with a digest of each value; the values are forgotten."""

    key: ObjectKey
    watched: bool
    digests: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PoolSecret:
    """The Secret that we made for a pool: which password it holds, since when, and a digest of its OAuth keys."""

    credential: str
    rotated_at: datetime
    oauth_keys: str = ""


@dataclass(frozen=True, slots=True)
class PoolObject:
    """A pool's Deployment. `replicas_are_ours` is false as soon as anybody else owns the number."""

    key: ObjectKey
    uid: str
    hash: str
    secrets: str
    replicas: int
    replicas_are_ours: bool
    scaled_by_us: bool
    unavailable_since: datetime | None
    failure: str | None
    spec: Json = field(repr=False)


@dataclass(frozen=True, slots=True)
class NamespaceObject:
    """A namespace: the tenants that it may hold connections of, and whether it is being deleted."""

    tenants: frozenset[str]
    terminating: bool


def connection_of(body: Json) -> ConnectionObject:
    """Read an IntegrationConnection."""
    metadata = body["metadata"]
    spec: ConnectionSpec | None = None
    problems: tuple[str, ...] = ()
    try:
        spec = parse_connection_spec(body.get("spec"))
    except InvalidSpecError as error:
        problems = tuple(map(str, error.problems))
    annotations = metadata.get("annotations") or {}
    deleted = metadata.get("deletionTimestamp")
    return ConnectionObject(
        key=key_of(body),
        uid=ConnectionUid(UUID(metadata["uid"])),
        generation=metadata.get("generation", 1),
        resource_version=metadata["resourceVersion"],
        spec=spec,
        problems=problems,
        deleted_at=datetime.fromisoformat(deleted) if deleted else None,
        finalizers=tuple(metadata.get("finalizers") or ()),
        reconcile_at=_request(annotations, RECONCILE_AT),
        release_at=_request(annotations, RELEASE_AT),
        test_at=_request(annotations, TEST_AT),
        status=_compact(dict(body.get("status") or {})),
    )


def secret_of(body: Json, digest_key: bytes) -> SecretObject:
    """Digest a Secret's values."""
    labels = body["metadata"].get("labels") or {}
    data = body.get("data") or {}
    digests = {name: digest(decode(value), digest_key) for name, value in data.items()}
    return SecretObject(key_of(body), labels.get(CREDENTIALS_LABEL) == "true", digests)


def pool_secret_of(body: Json) -> PoolSecret | None:
    """Read the Secret of a pool; None if it is not whole."""
    annotations = body["metadata"].get("annotations") or {}
    try:
        rotated = datetime.fromisoformat(annotations[ROTATED_AT])
    except (KeyError, ValueError):
        return None
    is_whole = CREDENTIAL in annotations and (body.get("data") or {}).keys() >= {"url", "password"}
    if rotated.tzinfo is None or not is_whole:
        return None
    return PoolSecret(annotations[CREDENTIAL], rotated, annotations.get(OAUTH_KEYS, ""))


def pool_of(body: Json) -> PoolObject:
    """Read a pool's Deployment."""
    metadata, spec, status = body["metadata"], body["spec"], body.get("status") or {}
    annotations = metadata.get("annotations") or {}
    conditions = {condition["type"]: condition for condition in status.get("conditions") or ()}
    owners = _owners_of_replicas(metadata)
    return PoolObject(
        key=key_of(body),
        uid=metadata["uid"],
        hash=annotations.get(HASH, ""),
        secrets=annotations.get(SECRETS, ""),
        replicas=spec.get("replicas", 1),
        replicas_are_ours=owners <= {FIELD_MANAGER, SCALER},
        scaled_by_us=SCALER in owners,
        unavailable_since=_unavailable_since(spec, conditions),
        failure=_failure(conditions),
        spec=spec,
    )


def namespace_of(body: Json) -> NamespaceObject:
    """Read a namespace."""
    labels = body["metadata"].get("labels") or {}
    claimed = (label.removeprefix(TENANT_CLAIM_PREFIX) for label in labels if label.startswith(TENANT_CLAIM_PREFIX))
    return NamespaceObject(frozenset(claimed), "deletionTimestamp" in body["metadata"])


def is_pool_secret(body: Json) -> bool:
    """Whether we made this Secret for a pool."""
    return POOL_LABEL in (body["metadata"].get("labels") or {})


def key_of(body: Json) -> ObjectKey:
    """Return an object's namespace and name."""
    return ObjectKey(body["metadata"].get("namespace", ""), body["metadata"]["name"])


def digest(value: bytes, key: bytes) -> str:
    """Digest a secret value; without the key, a guess cannot be checked against it."""
    return hmac.digest(key, value, "sha256").hex()[:_DIGEST_CHARACTERS]


def fingerprint(text: str) -> str:
    """Shorten a text that holds no secret to what tells it from others."""
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_CHARACTERS]


def decode(value: str) -> bytes:
    """Decode a value of a Secret's data; the API server has checked that it is base64."""
    return base64.b64decode(value)


def covers(observed: Any, wanted: Any) -> bool:
    """Whether everything in `wanted` is in `observed`, which the API server may have added defaults to."""
    match wanted:
        case dict():
            return isinstance(observed, dict) and all(
                name in observed and covers(observed[name], value) for name, value in wanted.items()
            )
        case list():
            return (
                isinstance(observed, list)
                and len(observed) == len(wanted)
                and all(covers(*pair) for pair in zip(observed, wanted, strict=True))
            )
        case _:
            return bool(observed == wanted)


def _compact(value: Any) -> Any:
    """Let the same texts be one object: statuses of thousands say much the same, and stay in memory."""
    match value:
        case str():
            return sys.intern(value)
        case dict():
            return {sys.intern(name): _compact(each) for name, each in value.items()}
        case list():
            return [_compact(each) for each in value]
        case _:
            return value


def _request(annotations: Mapping[str, str], name: str) -> str | None:
    value = annotations.get(name)
    return None if value is None else value[:_LONGEST_REQUEST]


def _owners_of_replicas(metadata: Json) -> set[str]:
    return {
        entry.get("manager", "")
        for entry in metadata.get("managedFields") or ()
        if "f:replicas" in ((entry.get("fieldsV1") or {}).get("f:spec") or {})
    }


def _unavailable_since(spec: Json, conditions: Mapping[str, Json]) -> datetime | None:
    available = conditions.get("Available")
    if not spec.get("replicas", 1) or available is None or available.get("status") == "True":
        return None
    return datetime.fromisoformat(available["lastTransitionTime"])


def _failure(conditions: Mapping[str, Json]) -> str | None:
    failure = conditions.get("ReplicaFailure")
    if failure is not None and failure.get("status") == "True":
        return str(failure.get("message", ""))
    return None
