"""Errors of the operator.

OperatorError
├── KubernetesError            the API server refused a request
│   ├── NotFoundError          404: the object, or its namespace, is not there
│   ├── ConflictError          409: somebody else wrote first, or it exists already
│   ├── ForbiddenError         401, 403: the ServiceAccount lacks a right, or the namespace is being deleted
│   ├── InvalidError           400, 422: the object cannot be stored as it is
│   └── OverloadedError        429, 5xx: try again, after `retry_after_seconds` if given
└── ApiServerUnreachableError  no answer came

Messages hold what the API server said about names and fields; it never repeats the contents of Secrets.
"""


class OperatorError(Exception):
    """Anything that the operator reports on purpose; its message says what to do."""


class KubernetesError(OperatorError):
    """The API server refused a request."""


class NotFoundError(KubernetesError):
    """The object, or its namespace, is not there."""


class ConflictError(KubernetesError):
    """Somebody else wrote first, or the object exists already."""


class ForbiddenError(KubernetesError):
    """The ServiceAccount lacks a right, or the namespace is being deleted."""


class InvalidError(KubernetesError):
    """The object cannot be stored as it is."""


class OverloadedError(KubernetesError):
    """The API server cannot answer now."""

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


def asked_delay(error: Exception) -> float | None:
    """Return for how many seconds the API server asked not to be asked again."""
    return error.retry_after_seconds if isinstance(error, OverloadedError) else None


class ApiServerUnreachableError(OperatorError):
    """No answer came from the API server."""
