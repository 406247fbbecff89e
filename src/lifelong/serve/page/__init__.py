"""The page: one file, put together from its parts, that loads nothing else."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources

from starlette.responses import Response


@cache
def page() -> tuple[bytes, str]:
    """Return the page, and the Content-Security-Policy under which only its own script and style run."""
    parts = resources.files("lifelong.serve.page")
    style = parts.joinpath("page.css").read_text(encoding="utf-8")
    script = "".join(
        parts.joinpath(name).read_text(encoding="utf-8") for name in ("drawing.js", "board.js", "chat.js", "start.js")
    )
    html = parts.joinpath("page.html").read_text(encoding="utf-8")
    html = html.replace("/*STYLE*/", style).replace("/*SCRIPT*/", script)
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return html.encode("utf-8"), policy


def page_response() -> Response:
    """Return the page as an answer."""
    body, policy = page()
    return Response(body, media_type="text/html; charset=utf-8", headers={"Content-Security-Policy": policy})


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"
