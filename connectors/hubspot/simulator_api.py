"""What HubSpot answers to each request, as its dated API (2026-03) and the v3 twins have it."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from connectors.hubspot.simulator_account import Account
from connectors.hubspot.simulator_records import COMPANY, TYPES, Record, RefusedError
from connectors.simulation import Request

BATCH_LIMIT: Final = 100
VERSIONS: Final = ("2026-03", "2026-09")

_VERSION = "(?:" + "|".join(VERSIONS) + "|v3)"
_OBJECTS = rf"/crm/(?:objects/(?:{'|'.join(VERSIONS)})|v3/objects)"
_PROPERTIES = rf"/crm/(?:properties/(?:{'|'.join(VERSIONS)})|v3/properties)"

Answer = tuple[int, Any]


def answer(account: Account, request: Request, body: Any) -> tuple[dict[str, str], Answer]:
    """Return headers, status and document for a request; within the account's limits."""
    if account.migrating_seconds is not None:
        refused = RefusedError(477, "MIGRATION_IN_PROGRESS", "This account is being migrated.")
        return {"Retry-After": str(account.migrating_seconds)}, (477, refused.body())
    headers, refusal = account.limits.admit(search=request.path.endswith("/search"))
    if refusal is not None:
        return headers, (429, refusal)
    try:
        with account.records.written_by_app():
            return headers, _route(account, request, body)
    except RefusedError as error:
        return headers, (error.status, error.body())


Handler = Callable[..., Answer]


def _route(account: Account, request: Request, body: Any) -> Answer:
    for method, pattern, handler, scope in _ROUTES:
        found = re.fullmatch(pattern, request.path) if method == request.method else None
        if found is None:
            continue
        parts = found.groupdict()
        type_ = parts.get("kind")
        if type_ is not None and type_ not in TYPES:
            raise RefusedError(400, "VALIDATION_ERROR", f"Unable to infer object kind from: {type_}")
        _require_scope(account, scope.format(type=type_))
        return handler(account, request, body, **parts)
    raise RefusedError(404, "NOT_FOUND", "resource not found")


def _require_scope(account: Account, scope: str) -> None:
    # Notes and tasks go with the scope for contacts, as HubSpot has it for engagements.
    needed = re.sub(r"\.(notes|tasks)\.", ".contacts.", scope)
    if scope and account.scopes is not None and needed not in account.scopes:
        raise RefusedError(
            403,
            "MISSING_SCOPES",
            "This app hasn't been granted all required scopes to make this call.",
            {
                "message": "One or more of the following scopes are required.",
                "context": {"requiredGranularScopes": [needed]},
            },
        )


def _unlocked(account: Account, record: Record) -> Record:
    if record.id in account.locked:
        raise RefusedError(423, "LOCKED", f"The record {record.id} is locked by another operation.")
    return record


def _found(account: Account, type_: str, id_: str, id_property: str | None = None) -> Record:
    record = account.records.find(type_, id_, id_property)
    if record is None:
        raise RefusedError(404, "OBJECT_NOT_FOUND", f"Object not found.  objectId are usually numeric. {id_}")
    return _unlocked(account, record)


def _names(request: Request) -> list[str]:
    return [name for each in request.parameters.get("properties", ()) for name in each.split(",") if name]


def _get(account: Account, request: Request, _: Any, kind: str, key: str) -> Answer:
    record = _found(account, kind, key, request.query.get("idProperty"))
    return 200, record.shown(_names(request) or ("name",))


def _create(account: Account, _: Request, body: Any, kind: str) -> Answer:
    record = account.records.create(kind, body["properties"])
    return 201, record.shown()


def _patch(account: Account, request: Request, body: Any, kind: str, key: str) -> Answer:
    record = _found(account, kind, key, request.query.get("idProperty"))
    return 200, account.records.update(record, body["properties"]).shown()


def _archive(account: Account, _: Request, __: Any, kind: str, key: str) -> Answer:
    record = account.records.find(kind, key)
    if record is not None:
        account.records.archive(_unlocked(account, record))
    return 204, None


def _search(account: Account, _: Request, body: Any, kind: str) -> Answer:
    return 200, account.records.search(kind, body or {})


def _inputs(body: Any) -> list[dict[str, Any]]:
    inputs = (body or {}).get("inputs")
    if not isinstance(inputs, list) or not 0 < len(inputs) <= BATCH_LIMIT:
        raise RefusedError(400, "VALIDATION_ERROR", f"between 1 and {BATCH_LIMIT} inputs are required")
    return inputs


def _batch_read(account: Account, _: Request, body: Any, kind: str) -> Answer:
    found, missing = [], []
    for each in _inputs(body):
        record = account.records.find(kind, each["id"], body.get("idProperty"))
        if record is None:
            missing.append(each["id"])
        else:
            found.append(record.shown(body.get("properties") or ("name",)))
    if not missing:
        return 200, {"status": "COMPLETE", "results": found}
    problem = {
        "status": "error",
        "category": "OBJECT_NOT_FOUND",
        "message": "Could not get some objects, they may be deleted or not exist.",
        "context": {"ids": missing},
    }
    return 207, {"status": "COMPLETE", "results": found, "numErrors": 1, "errors": [problem]}


def _batch_update(account: Account, _: Request, body: Any, kind: str) -> Answer:
    return _batch(
        account, kind, _inputs(body), lambda each: account.records.find(kind, each["id"], each.get("idProperty"))
    )


def _batch_create(account: Account, _: Request, body: Any, kind: str) -> Answer:
    return _batch(account, kind, _inputs(body), lambda _: None, makes=True)


def _batch_upsert(account: Account, _: Request, body: Any, kind: str) -> Answer:
    return _batch(
        account,
        kind,
        _inputs(body),
        lambda each: account.records.find(kind, each["id"], each.get("idProperty")),
        makes=True,
    )


def _batch(
    account: Account,
    type_: str,
    inputs: list[dict[str, Any]],
    find: Callable[[dict[str, Any]], Record | None],
    *,
    makes: bool = False,
) -> Answer:
    """Work on all inputs; two that mean one record, or a property that is not there, fail the whole of them."""
    records = [find(each) for each in inputs]
    met = [
        record.id if record else each.get("id") or str(number)
        for number, (each, record) in enumerate(zip(inputs, records, strict=True))
    ]
    if len(set(met)) < len(met):
        raise RefusedError(400, "VALIDATION_ERROR", "Duplicate IDs found in batch input")
    known = account.records.properties[type_]
    unknown = sorted({name for each in inputs for name in each["properties"]} - known.keys())
    if unknown:
        raise RefusedError(
            400,
            "VALIDATION_ERROR",
            f"Property values were not valid: {unknown}",
            *(
                {"code": "PROPERTY_DOESNT_EXIST", "message": name, "context": {"propertyName": [name]}}
                for name in unknown
            ),
        )
    done, errors = [], []
    for each, record in zip(inputs, records, strict=True):
        try:
            done.append(_apply(account, type_, each, record, makes=makes))
        except RefusedError as error:
            trace = {"objectWriteTraceId": [each["objectWriteTraceId"]]} if "objectWriteTraceId" in each else {}
            context = {"ids": [str(each.get("id", ""))], **trace}
            problem = {**error.body(), "context": context}
            errors.append(problem)
    # No order is promised.
    answer: dict[str, Any] = {"status": "COMPLETE", "results": done[::-1]}
    if errors:
        return 207, {**answer, "numErrors": len(errors), "errors": errors}
    return 200, answer


def _apply(account: Account, type_: str, each: Mapping[str, Any], record: Record | None, *, makes: bool) -> Any:
    trace = {"objectWriteTraceId": each["objectWriteTraceId"]} if "objectWriteTraceId" in each else {}
    if record is not None:
        changed = account.records.update(_unlocked(account, record), each["properties"])
        return {**changed.shown(new=False), **trace}
    if not makes:
        raise RefusedError(404, "OBJECT_NOT_FOUND", f"Object not found. objectId: {each.get('id')}")
    key = {each["idProperty"]: each["id"]} if each.get("idProperty") else {}
    made = account.records.create(type_, {**each["properties"], **key})
    for association in each.get("associations", ()):
        account.records.associate(type_, made.id, COMPANY, str(association["to"]["id"]))
    return {**made.shown(new=True), **trace}


def _associate(account: Account, _: Request, __: Any, kind: str, key: str, to: str, to_id: str) -> Answer:
    account.records.associate(kind, key, to, to_id)
    return 200, {"status": "COMPLETE", "results": [{"from": {"id": key}, "to": {"id": to_id}}]}


def _associate_many(account: Account, _: Request, body: Any, kind: str, to: str) -> Answer:
    inputs = _inputs(body)
    errors = []
    for each in inputs:
        try:
            account.records.associate(kind, str(each["from"]["id"]), to, str(each["to"]["id"]))
        except RefusedError as error:
            context = {"fromObjectId": [str(each["from"]["id"])], "toObjectId": [str(each["to"]["id"])]}
            errors.append({**error.body(), "context": context})
    if errors:
        return 207, {"status": "COMPLETE", "results": [], "numErrors": len(errors), "errors": errors}
    return 200, {"status": "COMPLETE", "results": [{"from": each["from"], "to": each["to"]} for each in inputs]}


def _merge(account: Account, _: Request, body: Any) -> Answer:
    return 200, account.records.merge(body["primaryObjectId"], body["objectIdToMerge"]).shown()


def _properties(account: Account, _: Request, __: Any, kind: str) -> Answer:
    return 200, {"results": list(account.records.properties[kind].values())}


def _create_property(account: Account, _: Request, body: Any, kind: str) -> Answer:
    return 201, account.records.create_property(kind, body or {})


def _create_group(account: Account, _: Request, body: Any, kind: str) -> Answer:
    return 201, account.records.create_group(kind, body["name"])


def _details(account: Account, _: Request, __: Any) -> Answer:
    return 200, {"portalId": account.hub_id, "accountType": "STANDARD", "timeZone": account.limits.zone}


_READ, _WRITE = "crm.objects.{type}.read", "crm.objects.{type}.write"
_ROUTES: Final[tuple[tuple[str, str, Handler, str], ...]] = (
    ("POST", _OBJECTS + r"/(?P<kind>\w+)/search", _search, _READ),
    ("POST", _OBJECTS + r"/(?P<kind>\w+)/batch/read", _batch_read, _READ),
    ("POST", _OBJECTS + r"/(?P<kind>\w+)/batch/update", _batch_update, _WRITE),
    ("POST", _OBJECTS + r"/(?P<kind>\w+)/batch/create", _batch_create, _WRITE),
    ("POST", _OBJECTS + r"/(?P<kind>\w+)/batch/upsert", _batch_upsert, _WRITE),
    ("POST", _OBJECTS + r"/companies/merge", _merge, "crm.objects.companies.write"),
    ("GET", _OBJECTS + r"/(?P<kind>\w+)/(?P<key>[^/]+)", _get, _READ),
    ("POST", _OBJECTS + r"/(?P<kind>\w+)", _create, _WRITE),
    ("PATCH", _OBJECTS + r"/(?P<kind>\w+)/(?P<key>[^/]+)", _patch, _WRITE),
    ("DELETE", _OBJECTS + r"/(?P<kind>\w+)/(?P<key>[^/]+)", _archive, _WRITE),
    (
        "PUT",
        _OBJECTS + r"/(?P<kind>\w+)/(?P<key>\d+)/associations/default/(?P<to>\w+)/(?P<to_id>\d+)",
        _associate,
        _WRITE,
    ),
    (
        "POST",
        rf"/crm/associations/{_VERSION}/(?P<kind>\w+)/(?P<to>\w+)/batch/associate/default",
        _associate_many,
        _WRITE,
    ),
    ("GET", _PROPERTIES + r"/(?P<kind>\w+)", _properties, "crm.schemas.{type}.read"),
    ("POST", _PROPERTIES + r"/(?P<kind>\w+)", _create_property, "crm.schemas.{type}.write"),
    ("POST", _PROPERTIES + r"/(?P<kind>\w+)/groups", _create_group, "crm.schemas.{type}.write"),
    ("GET", rf"/account-info/{_VERSION}/details", _details, ""),
)
