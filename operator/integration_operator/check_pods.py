"""The pod that tests a partner's endpoint, and what it said at its end.

Pure, as `children` is. It is a worker's pod in all that its network and rights depend on: namespace, labels, image,
egress rules, the pool's database role. Of Secrets it is given those of its one connection. It runs `integrations test`,
which writes what it found where Kubernetes keeps a container's last words (`terminationMessagePath`).
"""

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from contracts.ids import ConnectionUid
from contracts.status import EndpointCheck, EndpointCheckStep
from integration_operator.children import worker_pod
from integration_operator.kube import Json
from integration_operator.names import API_VERSION, CHECK_LABEL, KIND, TEST_AT, ObjectKey
from integration_operator.observed import ConnectionObject
from integration_operator.settings import OperatorSettings

LAST_WORDS: Final = "/dev/termination-log"

_LONGEST_TEXT: Final = 512
_LONGEST_MESSAGE: Final = 1024


def check_pod(connection: ConnectionObject, request: str, pool: ObjectKey, settings: OperatorSettings) -> Json:
    """Describe the pod that answers a request; the same request gives the same name, so it can be made only once."""
    pod = worker_pod(pool, [connection], settings)
    spec = pod["spec"]
    del spec["topologySpreadConstraints"]
    (container,) = spec["containers"]
    for name in ("ports", "startupProbe", "livenessProbe", "readinessProbe"):
        del container[name]
    container |= {
        "name": "check",
        "args": ["test", str(connection.key), "--report", LAST_WORDS],
        "terminationMessagePath": LAST_WORDS,
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    owner = {"apiVersion": API_VERSION, "kind": KIND, "name": connection.key.name, "uid": str(connection.uid)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_name(connection.uid, request),
            "namespace": pool.namespace,
            "labels": pod["metadata"]["labels"] | {CHECK_LABEL: "true"},
            "annotations": {TEST_AT: request},
            "ownerReferences": [owner],
        },
        "spec": spec | {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1},
    }


def pod_name(connection: ConnectionUid, request: str) -> str:
    """Name the pod that answers a request."""
    return f"integrations-check-{hashlib.sha256(f'{connection}/{request}'.encode()).hexdigest()[:16]}"


def read_pod(pod: Json, now: datetime) -> EndpointCheck | None:
    """Read what came of a check; None while its pod has not ended."""
    status = pod.get("status") or {}
    if status.get("phase") not in ("Succeeded", "Failed"):
        return None
    states = [each.get("state") or {} for each in status.get("containerStatuses") or ()]
    ended = (states[0].get("terminated") or {}) if states else {}
    words = ended.get("message") or ""
    try:
        return _read_words(json.loads(words), now)
    except (ValueError, TypeError, KeyError):
        why = words or ended.get("reason") or status.get("message") or status.get("reason") or "no reason is given"
        return failed_check(f"the test did not come to a result: {why}", now)


def failed_check(message: str, now: datetime) -> EndpointCheck:
    """Say that a check came to no result."""
    return EndpointCheck(at=now.astimezone(UTC), passed=False, message=message[:_LONGEST_MESSAGE])


def hindrance(pod: Json) -> str:
    """Say what keeps a pod from ending, as far as it tells."""
    status = pod.get("status") or {}
    waiting = [(each.get("state") or {}).get("waiting") for each in status.get("containerStatuses") or ()]
    unmet = [each for each in status.get("conditions") or () if each.get("status") == "False" and each.get("message")]
    for told in (*filter(None, waiting), *unmet):
        return f"{told.get('reason', '')}: {told.get('message', '')}"[:_LONGEST_TEXT]
    return f"it is {status.get('phase', 'Pending')}"


def _read_words(words: Json, now: datetime) -> EndpointCheck:
    steps = tuple(_step(each) for each in words["steps"])
    return EndpointCheck(
        at=now.astimezone(UTC), passed=bool(words["passed"]), message=_sentence(steps)[:_LONGEST_MESSAGE], steps=steps
    )


def _step(step: Json) -> EndpointCheckStep:
    return EndpointCheckStep(
        name=step["name"],
        passed=step["passed"],
        milliseconds=round(step["seconds"] * 1000),
        found=step["found"][:_LONGEST_TEXT],
        advice=step["advice"][:_LONGEST_TEXT] or None,
    )


def _sentence(steps: Sequence[EndpointCheckStep]) -> str:
    last = steps[-1]
    if last.passed:
        return f"the partner took a signed test event: {last.found}"
    return f"{last.name}: {last.found}. {last.advice or ''}".rstrip()
