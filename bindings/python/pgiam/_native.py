"""The C functions of libpgiam, through ctypes. The rest of the package calls `Handle` and never sees a pointer.

ctypes releases the global interpreter lock for the length of each call. The comments in pgiam.h hold for every
function here: any thread, at any time, also in a child after fork.
"""

import ctypes
import os
from ctypes import POINTER, byref, c_char_p, c_int32, c_int64, c_void_p
from typing import Any, List, Mapping, NoReturn, Optional, Tuple

from . import _errors


def _load() -> ctypes.CDLL:
    packaged = os.path.join(os.path.dirname(os.path.abspath(__file__)), "libpgiam.so")
    # A distribution that installs the library by itself leaves it out of this package.
    return ctypes.CDLL(packaged if os.path.exists(packaged) else "libpgiam.so.0")


def _declare(name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(_library, name)
    function.restype = result
    function.argtypes = arguments
    return function


_library = _load()
_token_arguments = (c_void_p, c_char_p, c_int32, c_char_p, c_char_p, POINTER(c_void_p), POINTER(c_int64), POINTER(c_void_p))
_client_new = _declare(
    "pgiam_client_new", c_int32, POINTER(c_char_p), POINTER(c_char_p), POINTER(c_void_p), POINTER(c_void_p)
)
_client_generate_token = _declare("pgiam_client_generate_token", c_int32, *_token_arguments)
_client_try_generate_token = _declare("pgiam_client_try_generate_token", c_int32, *_token_arguments)
_client_refresh = _declare("pgiam_client_refresh", c_int32, c_void_p, POINTER(c_void_p))
_client_free = _declare("pgiam_client_free", None, c_void_p)
_string_free = _declare("pgiam_string_free", None, c_void_p)
_error_message = _declare("pgiam_error_message", c_char_p, c_void_p)
_error_free = _declare("pgiam_error_free", None, c_void_p)
_version = _declare("pgiam_version", c_char_p)

_WOULD_BLOCK = 8


def version() -> str:
    text: bytes = _version()
    return text.decode()


class Handle:
    """Owns a pgiam_client. The C client is freed when nothing refers to the handle any more; a call in progress does."""

    def __init__(self, settings: Mapping[str, Optional[str]]) -> None:
        self._pointer = c_void_p()
        keywords = _array(list(settings))
        values = _array([_text(name, value) for name, value in settings.items()])
        error = c_void_p()
        _check(_client_new(keywords, values, byref(self._pointer), byref(error)), error)

    def __del__(self, free: Any = _client_free) -> None:
        free(self._pointer)

    def generate_token(self, host: str, port: int, user: str, region: Optional[str]) -> Tuple[str, int]:
        """The token and the Unix time in seconds at which it expires. May wait for credentials."""
        token = self._token(_client_generate_token, host, port, user, region)
        assert token is not None, "only the function that never waits reports WOULD_BLOCK"
        return token

    def try_generate_token(self, host: str, port: int, user: str, region: Optional[str]) -> Optional[Tuple[str, int]]:
        """Like `generate_token`, but None where that would have to wait."""
        return self._token(_client_try_generate_token, host, port, user, region)

    def refresh(self) -> None:
        error = c_void_p()
        _check(_client_refresh(self._pointer, byref(error)), error)

    def _token(
        self, function: Any, host: str, port: int, user: str, region: Optional[str]
    ) -> Optional[Tuple[str, int]]:
        token, expires_at, error = c_void_p(), c_int64(), c_void_p()
        status = function(
            self._pointer,
            _required("host", host),
            _port(port),
            _text("region", region),
            _required("user", user),
            byref(token),
            byref(expires_at),
            byref(error),
        )
        if status == _WOULD_BLOCK:
            _error_free(error)
            return None
        _check(status, error)
        try:
            return ctypes.string_at(token.value or 0).decode(), expires_at.value
        finally:
            _string_free(token)


def _array(texts: List[Any]) -> Any:
    encoded = [text.encode() if isinstance(text, str) else text for text in texts]
    return (c_char_p * (len(encoded) + 1))(*encoded, None)


def _required(name: str, value: str) -> Optional[bytes]:
    if value is None:
        raise TypeError(f"{name} must be a str, not None")
    return _text(name, value)


def _text(name: str, value: Optional[str]) -> Optional[bytes]:
    """C text. ctypes would cut it at the first NUL character."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    if "\0" in value:
        raise _errors.InvalidArgument(f"{name} contains a NUL character")
    # A surrogate is not valid UTF-8; the library reports it.
    return value.encode("utf-8", "surrogatepass")


def _port(port: int) -> int:
    """ctypes would cut a number to 32 bits: 4294972728 would become 5432."""
    if isinstance(port, bool) or not isinstance(port, int):
        raise TypeError(f"port must be an int, not {type(port).__name__}")
    if not -(2**31) <= port < 2**31:
        raise _errors.InvalidArgument(f"port {port} is not between 1 and 65535")
    return port


def _check(status: int, error: c_void_p) -> None:
    if status != 0:
        _raise(status, error)


def _raise(status: int, error: c_void_p) -> NoReturn:
    try:
        message: bytes = _error_message(error)
        text = message.decode("utf-8", "replace")
    finally:
        _error_free(error)
    raise _errors.of_status(status, text)
