"""The gateway: an OpenAI-compatible API over pipelines of stages.

ApiError                an answer in OpenAI's error shape, with its HTTP status
├── BadRequest          400; names the parameter
├── WrongKey            401
├── NoCredit            402; not retried by clients
├── NoSuchModel         404
├── Conflict            409; says whether to try again
├── ClientGone          499; nobody reads it
├── TooManyRequests     429 with Retry-After and the rate limit's headers
├── NotVerified         502; checks were asked for, and a stage did not pass one
└── NoRoute             503 with Retry-After
"""

from collections.abc import Mapping
from typing import ClassVar


class ApiError(Exception):
    """``param`` names the request's field, ``code`` is stable for programs."""

    status = 500
    kind = "server_error"
    headers: ClassVar[dict[str, str]] = {}

    def __init__(self, message: str, param: str | None = None, code: str | None = None, headers: Mapping[str, str] | None = None) -> None:
        self.message = message
        self.param = param
        self.code = code
        self.extra_headers = {**self.headers, **(headers or {})}
        super().__init__(message)

    def body(self) -> dict[str, object]:
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


class BadRequest(ApiError):
    status = 400
    kind = "invalid_request_error"


class WrongKey(ApiError):
    status = 401
    kind = "authentication_error"


class NoCredit(ApiError):
    status = 402
    kind = "insufficient_quota"


class NoSuchModel(ApiError):
    status = 404
    kind = "invalid_request_error"


class Conflict(ApiError):
    status = 409
    kind = "conflict_error"


class ClientGone(ApiError):
    status = 499


class TooManyRequests(ApiError):
    status = 429
    kind = "rate_limit_error"


class NotVerified(ApiError):
    status = 502
    kind = "verification_error"


class NoRoute(ApiError):
    status = 503
    kind = "service_unavailable"
    headers: ClassVar[dict[str, str]] = {"retry-after": "2"}

    @classmethod
    def unavailable(cls, error: Exception) -> "NoRoute":
        """A database, a node or a signer is away."""
        return cls(f"a part of the gateway does not answer: {error}", code="unavailable")
