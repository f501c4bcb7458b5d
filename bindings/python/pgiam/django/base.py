"""Django imports this module from the backend's package."""

from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Mapping, Optional, Tuple

from django.db import DEFAULT_DB_ALIAS
from django.db.backends.postgresql import base
from django.db.backends.postgresql.client import DatabaseClient as PostgresClient
from django.db.backends.postgresql.psycopg_any import is_psycopg3

from .._client import Client
from .._errors import Error
from .._login import login, required_sslmode, targets_of

_clients: Dict[Tuple[Tuple[str, Any], ...], Client] = {}


def _client(options: Mapping[str, Any]) -> Optional[Client]:
    """One client for all connections with the same settings."""
    settings = options.get("pgiam")
    if not settings:
        return None
    key = tuple(sorted(settings.items()))
    return _clients.get(key) or _clients.setdefault(key, Client(**settings))


class DatabaseClient(PostgresClient):
    """`manage.py dbshell`: psql gets a token, which is valid for 15 minutes, in its environment."""

    @classmethod
    def settings_to_cmd_args_env(
        cls, settings_dict: Dict[str, Any], parameters: Iterable[str]
    ) -> Tuple[List[str], Optional[Dict[str, str]]]:
        arguments, environment = super().settings_to_cmd_args_env(settings_dict, parameters)
        options = settings_dict["OPTIONS"]
        targets = targets_of(
            {
                "host": settings_dict.get("HOST") or options.get("host"),
                "port": settings_dict.get("PORT") or options.get("port"),
                "user": settings_dict.get("USER") or options.get("user"),
                "password": settings_dict.get("PASSWORD") or options.get("password"),
            }
        )
        if len(targets) == 1:
            token = targets[0].token(_client(options))
            environment = {
                **(environment or {}),
                "PGPASSWORD": token,
                "PGSSLMODE": required_sslmode(options.get("sslmode")),
            }
        return arguments, environment


if TYPE_CHECKING:
    _Wrapper = base.DatabaseWrapper
else:
    _Wrapper = object


class TokenMixin(_Wrapper):
    """A token at each connect, for a DatabaseWrapper of Django's PostgreSQL backend or of one that extends it."""

    client_class = DatabaseClient

    def __init__(self, settings_dict: Dict[str, Any], alias: str = DEFAULT_DB_ALIAS) -> None:
        options = settings_dict.get("OPTIONS") or {}
        pool = options.get("pool")
        if pool and is_psycopg3:
            # The pool keeps the parameters of its first connection, so its connections make their own tokens.
            from ..psycopg import Connection

            connection_class = type("Connection", (Connection,), {"pgiam_client": _client(options)})
            pool = {"connection_class": connection_class, **({} if pool is True else pool)}
            settings_dict = {**settings_dict, "OPTIONS": {**options, "pool": pool}}
        super().__init__(settings_dict, alias)

    def get_connection_params(self) -> Dict[str, Any]:
        parameters: Dict[str, Any] = super().get_connection_params()
        parameters.pop("pgiam", None)
        return parameters

    def get_new_connection(self, conn_params: Dict[str, Any]) -> Any:
        if getattr(self, "pool", None):
            return super().get_new_connection(conn_params)
        try:
            with login(conn_params, _client(self.settings_dict["OPTIONS"])) as completed:
                return super().get_new_connection(completed)
        except Error as error:
            # Django makes its own OperationalError of it, which is what programs that wait for a database expect.
            raise self.Database.OperationalError(str(error)) from error


class DatabaseWrapper(TokenMixin, base.DatabaseWrapper):
    """Django's own, with a token at each connect."""
