"""What the demo shows on a terminal: the act, the connections with their progress, and at the end the summary."""

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from contracts.manifests import IntegrationConnection
from local.demo_counts import Endpoint, Summary
from local.demo_crm import Crm
from local.serving import STYLES
from local.state import ConnectionState

_BAR_WIDTH = 24


class DemoView:
    """The changing picture of a performance."""

    def __init__(self, endpoints: Sequence[Endpoint], crms: Sequence[Crm] = ()) -> None:
        self._endpoints = endpoints
        self._crms = crms
        self.act = ""

    def render(self, states: Mapping[str, ConnectionState], emitted: int) -> RenderableType:
        """Draw the picture as it is now."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column("Connection", no_wrap=True)
        table.add_column("Tenant", no_wrap=True)
        table.add_column("Delivered", width=_BAR_WIDTH)
        table.add_column("", justify="right", no_wrap=True)
        table.add_column("Waiting", justify="right")
        table.add_column("Failed attempts", justify="right", no_wrap=True)
        table.add_column("State", no_wrap=True)
        for endpoint in self._endpoints:
            expected, counts = endpoint.expected.total(), endpoint.counts
            row = _row(endpoint.connection, expected, counts.delivered, counts.failed, states.get(endpoint.name))
            table.add_row(*row)
        for crm in self._crms:
            table.add_row(*_row(crm.connection, crm.expected, crm.found, crm.refused, states.get(crm.name)))
        act = [Text(self.act, style="bold"), Text("")] if self.act else []
        return Panel(Group(*act, table), title=f"{emitted} events emitted", title_align="left", border_style="cyan")


def _row(
    connection: IntegrationConnection, expected: int, delivered: int, failed: int, state: ConnectionState | None
) -> list[RenderableType]:
    condition = Text(state.condition, style=STYLES[state.condition]) if state else Text("…", style="dim")
    return [
        f"{connection.namespace}/{connection.name}",
        connection.spec.tenant,
        ProgressBar(total=max(expected, 1), completed=delivered, width=_BAR_WIDTH),
        f"{delivered}/{expected}",
        str(state.waiting) if state else "",
        Text(str(failed), style="yellow" if failed else "dim"),
        condition,
    ]


def summary_table(summary: Summary) -> RenderableType:
    """Draw the summary for a person."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(justify="right", style="bold")
    table.add_column()
    table.add_row(str(summary.events), "events emitted")
    table.add_row(f"{summary.delivered} of {summary.deliveries}", "deliveries accepted by the partner, each verified")
    table.add_row(str(summary.failed_attempts), "attempts failed and were repeated until they succeeded")
    for count, what in (
        (summary.lost, "lost"),
        (summary.repeated, "accepted more than once"),
        (summary.out_of_order, "accepted after a later one of the same company"),
        (summary.unverified, "with a signature that did not verify"),
        (summary.altered, "with another body at a later attempt"),
    ):
        table.add_row(Text(str(count), style="bold red" if count else "bold green"), what)
    if summary.crm_records:
        table.add_row(
            f"{summary.crm_records - summary.crm_missing} of {summary.crm_records}",
            "companies and notes are in the CRM as they must be",
        )
        table.add_row(
            Text(str(summary.crm_twins), style="bold red" if summary.crm_twins else "bold green"), "there twice"
        )
    outage = summary.quarantined_and_recovered
    table.add_row(
        Text("yes" if outage else "no", style="bold green" if outage else "bold red"),
        "the failing connection was quarantined and recovered by itself",
    )
    title = f"Counted at the partner, after {summary.seconds:.0f} seconds"
    return Panel(
        table, title=title, title_align="left", border_style="green" if summary.is_good else "red", expand=False
    )
