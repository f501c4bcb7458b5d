"""AWS IAM tokens as PostgreSQL passwords, for Amazon RDS, Aurora and Aurora DSQL.

    token = pgiam.generate_token("mypg.c9akciq32rpa.eu-central-1.rds.amazonaws.com", user="app_user")

A token is a password: send it over TLS only. The server checks it at login, so a connection that is open stays open
when its token expires; make a new token for every new connection. `pgiam.psycopg`, `pgiam.psycopg2`, `pgiam.asyncpg`,
`pgiam.sqlalchemy` and `pgiam.django` do that.
"""

from ._client import (
    Client,
    Token,
    async_generate_token,
    default_client,
    generate_token,
    refresh,
    try_generate_token,
)
from ._errors import (
    CredentialsExpired,
    Error,
    InternalError,
    InvalidArgument,
    InvalidConfiguration,
    NoCredentials,
    NoRegion,
    ProviderError,
    Timeout,
)
from ._native import version as _version

__version__ = _version()

__all__ = [
    "Client",
    "CredentialsExpired",
    "Error",
    "InternalError",
    "InvalidArgument",
    "InvalidConfiguration",
    "NoCredentials",
    "NoRegion",
    "ProviderError",
    "Timeout",
    "Token",
    "async_generate_token",
    "default_client",
    "generate_token",
    "refresh",
    "try_generate_token",
]
