"""Pages for people: one sentence on what happened, one on what to do. No script, nothing loaded, nothing kept."""

import hashlib
import html
from base64 import b64encode
from typing import Final

from starlette.responses import HTMLResponse

_STYLE: Final = (
    "body{font:1.05rem/1.5 system-ui,sans-serif;max-width:34rem;margin:18vh auto 0;padding:0 1.5rem;color:#1c2430;"
    "background:#f7f8fa}main{background:#fff;border:1px solid #dfe3ea;border-left:6px solid #8a94a6;"
    "border-radius:10px;padding:1.6rem 2rem}main.good{border-left-color:#1a7f4b}main.bad{border-left-color:#b3372f}"
    "h1{font-size:1.35rem;margin:0 0 .6rem}p{margin:.4rem 0}code{background:#eef1f5;border-radius:4px;"
    "padding:.1rem .35rem;font-size:.95em;display:inline-block;overflow-wrap:anywhere}"
    "@media(prefers-color-scheme:dark){body{background:#14181f;color:#e6e9ef}main{background:#1c222c;"
    "border-color:#2d3644}code{background:#2a3240}}"
)
_STYLE_HASH: Final = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""The address of such a page holds an authorization code: it is neither kept nor told to anybody."""


def page(status: int, title: str, *, told: str, to_do: str, code: str = "") -> HTMLResponse:
    """Make a page; `code` is set apart, and everything is escaped."""
    manner = "good" if status == 200 else "bad"
    set_apart = f" <code>{html.escape(code)}</code>" if code else ""
    body = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>"
        f'<main class="{manner}"><h1>{html.escape(title)}</h1><p>{html.escape(told)}</p>'
        f"<p>{html.escape(to_do)}{set_apart}</p></main></html>"
    )
    return HTMLResponse(body, status, HEADERS)
