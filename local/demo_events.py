"""The demo's events: companies that grow, and signals about them, always the same ones in the same order."""

from collections.abc import Iterator, Sequence
from random import Random
from typing import Final, NamedTuple

from store.outbox import NewEvent


class _Company(NamedTuple):
    id: str
    name: str
    domain: str
    industry: str
    employees: int
    country: str
    city: str


_COMPANIES: Final = (
    _Company("cmp-aurora", "Aurora Wind", "aurorawind.example", "Renewable energy", 840, "DK", "Aarhus"),
    _Company("cmp-bellwether", "Bellwether Analytics", "bellwether.example", "Software", 120, "US", "Boston"),
    _Company("cmp-cobalt", "Cobalt Foundry", "cobaltfoundry.example", "Metals", 2300, "DE", "Essen"),
    _Company("cmp-driftwood", "Driftwood Hotels", "driftwood.example", "Hospitality", 460, "PT", "Porto"),
    _Company("cmp-evergreen", "Evergreen Foods", "evergreenfoods.example", "Food production", 1750, "NL", "Breda"),
    _Company("cmp-fjord", "Fjord Shipping", "fjordshipping.example", "Logistics", 3100, "NO", "Bergen"),
    _Company("cmp-granite", "Granite Mutual", "granitemutual.example", "Insurance", 980, "CA", "Halifax"),
    _Company("cmp-harbor", "Harbor Robotics", "harborrobotics.example", "Robotics", 65, "US", "Seattle"),
    _Company("cmp-indigo", "Indigo Textiles", "indigotextiles.example", "Textiles", 640, "IN", "Surat"),
    _Company("cmp-juniper", "Juniper Clinics", "juniperclinics.example", "Health care", 1200, "GB", "Leeds"),
    _Company("cmp-kestrel", "Kestrel Avionics", "kestrelavionics.example", "Aerospace", 410, "FR", "Toulouse"),
    _Company("cmp-lumen", "Lumen Optics", "lumenoptics.example", "Optics", 95, "JP", "Kyoto"),
    _Company("cmp-meridian", "Meridian Rail", "meridianrail.example", "Transport", 5200, "CH", "Zürich"),
    _Company("cmp-northgate", "Northgate Legal", "northgatelegal.example", "Legal services", 75, "IE", "Cork"),
    _Company("cmp-obsidian", "Obsidian Games", "obsidiangames.example", "Games", 150, "PL", "Kraków"),
    _Company(
        "cmp-pinnacle", "Pinnacle Cement", "pinnaclecement.example", "Building materials", 2700, "MX", "Monterrey"
    ),
    _Company("cmp-quarry", "Quarry Lane Books", "quarrylane.example", "Publishing", 38, "NZ", "Dunedin"),
    _Company("cmp-riverbend", "Riverbend Water", "riverbendwater.example", "Utilities", 890, "AU", "Perth"),
)

_SIGNALS: Final = ("is hiring a head of logistics", "opened an office", "raised a funding round", "changed its CRM")
_CONTRACT: Final = {"uri": "https://queast.example/contracts/actionable-signal", "version": "1"}


def demo_events(tenants: Sequence[str], count: int) -> Iterator[NewEvent]:
    """Yield `count` events of the tenants in turn; the first about a company says that it was created."""
    random = Random(2024)  # noqa: S311 -- variety, not secrecy
    employees = {(tenant, company.id): company.employees for tenant in tenants for company in _COMPANIES}
    known: set[tuple[str, str]] = set()
    for number in range(count):
        tenant = tenants[number % len(tenants)]
        company = random.choice(_COMPANIES)
        subject = (tenant, company.id)
        if subject not in known:
            known.add(subject)
            yield NewEvent(tenant, "company.created", company.id, _data(company, company.employees))
        elif random.random() < 0.2:
            yield NewEvent(tenant, "signal.published", company.id, _signal(company, random.choice(_SIGNALS), number))
        else:
            employees[subject] += random.randint(1, 20)
            yield NewEvent(tenant, "company.updated", company.id, _data(company, employees[subject]))


def _data(company: _Company, employees: int) -> dict[str, object]:
    return {
        "id": company.id,
        "name": company.name,
        "domains": [company.domain],
        "website": f"https://www.{company.domain}",
        "industry": company.industry,
        "employees": employees,
        "country": company.country,
        "city": company.city,
    }


def _signal(company: _Company, what: str, number: int) -> dict[str, object]:
    return {
        "id": f"sig-{number}",
        "contract": _CONTRACT,
        "company": {"id": company.id, "name": company.name},
        "signal": {"title": f"{company.name} {what}"},
    }
