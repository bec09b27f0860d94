"""What CRMs are told of our events: which company one is about, and what it says in words for people."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson


class UnusableEventError(ValueError):
    """An event does not have what the action needs; the message says what, and quotes nothing."""


@dataclass(slots=True)
class Company:
    """Our company that an event is about."""

    id: str
    name: str | None
    domain: str | None


def company_of(type_: str, data: Any) -> Company:
    """Return the company that an event is about; raise UnusableEventError."""
    described = data if type_.startswith("company.") else data.get("company") if isinstance(data, dict) else None
    id_ = described.get("id") if isinstance(described, dict) else None
    if not isinstance(described, dict) or not isinstance(id_, str) or not id_:
        place = "data.id" if type_.startswith("company.") else "data.company.id"
        raise UnusableEventError(f"the event has no {place}, so it is not known which company it is about")
    name, domains = described.get("name"), described.get("domains")
    domain = domains[0] if isinstance(domains, list) and domains and isinstance(domains[0], str) else None
    return Company(id_, name if isinstance(name, str) and name else None, domain and normal_domain(domain))


def normal_domain(domain: str) -> str:
    """Return a domain as HubSpot keeps it: lower case, without www."""
    return domain.strip().lower().removeprefix("www.")


def words_of(event: Mapping[str, Any]) -> tuple[str, list[tuple[str, str]]]:
    """Say in a title and lines what an event says.

    Of a signal only its title is looked for; the rest belongs to its contract, and is shown as it is.
    """
    data = event["data"]
    signal = data.get("signal") if isinstance(data.get("signal"), dict) else data
    title = next((signal[name] for name in ("title", "name", "headline") if isinstance(signal.get(name), str)), None)
    lines = [(name, text) for name, text in _lines(signal) if name not in ("company", "contract")]
    contract = data.get("contract")
    if isinstance(contract, dict):
        lines.append(("Signals contract", f"{contract.get('uri', '')} {contract.get('version', '')}".strip()))
    return title or f"Queast: {event['type']}", lines


def _lines(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        match value:
            case None:
                continue
            case dict():
                yield from _lines(value, f"{before}{name}.")
            case list() if all(isinstance(each, str | int | float) for each in value):
                yield f"{before}{name}", ", ".join(map(str, value))
            case list():
                yield f"{before}{name}", orjson.dumps(value).decode()
            case bool():
                yield f"{before}{name}", "yes" if value else "no"
            case _:
                yield f"{before}{name}", str(value)
