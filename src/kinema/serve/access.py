"""Who may use the service."""

import hmac
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from kinema.serve.limits import RefusedError

# Open to everyone: the page holds no secrets, and whether a server lives is no secret either.
_GUARDED = ("/v1/", "/metrics")


class Access(BaseModel):
    """Keys, other sites, and files of the server itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    api_key: SecretStr | None = Field(default=None, description="Needed for everything under /v1.")
    origins: tuple[str, ...] = Field(
        default=(), description="Other web sites whose pages may call."
    )
    folder: Path | None = Field(
        default=None, description="Requests may name videos below this folder."
    )

    def check_key(self, given: str | None) -> None:
        """Raises a 401 unless no key is needed or this is it."""
        if self.api_key is None:
            return
        wanted = self.api_key.get_secret_value().encode()
        if given is None or not hmac.compare_digest(given.encode(), wanted):
            raise RefusedError(
                401,
                "api_key",
                "This server needs its API key, as X-API-Key: KEY or Authorization: Bearer KEY; "
                + ("none came." if given is None else "another one came."),
                headers={"WWW-Authenticate": "Bearer"},
            )

    def check_headers(self, path: str, headers: Mapping[str, str]) -> None:
        """Raises a 401 where a guarded path is asked for without the key."""
        if path.startswith(_GUARDED):
            self.check_key(key_of(headers))

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """Raises a 403 for a page of another site that is not allowed.

        Browsers send such requests although they keep the answer from the page; for WebSockets
        they do not even do that.
        """
        origin = headers.get("origin")
        if origin is None or origin in self.origins:
            return
        if origin.partition("://")[2] != headers.get("host"):
            raise RefusedError(
                403,
                "origin",
                f"Pages of {origin} may not use this server; --cors-origin allows a site.",
            )


def key_of(headers: Mapping[str, str]) -> str | None:
    """The key of a request."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return token.strip()
    return headers.get("x-api-key")
