"""What should not be: the evidence held against every promise.

Only a request that was given up may be seen behind a later event, under the same webhook-id: after a time-out it can
lie unread at a busy receiver while its repetition and the next event, on other connections, are read. No sender can
call it back. Each such case must be one of the attempts that were recorded.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from chaos.evidence import ALL_CONNECTIONS, NOTHING, Arrival, Evidence, Fact, Fate
from chaos.happening import Happening

UNSETTLED_SECONDS = 2.0
"""How long before a misfortune an accepted request can have been whose result was not yet written."""

MAY_COST_RESULTS = frozenset(
    {
        "kill-worker",
        "lose-worker",
        "stop-worker",
        "partition-worker",
        "stall-worker",
        "crash-database",
        "lose-database",
        "kill-backend",
        "fill-disk",
    }
)
"""Misfortunes that explain why an accepted request was repeated; all others must cost nothing."""

EXPIRED = "Expired"
"""The reason of dead letters whose time was over."""


@dataclass
class Judgement:
    """What became of the deliveries that were wanted, and the breaches by name, each with all its cases."""

    wanted: int = 0
    delivered: int = 0
    queued: int = 0
    dead: Counter[str] = field(default_factory=Counter)
    repeats: int = 0
    given_up: int = 0
    breaches: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def breach(self, name: str, cases: Iterable[str]) -> None:
        """Note cases of a breach, if there are any."""
        if found := list(cases):
            self.breaches[name] += found


def judge(evidence: Evidence, happened: Sequence[Happening]) -> Judgement:
    """Find every breach that the evidence shows."""
    judgement = Judgement()
    judgement.breach("commit-gap", evidence.gaps)
    judgement.breach("acknowledged-and-gone", sorted(evidence.acknowledged - evidence.facts.keys()))
    judgement.breach("contradictory-record", evidence.contradictions)
    judgement.breach("late-write", evidence.late_attempts)
    judgement.breach("second-id", evidence.second_ids)
    judgement.breach("refused-signature", [f"{evidence.counts['refused']} requests"] * bool(evidence.counts["refused"]))
    for name in ALL_CONNECTIONS:
        _judge_connection(name, evidence, happened, judgement)
    return judgement


def _judge_connection(name: str, evidence: Evidence, happened: Sequence[Happening], judgement: Judgement) -> None:
    arrivals, fates = evidence.arrivals[name], evidence.fates.get(name, {})
    wish = ALL_CONNECTIONS[name]
    wanted = {event for event, fact in evidence.facts.items() if fact.tenant == wish.tenant and wish.wants(fact.n)}
    if name not in evidence.fates:
        wanted = set()  # it was never published
    elif not wish.from_the_beginning:
        wanted = _since_first(evidence.facts, wanted, fates)
    for event in wanted:
        _judge_delivery(f"{name} {event} {evidence.facts[event]}", event, fates, arrivals, evidence, judgement)
    judgement.breach("invented", (f"{name} {event}" for event in arrivals.keys() - wanted))
    judgement.breach(
        "different-payload", (f"{name} {e}" for e, arrival in arrivals.items() if not arrival["same_body"])
    )
    if wish.ordered:
        _judge_order(name, evidence.facts, arrivals, fates, judgement)
    _judge_repeats(name, arrivals, fates, happened, judgement)


def _since_first(facts: dict[str, Fact], wanted: set[str], fates: dict[str, Fate]) -> set[str]:
    """Return what a connection published on the way wants: of each subject, everything from its first job on."""
    first: dict[str, int] = {}
    for event in fates.keys() & wanted:
        fact = facts[event]
        first[fact.subject] = min(first.get(fact.subject, fact.n), fact.n)
    return {event for event in wanted if facts[event].n >= first.get(facts[event].subject, facts[event].n + 1)}


def _judge_delivery(
    what: str,
    event: str,
    fates: dict[str, Fate],
    arrivals: dict[str, Arrival],
    evidence: Evidence,
    judgement: Judgement,
) -> None:
    fate = fates.get(event, NOTHING)
    judgement.wanted += 1
    if fate.dead is not None:
        judgement.dead[fate.dead] += 1
    elif fate.queued or (not evidence.is_dispatched and fate is NOTHING):
        judgement.queued += 1
    elif fate.delivered and arrivals.get(event, {}).get("accepted"):
        judgement.delivered += 1
    else:
        judgement.breach("lost", [f"{what}: {fate}"])


def _judge_order(
    name: str,
    facts: dict[str, Fact],
    arrivals: dict[str, Arrival],
    fates: dict[str, Fate],
    judgement: Judgement,
) -> None:
    """Compare the order of first requests with that of the commits, and look for repeats behind a later event."""
    seen: dict[str, list[tuple[int, str, Arrival]]] = defaultdict(list)
    for event, arrival in arrivals.items():
        if event in facts:
            seen[facts[event].subject].append((facts[event].n, event, arrival))
    for subject, arrived in seen.items():
        numbers = [n for n, _, _ in arrived]
        judgement.breach("out-of-order", [f"{name} {subject} {numbers}"] * (numbers != sorted(numbers)))
        for (_, event, earlier), (_, later_event, later) in pairwise(arrived):
            if earlier["received_at"][-1] > later["received_at"][0]:
                fate = fates.get(event, NOTHING)
                if fate.ambiguous > 0 and len(earlier["received_at"]) <= fate.attempts:
                    judgement.given_up += 1
                else:
                    judgement.breach("overtaken", [f"{name} {subject}: {later_event} came before {event} had ended"])


def _judge_repeats(
    name: str,
    arrivals: dict[str, Arrival],
    fates: dict[str, Fate],
    happened: Sequence[Happening],
    judgement: Judgement,
) -> None:
    """Find requests that followed an accepted one though neither a misfortune nor a missing answer explains them."""
    causes = [each for each in happened if each.kind in MAY_COST_RESULTS]
    for event, arrival in arrivals.items():
        unanswered = fates.get(event, NOTHING).ambiguous
        received, statuses = arrival["received_at"], arrival["statuses"]
        for at, following, status in zip(received, received[1:], statuses, strict=False):
            if status != 200:
                continue
            judgement.repeats += 1
            if any(cause.touches(at - UNSETTLED_SECONDS, following) for cause in causes):
                continue
            unanswered -= 1
            if unanswered < 0:
                judgement.breach("needless-repeat", [f"{name} {event} at {at:.3f} and {following:.3f}"])
