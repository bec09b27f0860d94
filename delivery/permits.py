"""What a lane has drawn of a scope that it shares with others, or of its day: each permit lets one request start.

No I/O. A lane draws what its own limits would let start at once, and gives back what it finds no use for. It tells
absolute numbers with each draw (see `store.scopes`), so a draw whose answer was lost loses the permits in it and
nothing else. A permit is good until the day ends that it was counted in.
"""

import math

from contracts.ids import ConnectionId, ScopeId
from store.scopes import Draw, Drawn

TELL_SECONDS = 0.05
"""How long the end of a request waits to be told with others, where nobody waits for its place."""

LAST_SECONDS = 90.0
"""Before the end of a day nothing is given back. No statement takes so long, so none reaches into the next day."""

LONGEST_WAIT_SECONDS = 60.0
"""When to ask again at the latest: others may have given back what was all drawn."""

NO_ANSWER_SECONDS = 1.0
"""When to ask again that was answered nothing: the lane has another scope by then, or another owner."""


class Permits:
    """The permits of one lane."""

    __slots__ = (
        "_rest_told",
        "_rests_until",
        "_told",
        "_untold_since",
        "_used_at",
        "alarm",
        "ask_at",
        "crowded",
        "drawing",
        "in_hand",
        "scope",
        "until",
    )

    def __init__(self, scope: ScopeId) -> None:
        self.scope = scope
        self.in_hand = 0
        self.until = math.inf
        self.ask_at = 0.0
        self.crowded = False
        self.drawing = False
        self.alarm = 0.0
        self._told: float = 0
        self._used_at: float | None = None
        self._untold_since: float | None = None
        self._rests_until = 0.0
        self._rest_told = 0.0

    def usable(self, now: float) -> bool:
        """Whether a request may start."""
        return self.in_hand > 0 and now < self.until

    def use(self, now: float) -> None:
        """Start a request; call only when `usable`."""
        self.in_hand -= 1
        self._used_at = now

    def not_used(self) -> None:
        """Take back the permit of a request that was not sent."""
        self.in_hand += 1

    def rest(self, until: float) -> None:
        """Note that the partner asked for silence: what it counts as one rests as one."""
        self._rests_until = max(self._rests_until, until)

    @property
    def all_told(self) -> bool:
        """Whether the database knows that a lane without requests under way holds nothing of its scope."""
        return not (self.drawing or self.in_hand or self._told) and self._used_at is None

    def next_draw(self, startable: int, under_way: int, now: float) -> float | None:
        """Return when to draw or tell, with so many requests startable and under way; None if nothing is to be said."""
        if now >= self.until:
            self.in_hand = 0
        if self.drawing:
            return None
        if startable < self.in_hand or self._rests_until > max(self._rest_told, now):
            return now
        at = self._tell_at(under_way, now)
        if startable > self.in_hand:
            at = min(at, self.ask_at)
        return None if at == math.inf else at

    def _tell_at(self, under_way: int, now: float) -> float:
        if self._used_at is None and under_way + self.in_hand >= self._told:
            return math.inf
        if self._untold_since is None:
            self._untold_since = now
        return now if self.crowded else self._untold_since + TELL_SECONDS

    def draw(self, lane: ConnectionId, weight: int, startable: int, under_way: int, now: float) -> Draw:
        """Say what there is and what is wanted; nothing else is said until `drawn` or `not_drawn`."""
        unused = max(self.in_hand - startable, 0)
        self.in_hand -= unused
        if now > self.until - LAST_SECONDS:
            unused = 0
        self.drawing = True
        used_ago = None if self._used_at is None else now - self._used_at
        self._told = under_way + self.in_hand
        self._used_at = self._untold_since = None
        rests = self._rests_until - now if self._rests_until > max(self._rest_told, now) else None
        self._rest_told = self._rests_until
        return Draw(lane, weight, under_way, self.in_hand, used_ago, unused, rests, startable - self.in_hand)

    def drawn(self, got: Drawn | None, asked_at: float, now: float) -> None:
        """Take what was drawn; `asked_at` is from before the question was sent."""
        self.drawing = False
        if got is None:
            self.ask_at = now + NO_ANSWER_SECONDS
            return
        if now >= self.until:
            self.in_hand = 0
        self.in_hand += got.granted
        self._told += got.granted
        self.ask_at = now + min(got.wait_seconds, LONGEST_WAIT_SECONDS)
        self.crowded = got.crowded
        self.until = math.inf if got.day_ends_in_seconds is None else asked_at + got.day_ends_in_seconds

    def not_drawn(self, now: float) -> None:
        """Note that no answer came: what was drawn, if anything, is lost, and all is told again."""
        self.drawing = False
        self._untold_since = now
        self._told = math.inf
        self._rest_told = 0.0
