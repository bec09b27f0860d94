"""The account of a run: what became of every event, and what should not have been; `docs/chaos.md` explains it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from chaos.evidence import Evidence
from chaos.happening import Happening
from chaos.judgement import EXPIRED, Judgement

EXAMPLES = 5
"""Cases of one breach that are told; all are counted."""


@dataclass(frozen=True)
class Breach:
    """A promise that was broken, how often, and the first cases."""

    name: str
    count: int
    examples: list[str]


@dataclass(frozen=True)
class Deliveries:
    """What became of everything that was wanted: the last five add up to the first."""

    wanted: int
    delivered: int
    dead_lettered: dict[str, int]
    expired: int
    queued: int
    lost: int


@dataclass(frozen=True)
class Repeats:
    """Accepted requests that were followed by another: `needless` ones have no misfortune and no lost answer."""

    all: int
    needless: int
    behind_a_later_event: int


@dataclass(frozen=True)
class Account:
    """What is told at the end of a run."""

    seed: int
    seconds: float
    committed: int
    acknowledged: int
    deliveries: Deliveries
    requests: int
    different_payloads: int
    repeats: Repeats
    fenced_results: int
    misfortunes: dict[str, int]
    not_exercised: list[str]
    breaches: list[Breach]

    @classmethod
    def of(
        cls,
        seed: int,
        seconds: float,
        evidence: Evidence,
        judgement: Judgement,
        happened: Sequence[Happening],
        *,
        fenced: int,
        not_exercised: list[str],
    ) -> Self:
        """Count."""
        breaches = judgement.breaches
        dead = judgement.dead.copy()
        expired = dead.pop(EXPIRED, 0)
        return cls(
            seed=seed,
            seconds=seconds,
            committed=len(evidence.facts),
            acknowledged=len(evidence.acknowledged),
            deliveries=Deliveries(
                judgement.wanted,
                judgement.delivered,
                dict(dead),
                expired,
                judgement.queued,
                len(breaches.get("lost", [])),
            ),
            requests=evidence.counts["received"],
            different_payloads=len(breaches.get("different-payload", [])),
            repeats=Repeats(judgement.repeats, len(breaches.get("needless-repeat", [])), judgement.given_up),
            fenced_results=fenced,
            misfortunes=dict(sorted(Counter(each.kind for each in happened).items())),
            not_exercised=not_exercised,
            breaches=[Breach(name, len(cases), cases[:EXAMPLES]) for name, cases in sorted(breaches.items())],
        )

    @property
    def is_clean(self) -> bool:
        """Whether every promise was kept."""
        return not self.breaches

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {"ok": self.is_clean, **asdict(self)}

    def as_lines(self) -> list[str]:
        """Return it for people; the last line says it all."""
        told = [f"{count:6}  {kind}" for kind, count in self.misfortunes.items()]
        told += [f"NOT EXERCISED  {what}" for what in self.not_exercised]
        for breach in self.breaches:
            told.append(f"BREACH  {breach.name}: {breach.count}")
            told += [f"        {example}" for example in breach.examples]
        return [*told, self._sentence()]

    def _sentence(self) -> str:
        fates = self.deliveries
        dead = sum(fates.dead_lettered.values())
        reasons = ", ".join(f"{reason} {count}" for reason, count in fates.dead_lettered.items())
        verdict = "ok" if self.is_clean else f"BROKEN ({', '.join(breach.name for breach in self.breaches)})"
        return (
            f"{verdict}: seed {self.seed}, {sum(self.misfortunes.values())} misfortunes, {self.committed} events; "
            f"of {fates.wanted} deliveries {fates.delivered} delivered, {dead} dead-lettered"
            f"{f' ({reasons})' if reasons else ''}, {fates.expired} expired, {fates.queued} queued, {fates.lost} lost; "
            f"{self.repeats.all} repeated, {self.repeats.needless} of them needlessly; "
            f"{self.different_payloads} different payloads under one id"
        )
