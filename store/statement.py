"""Named statements: what runs against the database, and why, readable in one place and testable by name.

A statement is bound to PostgreSQL's own `$1` placeholders and is prepared on first use. `hot` marks those that run
once per batch of deliveries; each of them has an EXPLAIN guard in the tests.
"""

from dataclasses import dataclass

_registry: dict[str, "Statement"] = {}


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL statement; its name is unique over the whole store."""

    name: str
    purpose: str
    sql: bytes
    hot: bool


def statement(name: str, purpose: str, sql: str, *, hot: bool = False) -> Statement:
    """Define and register a statement; the name travels with it as a comment into pg_stat_statements and logs."""
    if name in _registry:
        raise ValueError(f"two statements are named {name}")
    defined = Statement(name, purpose, f"/* {name} */ {sql.strip()}".encode(), hot)
    _registry[name] = defined
    return defined


def all_statements() -> tuple[Statement, ...]:
    """Return every statement defined so far, in order of definition."""
    return tuple(_registry.values())
