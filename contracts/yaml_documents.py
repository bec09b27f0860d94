"""YAML text as separate documents, each read or refused by itself.

What is accepted is what Kubernetes' own reader makes of the same text: timestamps stay text, and a repeated key is an
error. A document cannot make its reader work or allocate out of proportion: aliases count as often as they are used,
and tags that build anything beyond JSON's types are refused. Error messages repeat nothing of the text, because it
may hold Secrets.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import yaml

MAX_NODES: Final = 50_000
"""Scalars, lists and mappings that a document may have, those behind an alias counted at each use."""

_SEPARATOR: Final = re.compile(r"^---(?=\s|\Z)", re.MULTILINE)
_CONTENT: Final = re.compile(r"^[ \t]*[^\s#]", re.MULTILINE)
_BEFORE_QUOTATION: Final = re.compile(r"[^'\"]*")
_TEXT_TAG: Final = "tag:yaml.org,2002:str"
_TIMESTAMP_TAG: Final = "tag:yaml.org,2002:timestamp"
_PLAIN_TAGS: Final = frozenset(
    f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str", "int", "float", "bool", "null", "merge")
)


class UnreadableDocumentError(ValueError):
    """A document that is not acceptable YAML; the message says where and why."""


@dataclass(frozen=True, slots=True, repr=False)
class YamlDocument:
    """The text of one document; `number` counts from 1, `line` is where in the file it begins, from 1."""

    number: int
    line: int
    text: str

    def read(self) -> object:
        """Return the document's value, None for an empty one; raise UnreadableDocumentError."""
        try:
            return _Loader(self.text).get_checked_value()
        except _RefusedNodeError as error:
            raise self._unreadable(error.mark, error.reason) from None
        except yaml.MarkedYAMLError as error:
            raise self._unreadable(error.problem_mark or error.context_mark, _in_words(error)) from None
        except yaml.reader.ReaderError as error:
            line = self.line + self.text.count("\n", 0, error.position)
            raise UnreadableDocumentError(f"line {line}: a control character is not allowed in YAML") from None
        except RecursionError:
            raise UnreadableDocumentError("lists and mappings are nested too deeply") from None
        except ValueError:
            raise UnreadableDocumentError("a number is too long; quote it if it is text") from None

    def _unreadable(self, mark: yaml.Mark | None, reason: str) -> UnreadableDocumentError:
        place = f"line {self.line + mark.line}, column {mark.column + 1}: " if mark else ""
        return UnreadableDocumentError(place + reason)


def split_documents(text: str) -> Iterator[YamlDocument]:
    """Split at the lines that begin with `---`, as YAML defines for every context; blank documents do not count."""
    number, start, line = 0, 0, 1
    while start <= len(text):
        separator = _SEPARATOR.search(text, start)
        part = text[start : separator.start() if separator else len(text)]
        if _CONTENT.search(part):
            number += 1
            yield YamlDocument(number, line, part)
        line += part.count("\n")
        start = separator.end() if separator else len(text) + 1


class _RefusedNodeError(Exception):
    """A node that is YAML and is refused all the same."""

    def __init__(self, node: yaml.Node, reason: str) -> None:
        super().__init__(reason)
        self.mark: yaml.Mark | None = node.start_mark
        self.reason = reason


class _Loader(yaml.SafeLoader):
    """The safe loader without timestamps, which looks at every node before it builds anything."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._composed = 0
        self._weights: dict[int, int | None] = {}

    def get_checked_value(self) -> object:
        """Return the value of the only document, None if there is none."""
        node = self.get_single_node()
        if node is None:
            return None
        if self._weigh(node) > MAX_NODES:
            raise _too_large(node)
        value: object = self.construct_document(node)
        return value

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Stop as soon as the text alone has too many nodes."""
        node = super().compose_node(parent, index)
        self._composed += 1
        if node is not None and self._composed > MAX_NODES:
            raise _too_large(node)
        return node

    def _weigh(self, node: yaml.Node) -> int:
        """Count the nodes below and including `node`; at an alias they count again."""
        if id(node) in self._weights:
            known = self._weights[id(node)]
            if known is None:
                raise _RefusedNodeError(node, "an alias points to what contains it")
            return known
        self._weights[id(node)] = None
        self._check_tag(node)
        weight = 1
        if isinstance(node, yaml.SequenceNode):
            weight += sum(map(self._weigh, node.value))
        elif isinstance(node, yaml.MappingNode):
            _check_keys(node)
            weight += sum(self._weigh(key) + self._weigh(value) for key, value in node.value)
        self._weights[id(node)] = weight
        return weight

    def _check_tag(self, node: yaml.Node) -> None:
        if node.tag not in _PLAIN_TAGS:
            raise _RefusedNodeError(node, "this tag is not allowed; text that begins with ! must be quoted")
        if isinstance(node, yaml.ScalarNode) and node.tag != _TEXT_TAG:
            plain = self.resolve(yaml.ScalarNode, node.value, (True, False))  # type: ignore[no-untyped-call]  # types-pyyaml has no types for it
            if plain != node.tag:
                raise _RefusedNodeError(node, "this value does not fit its tag")


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP_TAG]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _check_keys(node: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                raise _RefusedNodeError(key, "this key is repeated in its mapping")
            seen.add(key.value)


def _too_large(node: yaml.Node) -> _RefusedNodeError:
    return _RefusedNodeError(node, f"a document may have {MAX_NODES} values, counting those behind aliases each time")


def _in_words(error: yaml.MarkedYAMLError) -> str:
    """Keep the parser's words up to the first quotation, which may repeat the text."""
    found = _BEFORE_QUOTATION.match(error.problem or "")
    words = found.group().strip(" ,") if found else ""
    reason = f" ({words})" if " " in words else ""
    return f"this is not YAML{reason}; check indentation and brackets, and quote text that begins with a special sign"
