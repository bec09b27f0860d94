"""What is known when a run has ended: what was committed, what arrived, and what the database says of each delivery."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, NamedTuple

from chaos.bed import Bed
from chaos.scene import CONNECTIONS, LATE, Wish
from contracts.ids import EventId, public_event_id

Arrival = dict[str, Any]
"""All requests with one webhook-id, as the partner remembers them."""

ALL_CONNECTIONS = {**CONNECTIONS, LATE: Wish("globex", from_the_beginning=False)}


class Fact(NamedTuple):
    """A committed event."""

    tenant: str
    subject: str
    n: int


class Fate(NamedTuple):
    """What the database says of one event for one connection: attempts, and how it ended or where it waits.

    Nobody knows what came of `ambiguous` attempts; `dead` is the reason of a dead letter.
    """

    attempts: int
    ambiguous: int
    delivered: int
    queued: int
    dead: str | None


NOTHING = Fate(0, 0, 0, 0, None)

# Whatever is known of a delivery by its connection's name and its event.
FATES = """
with attempts as (
    select connection_id, event_id, count(*) as made, count(*) filter (where outcome = 'Ambiguous') as ambiguous,
           count(*) filter (where outcome = 'Delivered') as delivered
    from integration.attempt group by 1, 2
),
jobs as (select connection_id, event_id, count(*) as queued from integration.job group by 1, 2),
dead as (select connection_id, event_id, min(reason) as reason from integration.dead_letter group by 1, 2)
select c.name, event_id, coalesce(a.made, 0), coalesce(a.ambiguous, 0), coalesce(a.delivered, 0),
       coalesce(j.queued, 0), d.reason
from attempts a full join jobs j using (connection_id, event_id) full join dead d using (connection_id, event_id)
join integration.connection c on c.id = connection_id
"""

# A job ends once: it is delivered, dead or still there, and its attempts are numbered by those that count.
CONTRADICTIONS = """
with tried as (
    select connection_id, event_id, route_id, job_id, max(number) as last,
           count(*) filter (where outcome = 'Delivered') as delivered,
           max(number) filter (where outcome = 'Delivered') as last_delivered,
           1 + count(*) filter (where outcome in ('Transient', 'Ambiguous', 'AuthExpired')) as numbers,
           array_agg((number, outcome) order by at)::text as attempts
    from integration.attempt group by 1, 2, 3, 4
)
select t.connection_id, t.event_id, t.route_id, t.job_id, t.attempts, d.reason, j.id is not null as queued
from tried t
left join integration.dead_letter d on d.job_id = t.job_id
left join integration.job j on j.id = t.job_id
where t.delivered + (d.job_id is not null)::int + (j.id is not null)::int <> 1
   or t.last > t.numbers or t.last <> coalesce(t.last_delivered, t.last) or d.attempts <> t.last
"""

TWO_JOBS = """
select connection_id, event_id, route_id, array_agg(job_id) from (
    select connection_id, event_id, route_id, job_id from integration.attempt
    union select connection_id, event_id, route_id, id from integration.job
    union select connection_id, event_id, route_id, job_id from integration.dead_letter
) known group by 1, 2, 3 having count(*) > 1
"""

# Of each subject, the counters of its committed events are 1, 2, 3, …, up to what its producers counted.
GAPS = """
select s.tenant, s.name, s.counter from workload.subject s where s.counter > 0 and
(select array_agg((e.data->>'n')::int order by e.id) = array_agg(n::int order by n)
 from (select row_number() over (order by id) as n, id, data from integration.event
       where tenant_id = s.tenant and subject = s.name) e having count(*) = s.counter) is not true
"""


@dataclass(frozen=True)
class Evidence:
    """Everything that a judgement rests on; `counts` are the partner's, added up over its endpoints."""

    facts: dict[str, Fact]
    acknowledged: set[str]
    arrivals: dict[str, dict[str, Arrival]]
    second_ids: list[str]
    fates: dict[str, dict[str, Fate]]
    counts: dict[str, int]
    is_dispatched: bool
    contradictions: list[str]
    late_attempts: list[str]
    gaps: list[str]


def collect(bed: Bed) -> Evidence:
    """Ask the partner and the database for everything."""
    query = "select id, nonce, tenant_id, subject, (data->>'n')::int from integration.event order by id"
    facts: dict[str, Fact] = {}
    names: dict[int, str] = {}
    for number, nonce, tenant, subject, n in bed.rows(query):
        names[number] = public_event_id(EventId(number), nonce)
        facts[names[number]] = Fact(tenant, subject, n)
    fates: dict[str, dict[str, Fate]] = defaultdict(dict)
    for connection, event, *fate in bed.rows(FATES):
        fates[connection][names[event]] = Fate(*fate)
    arrivals: dict[str, dict[str, Arrival]] = {}
    counts: dict[str, int] = defaultdict(int)
    second_ids: list[str] = []
    for connection in ALL_CONNECTIONS:
        arrivals[connection] = {}
        bed.partner.open(connection)
        for arrival in bed.partner.deliveries(connection):
            event = arrival["event"]["event_id"]
            if event in arrivals[connection]:
                second_ids.append(f"{connection} {event}")
            arrivals[connection][event] = arrival
        for name, count in bed.partner.stats(connection).items():
            counts[name] += count
    return Evidence(
        facts=facts,
        acknowledged=set(bed.acknowledged.read_text().split()),
        arrivals=arrivals,
        second_ids=second_ids,
        fates=fates,
        counts=counts,
        is_dispatched=bed.is_dispatched(),
        contradictions=[str(row) for row in [*bed.rows(CONTRADICTIONS), *bed.rows(TWO_JOBS)]],
        late_attempts=[str(row) for row in bed.rows("select at::text, session, job from workload.late_attempt")],
        gaps=[str(row) for row in bed.rows(GAPS)],
    )
