"""How partners misbehave: every fault that the simulator has, under the name by which the account tells of it."""

from collections.abc import Mapping, Sequence

Fault = Mapping[str, object]

GONE: Fault = {"kind": "status", "status": 410}

FAULTS: Mapping[str, Sequence[Fault]] = {
    "partner-unavailable": ({"kind": "status", "status": 503, "times": 30},),
    "partner-slow": ({"kind": "delay", "seconds": 3, "times": 3},),
    "partner-resets": ({"kind": "reset-in-body", "times": 5}, {"kind": "reset", "times": 5}),
    "partner-limits": (
        {"kind": "status", "status": 429, "retry_after_seconds": 1, "times": 2},
        {"kind": "status", "status": 503, "retry_after_seconds": 1, "retry_after_as_date": True},
    ),
    "partner-hangs": ({"kind": "hang", "times": 3}, {"kind": "status", "status": 500, "times": 5}),
    "partner-drips": ({"kind": "drip", "times": 3},),
    "partner-floods": ({"kind": "huge", "times": 2}, {"kind": "endless", "times": 2}),
    "partner-redirects": ({"kind": "redirect", "times": 5},),
    "partner-distrusts": ({"kind": "refuse-signature", "times": 5}, {"kind": "status", "status": 404, "times": 5}),
    "partner-refuses": ({"kind": "status", "status": 413, "times": 5},),
}
"""Only the last costs events: what a receiver says it can never accept is dead-lettered."""
