"""What can be wrong with a document that somebody wrote.

    ValueError
    └── ContractError
        ├── MalformedDurationError   text that is not a duration
        ├── InvalidSpecError         the spec of a resource, with every problem found in it
        └── InvalidEventError        an event, with every problem found in it

All are ValueErrors, so that pydantic reports those raised inside a validator at the place of the value.
"""

from contracts.problems import Problem


class ContractError(ValueError):
    """A value that breaks an agreement between the parts."""


class MalformedDurationError(ContractError):
    """Text that is not a duration."""


class InvalidSpecError(ContractError):
    """A spec that cannot be accepted; `problems` names each place."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = problems


class InvalidEventError(ContractError):
    """An event that cannot be accepted; `problems` names each place."""

    def __init__(self, event_type: str, problems: tuple[Problem, ...], advice: str) -> None:
        listed = "; ".join(str(problem) for problem in problems)
        super().__init__(f"event of type {event_type!r} is refused: {listed}. {advice}")
        self.event_type = event_type
        self.problems = problems
