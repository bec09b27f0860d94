"""YAML is read as Kubernetes reads it, and refused before it can do harm."""

import pytest

from contracts.yaml_documents import MAX_NODES, UnreadableDocumentError, split_documents


def read(text: str) -> list[object]:
    return [document.read() for document in split_documents(text)]


def test_documents_begin_at_separators_only() -> None:
    text = "a: |\n  ---\n  x\n--- # second\nb: a---b\n---\n\n---\nc: '---x'\n"

    assert read(text) == [{"a": "---\nx\n"}, {"b": "a---b"}, {"c": "---x"}]


def test_content_may_follow_a_separator() -> None:
    assert read("--- {a: 1}\n--- b") == [{"a": 1}, "b"]


def test_documents_know_their_number_and_line() -> None:
    documents = list(split_documents("# blank\n---\na: 1\nb: 2\n---\nc: 3\n"))

    assert [(document.number, document.line) for document in documents] == [(1, 2), (2, 5)]


def test_aliases_and_merges_are_read() -> None:
    assert read("a: &x {k: 1}\nb: *x\nc: {<<: *x, l: 2}") == [{"a": {"k": 1}, "b": {"k": 1}, "c": {"k": 1, "l": 2}}]


def test_timestamps_stay_text() -> None:
    assert read("a: 2026-01-31T10:00:00Z") == [{"a": "2026-01-31T10:00:00Z"}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "line 3, column 1: this key is repeated in its mapping"),
        ("a: &x [*x]", "line 1, column 4: an alias points to what contains it"),
        ("a: !!python/object:os.system x", "line 1, column 4: this tag is not allowed"),
        ("a: !!bool maybe", "line 1, column 4: this value does not fit its tag"),
        ("a: *b", "line 1, column 4: this is not YAML .found undefined alias."),
        ("\n\na: \x07", "line 3: a control character"),
        ("[" * 50_000, "nested too deeply"),
        ("a: " + "1" * 5_000, "a number is too long"),
    ],
)
def test_what_is_refused_is_explained(text: str, message: str) -> None:
    with pytest.raises(UnreadableDocumentError, match=message):
        read(text)


def test_a_document_with_too_many_values_is_refused() -> None:
    with pytest.raises(UnreadableDocumentError, match=f"a document may have {MAX_NODES} values"):
        read("[" + "a," * MAX_NODES + "]")


def test_a_line_in_a_later_document_is_counted_from_the_top_of_the_file() -> None:
    with pytest.raises(UnreadableDocumentError, match="line 4, column 4"):
        read("a: 1\n---\nb: 2\nc: *d")
