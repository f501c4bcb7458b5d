"""SQLAlchemy: a new token for each connection that an engine opens, synchronous or asynchronous.

    create_engine("postgresql+psycopg://app_user@HOST/app?plugin=pgiam")
    create_engine("postgresql+psycopg://app_user@HOST/app", plugins=["pgiam"], pgiam_client=client)
    pgiam.sqlalchemy.add_tokens(engine)

The URL's parameters pgiam_profile, pgiam_region, pgiam_service, pgiam_role_arn, pgiam_external_id and
pgiam_role_session_name are settings of `pgiam.Client`. Drivers: psycopg, psycopg2, asyncpg, pg8000.
"""

from typing import Any, Dict, List, Optional

from sqlalchemy import event
from sqlalchemy.engine import URL, CreateEnginePlugin, Engine
from sqlalchemy.util import await_only

from ._client import Client, Token
from ._errors import Error, InvalidArgument
from ._login import complete, required_sslmode, targets_of

_SETTINGS = ("profile", "region", "service", "role_arn", "external_id", "role_session_name")


class Plugin(CreateEnginePlugin):
    """The plugin "pgiam" of create_engine and create_async_engine."""

    def __init__(self, url: URL, kwargs: Dict[str, Any]) -> None:
        settings: Dict[str, Any] = {name: str(url.query["pgiam_" + name]) for name in _SETTINGS if "pgiam_" + name in url.query}
        self.client: Optional[Client] = kwargs.pop("pgiam_client", None)
        if settings:
            self.client = Client(**settings)

    def update_url(self, url: URL) -> URL:
        return url.difference_update_query(["pgiam_" + name for name in _SETTINGS])

    def engine_created(self, engine: Engine) -> None:
        add_tokens(engine, self.client)


def add_tokens(engine: Any, client: Optional[Client] = None) -> None:
    """Makes an engine, synchronous or asynchronous, use tokens for the connections that it opens from now on."""

    def listener(dialect: Any, record: Any, arguments: List[Any], parameters: Dict[str, Any]) -> Any:
        return do_connect(dialect, record, arguments, parameters, client)

    event.listen(getattr(engine, "sync_engine", engine), "do_connect", listener)


def do_connect(
    dialect: Any, record: Any, arguments: List[Any], parameters: Dict[str, Any], client: Optional[Client] = None
) -> Any:
    """The event function: `event.listen(engine, "do_connect", pgiam.sqlalchemy.do_connect)`."""
    if dialect.name != "postgresql" or dialect.driver not in ("psycopg", "psycopg2", "asyncpg", "pg8000"):
        raise InvalidArgument(f"pgiam supports no {dialect.name}+{dialect.driver}: use psycopg, psycopg2, asyncpg or pg8000")
    try:
        return _connect(dialect, arguments, parameters, client)
    except Error as error:
        # SQLAlchemy makes its own OperationalError of it, which is what programs that try again expect.
        raise dialect.dbapi.OperationalError(str(error)) from error


def _connect(dialect: Any, arguments: List[Any], parameters: Dict[str, Any], client: Optional[Client]) -> Any:
    """Completes the parameters, or makes the connection where they are valid only for a moment."""
    if dialect.driver == "asyncpg":
        from .asyncpg import completed

        parameters.update(completed(parameters, client))
        if callable(parameters.get("password")):
            parameters["password"] = await_only(parameters["password"]())
        return None
    targets = targets_of(parameters)
    tokens: List[Token] = [
        await_only(target.async_token(client)) if dialect.is_async else target.token(client) for target in targets
    ]
    if dialect.driver == "pg8000":
        return _pg8000(parameters, tokens)
    with complete(parameters, targets, tokens) as result:
        if "passfile" in result and len(targets) > 1:
            return dialect.connect(*arguments, **result)
        parameters.update(result)
    return None


def _pg8000(parameters: Dict[str, Any], tokens: List[Token]) -> None:
    if len(tokens) > 1:
        raise InvalidArgument("pg8000 takes one host")
    if tokens:
        parameters["password"] = tokens[0]
        if not parameters.setdefault("ssl_context", True):
            required_sslmode("disable")
