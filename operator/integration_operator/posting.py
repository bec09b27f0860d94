"""Kubernetes Events about connections and replays, on transitions only: `kubectl describe` shows them with the object.

A transition is read off the status before and after, and the status is kept by the API server; so a restarted
operator posts nothing twice. An Event that cannot be posted is lost: the status says the same.
"""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import uuid4

from integration_operator.errors import OperatorError
from integration_operator.kube import Json, Kube, path_to
from integration_operator.names import API_VERSION, KIND, OPERATOR, REPLAY_KIND
from integration_operator.observed import ConnectionObject
from integration_operator.replay_objects import ReplayObject

log = logging.getLogger(__name__)

_API = "events.k8s.io/v1"
_LONGEST_NOTE_BYTES = 1024
_EXPECTED = frozenset({"Draining", "Publishing", "Asked", "Running", "Cancelled"})
"""Why something is not Ready although all is well."""


async def post_transitions(kube: Kube, about: ConnectionObject | ReplayObject, status: Json, instance: str) -> None:
    """Post an Event for each transition between the observed status and the new one."""
    for type_, reason, note in transitions(about.status, status):
        await post(kube, about, type_, reason, note, instance)


async def post(
    kube: Kube, about: ConnectionObject | ReplayObject, type_: str, reason: str, note: str, instance: str
) -> None:
    """Post one Event, if that can be done now; a namespace on its way out takes none."""
    namespace = about.key.namespace
    body = {
        "apiVersion": _API,
        "kind": "Event",
        "metadata": {"name": f"{about.key.name[:200].rstrip('-.')}.{uuid4().hex[:16]}", "namespace": namespace},
        "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": OPERATOR,
        "reportingInstance": instance[:128],
        "action": "Reconcile",
        "type": type_,
        "reason": reason,
        "note": note.encode()[:_LONGEST_NOTE_BYTES].decode(errors="ignore"),
        "regarding": {
            "apiVersion": API_VERSION,
            "kind": KIND if isinstance(about, ConnectionObject) else REPLAY_KIND,
            "namespace": namespace,
            "name": about.key.name,
            "uid": str(about.uid),
        },
    }
    try:
        await kube.create(path_to(_API, "events", namespace), body)
    except OperatorError as error:
        log.info("cannot post an event", extra={"object": str(about.key), "reason": str(error)})


def transitions(former: Json, status: Json) -> Iterator[tuple[str, str, str]]:
    """Tell what is worth an Event: type, reason and note."""
    was, now = _conditions(former), _conditions(status)
    ready = now["Ready"]
    before = was.get("Ready")
    is_other = before is None or (before.get("status"), before.get("reason")) != (ready["status"], ready["reason"])
    # That a new connection works at once is what everybody expects; of thousands, nobody wants to read it.
    if is_other and not (before is None and ready["status"] == "True"):
        expected = ready["status"] == "True" or ready["reason"] in _EXPECTED
        yield "Normal" if expected else "Warning", ready["reason"], ready["message"]
    if "Quarantined" in was and "Quarantined" not in now:
        yield "Normal", "Released", "the partner answers again; deliveries go on"
    former_hash = former.get("observedSecretHash")
    if former_hash and status.get("observedSecretHash") not in (None, former_hash):
        yield "Normal", "CredentialsRotated", "changed credentials were noticed and handed to the workers"
    check = status.get("endpointCheck")
    if check and status.get("lastHandledTestAt") != former.get("lastHandledTestAt"):
        yield "Normal" if check["passed"] else "Warning", "EndpointChecked", check["message"]


def _conditions(status: Json) -> dict[str, Json]:
    return {condition["type"]: condition for condition in status.get("conditions") or ()}
