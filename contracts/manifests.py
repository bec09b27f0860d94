"""Kubernetes manifests, the same text that `kubectl apply` takes, read into connections and Secrets.

Reading is pure and total: every document that can be read is returned, and everything wrong with the others is told
as problems that name file, document and place. A Secret's values appear in no message and in no repr.
"""

import re
from base64 import b64decode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final, TypeVar

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError
from pydantic.alias_generators import to_camel

from contracts.connection import MEANINGS, ConnectionSpec, parse_connection_spec
from contracts.errors import InvalidSpecError
from contracts.problems import Problem, describe, problems_of, show
from contracts.spec_values import DATA_KEY, DNS_SUBDOMAIN
from contracts.wire import DNS_LABEL
from contracts.yaml_documents import UnreadableDocumentError, YamlDocument, split_documents

GROUP: Final = "integrations.queast.io"
API_VERSION: Final = f"{GROUP}/v1alpha1"
DEFAULT_NAMESPACE: Final = "default"

MAX_MANIFEST_CHARACTERS: Final = 1_048_576
"""Characters that one file may have; a larger one is refused before it is parsed."""

MAX_DOCUMENTS: Final = 1_000
"""Documents that one file may have."""

MAX_SECRET_BYTES: Final = 1_048_576
"""Bytes that all values of a Secret may have together, as in Kubernetes."""


_ELSEWHERE: Final = {
    "IntegrationReplay": "replays are started by a command here: integrations replays start; remove this document"
}
"""Our kinds that only the operator reads, and what takes their place."""

# As in Kubernetes: keys become file names, where "." and what begins with ".." mean something else.
_DATA_KEY: Final = re.compile(r"(?!\.\.|\.$)" + DATA_KEY.strip("^$"))


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """Where a resource was written: the file, and the document in it, counted from 1."""

    source: str
    document: int

    def __str__(self) -> str:
        return f"{self.source}, document {self.document}"


@dataclass(frozen=True, slots=True)
class IntegrationConnection:
    """A connection as it was applied."""

    namespace: str
    name: str
    spec: ConnectionSpec
    origin: Origin = field(compare=False)


@dataclass(frozen=True, slots=True)
class Secret:
    """A Secret with its values decoded; its repr shows the keys only."""

    namespace: str
    name: str
    data: Mapping[str, bytes]
    origin: Origin = field(compare=False)

    def __repr__(self) -> str:
        return f"Secret(namespace={self.namespace!r}, name={self.name!r}, keys={sorted(self.data)!r})"


@dataclass(frozen=True, slots=True)
class ManifestProblem:
    """Something wrong in a file, or in one document of it; the text of it is one readable sentence."""

    source: str
    document: int | None
    kind: str | None
    name: str | None
    path: str
    message: str

    def __str__(self) -> str:
        number = f", document {self.document}" if self.document else ""
        resource = " ".join(filter(None, (self.kind, self.name)))
        named = f" ({resource})" if resource else ""
        return f"{self.source}{number}{named}: {Problem(self.path, self.message)}"


@dataclass(frozen=True, slots=True)
class Manifests:
    """What was read: resources, and what is wrong with the rest.

    `skipped` counts documents of kinds that other software reads, such as a Namespace.
    """

    connections: tuple[IntegrationConnection, ...] = ()
    secrets: tuple[Secret, ...] = ()
    problems: tuple[ManifestProblem, ...] = ()
    skipped: int = 0


def parse_manifests(text: str, source: str) -> Manifests:
    """Read the documents of one file; `source` is its name in problems. Raises nothing for what the text holds."""
    if len(text) > MAX_MANIFEST_CHARACTERS:
        message = f"the file has {len(text)} characters; at most {MAX_MANIFEST_CHARACTERS} are read, so split it"
        return Manifests(problems=(ManifestProblem(source, None, None, None, "", message),))
    documents = list(split_documents(text))
    if len(documents) > MAX_DOCUMENTS:
        message = f"the file has {len(documents)} documents; at most {MAX_DOCUMENTS} are read, so split it"
        return Manifests(problems=(ManifestProblem(source, None, None, None, "", message),))
    return combine_manifests(_parse_document(document, source) for document in documents)


def combine_manifests(parts: Iterable[Manifests]) -> Manifests:
    """Put the manifests of several files together; of a resource defined twice the first stays, with a problem."""
    connections: dict[tuple[str, str], IntegrationConnection] = {}
    secrets: dict[tuple[str, str], Secret] = {}
    problems: list[ManifestProblem] = []
    skipped = 0
    for part in parts:
        problems.extend(part.problems)
        skipped += part.skipped
        for connection in part.connections:
            first = connections.setdefault((connection.namespace, connection.name), connection)
            if first is not connection:
                problems.append(_duplicate("IntegrationConnection", connection, first.origin))
        for secret in part.secrets:
            earlier = secrets.setdefault((secret.namespace, secret.name), secret)
            if earlier is not secret:
                problems.append(_duplicate("Secret", secret, earlier.origin))
    return Manifests(tuple(connections.values()), tuple(secrets.values()), tuple(problems), skipped)


class _Metadata(BaseModel):
    """What is read of the metadata; labels, annotations and all else are Kubernetes' own business."""

    model_config = ConfigDict(hide_input_in_errors=True)

    name: Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=DNS_SUBDOMAIN)]
    namespace: Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=DNS_LABEL)] | None = None


class _Document(BaseModel):
    """What the documents of both kinds have in common."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", hide_input_in_errors=True)

    api_version: str
    kind: str
    metadata: _Metadata


_DocumentT = TypeVar("_DocumentT", bound=_Document)


class _ConnectionDocument(_Document):
    spec: object
    status: object = None


class _SecretDocument(_Document):
    type: str | None = None
    immutable: bool | None = None
    data: object = None
    string_data: object = None


def _parse_document(document: YamlDocument, source: str) -> Manifests:
    origin = Origin(source, document.number)
    try:
        value = document.read()
    except UnreadableDocumentError as error:
        return _refused(origin, {}, [Problem("", str(error))])
    if value is None:
        return Manifests()
    if not isinstance(value, dict):
        return _refused(origin, {}, [Problem("", f"found {describe(value)}; a Kubernetes resource is a mapping")])
    version, kind = value.get("apiVersion"), value.get("kind")
    if not isinstance(version, str) or not isinstance(kind, str):
        return _refused(origin, value, [Problem("", "a Kubernetes resource needs apiVersion and kind, both text")])
    match version, kind:
        case "v1", "Secret":
            return _parse_secret(value, origin)
        case "v1", "List":
            return _refused(origin, value, [Problem("kind", "a List is not read; write its items as documents")])
        case _, "IntegrationConnection" if version == API_VERSION:
            return _parse_connection(value, origin)
        case _, "IntegrationConnection":
            return _refused(origin, value, [Problem("apiVersion", f"found {show(version)}; allowed is {API_VERSION}")])
        case _ if version.startswith(f"{GROUP}/"):
            message = _ELSEWHERE.get(kind, f"found {show(kind)}; allowed is IntegrationConnection")
            return _refused(origin, value, [Problem("kind", message)])
        case _:
            return Manifests(skipped=1)


def _parse_connection(value: dict[str, object], origin: Origin) -> Manifests:
    problems: list[Problem] = []
    document = _validate(_ConnectionDocument, value, problems)
    spec: ConnectionSpec | None = None
    if "spec" in value:
        try:
            spec = parse_connection_spec(value["spec"])
        except InvalidSpecError as error:
            problems.extend(error.problems)
    if document is None or spec is None:
        return _refused(origin, value, problems)
    namespace, name = document.metadata.namespace or DEFAULT_NAMESPACE, document.metadata.name
    return Manifests(connections=(IntegrationConnection(namespace, name, spec, origin),))


def _parse_secret(value: dict[str, object], origin: Origin) -> Manifests:
    problems: list[Problem] = []
    document = _validate(_SecretDocument, value, problems)
    encoded = _entries(value.get("data"), "data", problems)
    plain = _entries(value.get("stringData"), "stringData", problems)
    data: dict[str, bytes] = {}
    for key, text in encoded.items():
        try:
            data[key] = b64decode(text.replace("\r", "").replace("\n", ""), validate=True)
        except ValueError:
            problems.append(Problem(f"data.{key}", "the value is not base64; write plain text under stringData"))
    data.update((key, text.encode()) for key, text in plain.items())
    if sum(map(len, data.values())) > MAX_SECRET_BYTES:
        problems.append(Problem("data", f"the values have more than {MAX_SECRET_BYTES} bytes together"))
    if document is None or problems:
        return _refused(origin, value, problems)
    namespace, name = document.metadata.namespace or DEFAULT_NAMESPACE, document.metadata.name
    return Manifests(secrets=(Secret(namespace, name, data, origin),))


def _entries(value: object, path: str, problems: list[Problem]) -> dict[str, str]:
    """Take the entries of a Secret's mapping that are text; never repeat a value."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        problems.append(Problem(path, "found no mapping; a mapping of keys to text is required"))
        return {}
    entries: dict[str, str] = {}
    for key, text in value.items():
        if not isinstance(key, str) or len(key) > 253 or not _DATA_KEY.fullmatch(key):
            message = f"a key has other characters than {MEANINGS[DATA_KEY]}, more than 253, or begins with '..'"
            problems.append(Problem(path, message))
        elif not isinstance(text, str | None):
            problems.append(Problem(f"{path}.{key}", f"found {describe(text)}; text is required, so quote it"))
        else:
            entries[key] = text or ""
    return entries


def _validate(model: type[_DocumentT], value: dict[str, object], problems: list[Problem]) -> _DocumentT | None:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems.extend(problems_of(error, model, root="", meanings=MEANINGS))
        return None


def _refused(origin: Origin, value: dict[str, object], problems: list[Problem]) -> Manifests:
    kind, metadata = value.get("kind"), value.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return Manifests(
        problems=tuple(
            ManifestProblem(
                origin.source,
                origin.document,
                kind if isinstance(kind, str) else None,
                name if isinstance(name, str) else None,
                problem.path,
                problem.message,
            )
            for problem in problems
        )
    )


def _duplicate(kind: str, resource: IntegrationConnection | Secret, first: Origin) -> ManifestProblem:
    return ManifestProblem(
        resource.origin.source,
        resource.origin.document,
        kind,
        resource.name,
        "metadata.name",
        f"namespace {resource.namespace} has this {kind} already, from {first}; remove one of them",
    )
