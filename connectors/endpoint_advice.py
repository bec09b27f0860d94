"""What a person can do about a test that a partner did not take."""

from contracts.outcomes import Ambiguous, Gone, Misconfigured, QuotaExhausted, RateLimited, Report, Transient


def advice_on(report: Report) -> str:
    """Say what to do about a report that is no success."""
    match report.outcome:
        case Ambiguous():
            return "The partner took the request and did not answer in time: it has to answer first and to work later."
        case Misconfigured():
            return "Correct the Secret or the connection's spec, and test again."
        case Gone():
            return "The partner wants nothing more here: ask it for the address that counts now, or end the connection."
        case RateLimited() | QuotaExhausted():
            return "The partner asks for less: lower spec.delivery.throttle, or test again later."
        case Transient() if report.status_code is None:
            return "Nothing was sent: compare with the steps before, and test again."
        case _:
            return _on_status(report.status_code)


def _on_status(status: int | None) -> str:
    match status:
        case 401 | 403:
            return "The partner refuses the signature or a header: compare the signing secret at both ends."
        case 404 | 405:
            return "The partner knows no such place: correct the path of the connection's address."
        case int() if 300 <= status < 400:
            return "Redirects are not followed: give the connection the address that it points to."
        case int() if status >= 500:
            return "The partner failed: its own log says why."
        case _:
            return "The partner refuses the request: its answer and its own log say why."
