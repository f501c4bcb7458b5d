"""`Client`, `Token` and the functions that use a client of the whole process."""

import asyncio
from contextlib import contextmanager
from datetime import datetime, timezone
from types import TracebackType
from typing import Dict, Iterator, Optional, Tuple, Type

from . import _errors, _native


class Token(str):
    """A password for PostgreSQL. `expires_at` is when the server stops accepting it for new logins (aware, UTC).

    `repr` hides the text, so that a token does not end up in a log or a traceback by accident.
    """

    expires_at: datetime

    def __new__(cls, text: str, expires_at: datetime) -> "Token":
        token = super().__new__(cls, text)
        token.expires_at = expires_at
        return token

    def __repr__(self) -> str:
        return f"<pgiam.Token expires_at={self.expires_at.isoformat()}>"

    def __getnewargs__(self) -> Tuple[str, datetime]:  # type: ignore[override]  # for copy and pickle
        return str(self), self.expires_at


class Client:
    """Settings and cached AWS credentials. Threads may share one; so may a child after fork.

    profile            a profile of the AWS config and credentials files; keys in the environment are then ignored
    region             the region for endpoint names that contain none
    service            "auto" (default), "rds" or "dsql"
    timeout            seconds that one call may wait, 0.001 to 3600 (default 10)
    role_arn           a role to assume with the credentials found
    external_id        the external id that the role's trust policy asks for
    role_session_name  the name of that session in AWS's logs

    Reads the environment and the AWS profile files when it is made and at `refresh`. Fetches nothing yet.
    """

    def __init__(
        self,
        *,
        profile: Optional[str] = None,
        region: Optional[str] = None,
        service: Optional[str] = None,
        timeout: Optional[float] = None,
        role_arn: Optional[str] = None,
        external_id: Optional[str] = None,
        role_session_name: Optional[str] = None,
    ) -> None:
        self._handle: Optional[_native.Handle] = _native.Handle(
            {
                "profile": profile,
                "region": region,
                "service": service,
                "timeout_ms": None if timeout is None else str(round(timeout * 1000)),
                "role_arn": role_arn,
                "external_id": external_id,
                "role_session_name": role_session_name,
            }
        )

    def generate_token(self, host: str, port: int = 5432, *, user: str, region: Optional[str] = None) -> Token:
        """A token for one login. Waits only while no credentials are cached, at most `timeout` seconds."""
        return _token(self._open().generate_token(host, port, user, region))

    def try_generate_token(
        self, host: str, port: int = 5432, *, user: str, region: Optional[str] = None
    ) -> Optional[Token]:
        """Like `generate_token`, but never waits: None means that a fetch of credentials has been started.

        Call again after 20 milliseconds or more. A fetch that failed is raised once, by the next call.
        """
        made = self._open().try_generate_token(host, port, user, region)
        return None if made is None else _token(made)

    async def async_generate_token(
        self, host: str, port: int = 5432, *, user: str, region: Optional[str] = None
    ) -> Token:
        """Like `generate_token`, for asyncio: the event loop keeps running while a thread waits for credentials."""
        token = self.try_generate_token(host, port, user=user, region=region)
        if token is None:
            token = await asyncio.to_thread(self.generate_token, host, port, user=user, region=region)
        return token

    def refresh(self) -> None:
        """Reads the environment and the profile files again and fetches credentials now.

        Waits at most `timeout` seconds. If it fails, the cached credentials stay in use.
        """
        self._open().refresh()

    def close(self) -> None:
        """Wipes the credentials. Calls that are still running in other threads finish first."""
        self._handle = None

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    def _open(self) -> _native.Handle:
        handle = self._handle
        if handle is None:
            raise ValueError("the pgiam client is closed")
        return handle


def _token(made: Tuple[str, int]) -> Token:
    text, expires_at = made
    return Token(text, datetime.fromtimestamp(expires_at, timezone.utc))


_process_wide: Dict[str, Client] = {}


def default_client() -> Client:
    """The client of the module's functions, made at the first use. A failure to make it is tried again."""
    client = _process_wide.get("client")
    # No lock, which a child could inherit locked. Of two clients made at once one is dropped.
    return client or _process_wide.setdefault("client", Client())


@contextmanager
def _settings_errors_are_not_kept() -> Iterator[None]:
    """After an error in the settings the next call reads them again."""
    try:
        yield
    except _errors.InvalidConfiguration:
        _process_wide.pop("client", None)
        raise


def generate_token(host: str, port: int = 5432, *, user: str, region: Optional[str] = None) -> Token:
    """A token for one login: the password for `user` at `host` and `port`, valid for at most 15 minutes.

    host    the endpoint's own name, as the RDS console shows it
    user    the database user, a member of rds_iam
    region  None: taken from the endpoint's name, else AWS_REGION, AWS_DEFAULT_REGION, the profile or the EC2 metadata

    The first call may wait up to 10 seconds for AWS credentials; later ones take microseconds.
    """
    with _settings_errors_are_not_kept():
        return default_client().generate_token(host, port, user=user, region=region)


def try_generate_token(host: str, port: int = 5432, *, user: str, region: Optional[str] = None) -> Optional[Token]:
    """Like `generate_token`, but never waits: see `Client.try_generate_token`."""
    with _settings_errors_are_not_kept():
        return default_client().try_generate_token(host, port, user=user, region=region)


async def async_generate_token(host: str, port: int = 5432, *, user: str, region: Optional[str] = None) -> Token:
    """Like `generate_token`, for asyncio: see `Client.async_generate_token`."""
    client = _process_wide.get("client")
    if client is None:
        client = await asyncio.to_thread(default_client)
    with _settings_errors_are_not_kept():
        return await client.async_generate_token(host, port, user=user, region=region)


def refresh() -> None:
    """Reads the environment and the profile files again: see `Client.refresh`."""
    default_client().refresh()
