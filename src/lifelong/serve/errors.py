"""What goes wrong, in the shape that OpenAI's clients read."""

from __future__ import annotations

from starlette.responses import JSONResponse

from lifelong.errors import LifelongError
from lifelong.serve.worker import Busy


class RequestError(Exception):
    """A request that cannot be answered.

    Args:
        status: of HTTP.
        message: what happened, and what to do.
        code: a word for programs.
        param: the part of the request that is to blame.
    """

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param

    @property
    def body(self) -> dict[str, dict[str, str | None]]:
        """The answer's JSON."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @property
    def response(self) -> JSONResponse:
        """The answer."""
        headers = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "1"}}.get(self.status)
        return JSONResponse(self.body, self.status, headers)


def as_request_error(error: Exception) -> RequestError:
    """Return what a client is told of an error; of one that nobody foresaw only that there was one."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, Busy):
        return RequestError(429, _in_one_line(error), code="overloaded")
    if isinstance(error, LifelongError):
        return RequestError(400, _in_one_line(error))
    return RequestError(500, "an error in the server; its log says more", code="internal_error")


def _in_one_line(error: LifelongError) -> str:
    return " ".join(str(error).split("\n  "))
