"""Commands about connectors: `connectors list`, `connectors new`."""

import re
from pathlib import Path
from typing import Annotated, Final

import typer

from connectors.connector import ConnectorType
from connectors.errors import NoConnectorError
from connectors.registry import BUILT_IN, connector_type, installed_names
from contracts.spec_values import ACTION
from integrations import output
from integrations.errors import EXIT_CODES_HELP, CommandError, UsageError
from integrations.output import JsonOption

EXAMPLE: Final = "Postbox"
"""Name of the connector that new ones are made from."""

_LONGEST_NAME: Final = 40

app = typer.Typer(no_args_is_help=True, help="What speaks partners' languages: ours, and what is installed beside.")


@app.command("list", epilog=EXIT_CODES_HELP)
def list_command(as_json: JsonOption = False) -> None:
    """List the connectors that are installed here, with what they can do.

    Operator and workers use what is installed in their image.
    """
    found: list[tuple[str, ConnectorType | None, str]] = [(name, each, "") for name, each in sorted(BUILT_IN.items())]
    for name in installed_names():
        try:
            found.append((name, connector_type(name), ""))
        except NoConnectorError as error:
            found.append((name, None, str(error)))
    if as_json:
        output.print_json({"connectors": [_document(*each) for each in found]})
        return
    output.print_table(("Connector", "Provider", "Actions", "Problem"), [_cells(*each) for each in found])


@app.command(epilog=EXIT_CODES_HELP)
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name, such as AcmeChat.", show_default=False)],
    directory: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to make it; by default a folder of its name here.")
    ] = None,
) -> None:
    """Make a package for a new connector, with a simulated partner, that passes its certification from the start."""
    if not re.fullmatch(ACTION, name) or len(name) > _LONGEST_NAME:
        raise UsageError(
            "a connector's name is up to 40 letters and digits and begins with a capital, such as AcmeChat"
        )
    if name in BUILT_IN:
        raise UsageError(f"there is a connector {name} already; it is built in")
    stem = name.lower()
    target = directory or Path(f"{stem}-connector")
    if target.exists() and any(target.iterdir()):
        raise CommandError(f"{target} is there and not empty; name another folder with --directory")
    for file in sorted(_template().rglob("*")):
        place = file.relative_to(_template())
        if not file.is_file() or "__pycache__" in place.parts:
            continue
        made = target / _renamed(str(place), name)
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_text(_renamed(file.read_text(encoding="utf-8"), name), encoding="utf-8")
    output.print_line(f"made {target}; begin with its README.md")
    output.print_line(f"certify it: pytest --pyargs connectors.certification --connector {name}, once it is installed")


def _template() -> Path:
    """Return the example: in the wheel beside this file, in the repository where examples are."""
    packed = Path(__file__).with_name("connector_template")
    return packed if packed.is_dir() else Path(__file__).parents[1] / "examples" / "connector"


def _renamed(text: str, name: str) -> str:
    return text.replace(EXAMPLE, name).replace(EXAMPLE.lower(), name.lower())


def _document(name: str, connector: ConnectorType | None, problem: str) -> dict[str, object]:
    actions = [
        {"name": action.name, "events": action.events, "summary": action.summary, "takes_fields": action.takes_fields}
        for action in (connector.actions if connector else ())
    ]
    return {"connector": name, "provider": _provider(name), "actions": actions, "problem": problem or None}


def _cells(name: str, connector: ConnectorType | None, problem: str) -> list[str]:
    actions = [f"{each.name} ({', '.join(each.events)})" for each in connector.actions] if connector else []
    return [name, _provider(name), ", ".join(actions), problem]


def _provider(name: str) -> str:
    return name if name in BUILT_IN else "Plugin"
