"""Completes the parameters of a libpq connection: tokens for its hosts, and TLS.

A connection that has a password of its own keeps it, in its parameters or in PGPASSWORD; the password "rds-iam" is
replaced by a token. sslmode becomes verify-full where none is given, and modes that could send a token in clear are refused.
"""

import os
from contextlib import asynccontextmanager, contextmanager
from typing import Any, AsyncIterator, Dict, Iterator, List, Mapping, NamedTuple, Optional

from ._client import Client, Token
from ._errors import InvalidArgument


class Target(NamedTuple):
    """What a token is for."""

    host: str
    port: int
    user: str

    def token(self, client: Optional[Client]) -> Token:
        from . import generate_token

        generate = client.generate_token if client else generate_token
        return generate(self.host, self.port, user=self.user)

    async def async_token(self, client: Optional[Client]) -> Token:
        from . import async_generate_token

        generate = client.async_generate_token if client else async_generate_token
        return await generate(self.host, self.port, user=self.user)


@contextmanager
def login(parameters: Mapping[str, Any], client: Optional[Client]) -> Iterator[Dict[str, Any]]:
    """The parameters with what a token's login needs. They are valid inside the `with` block."""
    targets = targets_of(parameters)
    with complete(parameters, targets, [target.token(client) for target in targets]) as completed:
        yield completed


@asynccontextmanager
async def async_login(parameters: Mapping[str, Any], client: Optional[Client]) -> AsyncIterator[Dict[str, Any]]:
    """Like `login`, but does not block the event loop."""
    targets = targets_of(parameters)
    with complete(parameters, targets, [await target.async_token(client) for target in targets]) as completed:
        yield completed


def needs_token(password: Optional[str]) -> bool:
    """Whether a connection with this password, or None, is to get a token."""
    password = password or os.environ.get("PGPASSWORD")
    return not password or password == "rds-iam" or isinstance(password, Token)


def targets_of(parameters: Mapping[str, Any]) -> List[Target]:
    """One target for each host of the connection; none if the connection has a password."""
    if not needs_token(parameters.get("password")):
        return []
    hosts = _required("host", parameters).split(",")
    ports = str(parameters.get("port") or os.environ.get("PGPORT") or 5432).split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    if len(ports) != len(hosts):
        raise InvalidArgument(f"{len(hosts)} hosts and {len(ports)} ports: give one port, or one for each host")
    user = _required("user", parameters)
    return [Target(host, _port(port or "5432"), user) for host, port in zip(hosts, ports)]


def required_sslmode(sslmode: Optional[str]) -> str:
    """The sslmode to connect with."""
    sslmode = sslmode or os.environ.get("PGSSLMODE") or "verify-full"
    if sslmode in ("disable", "allow", "prefer"):
        raise InvalidArgument(
            f"sslmode={sslmode} could send the token in clear, and a token is a password; use sslmode=verify-full with "
            "sslrootcert=FILE, or at least sslmode=require"
        )
    return sslmode


def _required(name: str, parameters: Mapping[str, Any]) -> str:
    variable = "PG" + name.upper()
    value = parameters.get(name) or os.environ.get(variable)
    if not value:
        raise InvalidArgument(f"the connection has no {name}, and a token is made for one: pass {name} or set {variable}")
    return str(value)


def _port(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidArgument(f"port {text!r} is not a number") from None


@contextmanager
def complete(parameters: Mapping[str, Any], targets: List[Target], tokens: List[Token]) -> Iterator[Dict[str, Any]]:
    """The parameters with a token for each target. They are valid inside the `with` block."""
    result = dict(parameters)
    if not targets:
        yield result
        return
    result["sslmode"] = required_sslmode(result.get("sslmode"))
    if len(targets) == 1:
        result["password"] = tokens[0]
        yield result
        return
    # libpq takes one password for all hosts. A password file has one for each.
    if os.environ.get("PGPASSWORD"):
        raise InvalidArgument("several hosts need a token each, and PGPASSWORD is one password for all of them: unset it")
    result.pop("password", None)
    descriptor = os.memfd_create("pgiam", os.MFD_CLOEXEC)
    try:
        os.fchmod(descriptor, 0o600)
        os.write(descriptor, b"".join(map(_password_line, targets, tokens)))
        result["passfile"] = f"/proc/self/fd/{descriptor}"
        yield result
    finally:
        os.close(descriptor)


def _password_line(target: Target, token: Token) -> bytes:
    fields = [target.host, str(target.port), "*", target.user, token]
    escaped = (field.replace("\\", "\\\\").replace(":", "\\:") for field in fields)
    return (":".join(escaped) + "\n").encode()
