"""The examples of docs/field-mapping.md are accepted and do what they say."""

import re
from pathlib import Path

import yaml

from contracts.delivery_spec import FieldEntry
from contracts.fields import FieldMapping

PAGE = Path(__file__).parents[3] / "docs" / "field-mapping.md"


def test_the_page_s_fields_are_set_as_it_says() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    mapping = FieldMapping([FieldEntry.model_validate(field) for field in yaml.safe_load(block)["fields"]])
    data = {"name": " Acme ", "domains": [], "employees": 300, "tags": ["a", "b"]}

    assert mapping.evaluate({"type": "company.updated", "subject": "c", "tenant": "t", "data": data}) == {
        "name": "Acme",
        "size": "large",
        "source": "queast",
        "tags": "a, b",
    }
