"""What a person changed is told exactly, so that the record of an edit can be read without the event."""

import pytest

from integrations.edits import changes_between


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ('{"a": 1}', {"a": 1}, []),
        ('{"a": 1}', {"a": 2}, [("/a", 1, 2)]),
        ('{"a": 1}', {}, [("/a", 1, None)]),
        ("{}", {"a": 1}, [("/a", None, 1)]),
        ('{"a": null}', {}, [("/a", None, None)]),
        ('{"a": {"b": 1, "c": 2}}', {"a": {"b": 1, "c": 3}}, [("/a/c", 2, 3)]),
        ('{"a": [1, 2]}', {"a": [1]}, [("/a", [1, 2], [1])]),
        ('{"a": 1}', {"a": True}, [("/a", 1, True)]),
        ('{"a/b~c": 1}', {"a/b~c": 2}, [("/a~1b~0c", 1, 2)]),
    ],
)
def test_every_difference_is_listed_with_its_place(
    before: str, after: dict[str, object], changes: list[tuple[str, object, object]]
) -> None:
    assert [(each["path"], each["from"], each["to"]) for each in changes_between(before, after)] == changes
