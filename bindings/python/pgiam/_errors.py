"""One exception for each status of pgiam.h."""

from typing import Dict, Type


class Error(Exception):
    """A call failed. `str(error)` is one line that says what went wrong and what to do; it never contains a secret.

    `status` is the number of pgiam.h, 0 for an error of the Python package.
    """

    status: int = 0


class InvalidArgument(Error, ValueError):
    """No token can be made for this host, port, region or user. The same arguments will fail again."""

    status = 1


class InvalidConfiguration(Error):
    """A setting, an environment variable or a profile file is wrong; the message names it."""

    status = 2


class NoCredentials(Error):
    """No source of AWS credentials is configured; the message lists the sources."""

    status = 3


class NoRegion(Error):
    """The endpoint's name contains no region and none is configured."""

    status = 4


class ProviderError(Error):
    """A configured source of credentials refused or failed; the message names it."""

    status = 5


class Timeout(Error, TimeoutError):
    """The time limit passed first. Trying again may help."""

    status = 6


class CredentialsExpired(Error):
    """The only credentials found have expired."""

    status = 7


class InternalError(Error):
    """A bug in pgiam, or the operating system failed."""

    status = 9


_CLASSES: Dict[int, Type[Error]] = {
    kind.status: kind
    for kind in (
        InvalidArgument,
        InvalidConfiguration,
        NoCredentials,
        NoRegion,
        ProviderError,
        Timeout,
        CredentialsExpired,
        InternalError,
    )
}


def of_status(status: int, message: str) -> Error:
    """A status that this version of the package does not know becomes the base class."""
    error = _CLASSES.get(status, Error)(message)
    error.status = status
    return error
