"""Login roles for programs: members of the group roles that the migrations created.

Passwords are turned into SCRAM verifiers on this side, so that none reaches the server's log.
"""

from enum import StrEnum

import psycopg
from psycopg import sql


class Group(StrEnum):
    """The group roles, one for each kind of program."""

    PRODUCER = "integration_producer"
    DISPATCHER = "integration_dispatcher"
    WORKER = "integration_worker"
    OPERATOR = "integration_operator"
    READER = "integration_reader"
    SUPPORT = "integration_support"
    INGRESS = "integration_ingress"


def ensure_login(admin: psycopg.Connection, role: str, group: Group, password: str) -> None:
    """Create the login role or give it this password, and make it a member of its group alone."""
    verifier = admin.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    exists = admin.execute("select from pg_roles where rolname = %s", (role,)).fetchone() is not None
    verb = sql.SQL("alter role" if exists else "create role")
    admin.execute(sql.SQL("{} {} login password {}").format(verb, sql.Identifier(role), sql.Literal(verifier)))
    admin.execute(sql.SQL("grant {} to {}").format(sql.Identifier(group.value), sql.Identifier(role)))
