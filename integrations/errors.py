"""What a command answers when something is not right: one message for the person, one exit code for the script.

    CommandError        raised by commands themselves
    ├── NotFoundError   what was asked about does not exist
    └── UsageError      what was given cannot be used

Errors of the layers below are explained here, once. No message holds a secret: connection strings are taken apart and
checked before anything else sees them, since the messages of those who parse them repeat parts of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import psycopg
from psycopg.errors import InsufficientPrivilege, InvalidSchemaName, UndefinedFunction
from pydantic import ValidationError
from pydantic_settings import SettingsError
from sqlalchemy.exc import DBAPIError

from contracts.errors import InvalidEventError
from contracts.ids import MalformedIdError
from delivery.errors import ReplayError
from integration_operator.errors import OperatorError
from local.errors import LocalError
from programs.settings import ProgramSettings
from store.errors import DatabaseUnreachableError, NotMigratedError, RestoredDatabaseError, StoreError


class ExitCode(IntEnum):
    """What a command's end means."""

    OK = 0
    """All is well."""
    NOT_FINE = 1
    """What was asked about does not exist or is not fine, or what was asked for was refused."""
    USAGE = 2
    """The command line or a setting is wrong."""
    NO_DATABASE = 3
    """The database does not answer, or lacks the schema."""


EXIT_CODES_HELP = (
    "Exit codes: 0 all is well; 1 what was asked about does not exist or is not fine; 2 the command line or a setting"
    " is wrong; 3 the database does not answer or is not migrated."
)


class CommandError(Exception):
    """A command cannot do what it was asked for; the message says what to do."""

    exit_code = ExitCode.NOT_FINE


class NotFoundError(CommandError):
    """What was asked about does not exist."""


class UsageError(CommandError):
    """What was given cannot be used."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True, slots=True)
class Explanation:
    """An error in words, and the exit code that goes with it."""

    message: str
    exit_code: ExitCode


def explain(error: BaseException) -> Explanation | None:
    """Explain an error that was to be expected; None for a defect of ours."""
    match error:
        case BaseExceptionGroup():
            return next((found for inner in error.exceptions if (found := explain(inner))), None)
        case CommandError():
            return Explanation(str(error), error.exit_code)
        case DatabaseUnreachableError() | NotMigratedError() | RestoredDatabaseError():
            return Explanation(str(error), ExitCode.NO_DATABASE)
        case StoreError() | LocalError() | OperatorError() | ReplayError() | InvalidEventError():
            return Explanation(str(error), ExitCode.NOT_FINE)
        case MalformedIdError():
            return Explanation(str(error), ExitCode.USAGE)
        case ValidationError() if error.title.endswith("Settings"):
            return Explanation("\n".join(_settings_problems(error)), ExitCode.USAGE)
        case SettingsError():
            return Explanation(_unreadable_setting(error), ExitCode.USAGE)
        case DBAPIError() if error.orig is not None:
            return explain(error.orig)
        case psycopg.Error():
            return _explain_database(error)
        case _:
            return None


def variable(field: str) -> str:
    """Return the environment variable that sets a field of a program's settings."""
    return f"{ProgramSettings.model_config['env_prefix']}{field}".upper()


def _settings_problems(error: ValidationError) -> Iterator[str]:
    for detail in error.errors(include_url=False, include_input=False, include_context=False):
        field = str(detail["loc"][0])
        if detail["type"] == "missing":
            described = ProgramSettings.model_fields.get(field)
            yield f"{variable(field)} is missing: {described.description if described else 'a value is required'}"
        else:
            yield f"{variable(field)}: {detail['msg']}"


def _unreadable_setting(error: SettingsError) -> str:
    """Name the variable in a message such as `error parsing value for field "egress_allow" from source …`."""
    quoted = str(error).split('"')
    field = quoted[1] if len(quoted) > 1 else ""
    return f"{variable(field)}: the value is not JSON; a list is written as '[\"10.0.0.0/8\"]'"


def _explain_database(error: psycopg.Error) -> Explanation:
    told = error.diag.message_primary or (str(error).strip().splitlines() or [type(error).__name__])[0]
    match error:
        case InsufficientPrivilege():
            message = f"{told}; use the connection string of a role that may do this (see the roles integration_…)"
            return Explanation(message, ExitCode.NOT_FINE)
        case InvalidSchemaName() | UndefinedFunction():
            return Explanation(f"{told}; run `integrations migrate`", ExitCode.NO_DATABASE)
        case psycopg.OperationalError():
            return Explanation(f"cannot reach the database: {told}", ExitCode.NO_DATABASE)
        case _:
            hint = f". {error.diag.message_hint}" if error.diag.message_hint else ""
            return Explanation(f"{told}{hint}", ExitCode.NOT_FINE)
