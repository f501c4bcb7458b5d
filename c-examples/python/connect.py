"""Log in to PostgreSQL with an IAM token, through ctypes and psycopg: connect.py HOST PORT USER DBNAME
PGSSLROOTCERT names the RDS certificate bundle, as for every libpq program."""

import ctypes
import sys

import psycopg

pgiam = ctypes.CDLL("libpgiam.so.0")
pgiam.pgiam_generate_token.restype = ctypes.c_int32
pgiam.pgiam_generate_token.argtypes = [
    ctypes.c_char_p, ctypes.c_int32, ctypes.c_char_p, ctypes.c_char_p,
    ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_void_p),
]  # fmt: skip
pgiam.pgiam_string_free.argtypes = [ctypes.c_void_p]
pgiam.pgiam_error_free.argtypes = [ctypes.c_void_p]
pgiam.pgiam_error_message.argtypes = [ctypes.c_void_p]
pgiam.pgiam_error_message.restype = ctypes.c_char_p


def generate_token(host, port, user, region=None):
    """A password for one login, good for 15 minutes. ctypes lets other Python threads run meanwhile."""
    # c_void_p keeps the pointer: c_char_p would turn it into bytes, and there would be nothing to free.
    token, error = ctypes.c_void_p(), ctypes.c_void_p()
    status = pgiam.pgiam_generate_token(
        host.encode(), port, region.encode() if region else None, user.encode(),
        ctypes.byref(token), ctypes.byref(error),
    )  # fmt: skip
    if status != 0:
        message = pgiam.pgiam_error_message(error).decode()
        pgiam.pgiam_error_free(error)
        raise RuntimeError(message)
    try:
        return ctypes.string_at(token).decode()
    finally:
        pgiam.pgiam_string_free(token)


def main():
    host, port, user, dbname = sys.argv[1:]
    token = generate_token(host, int(port), user)
    with psycopg.connect(
        host=host, port=port, user=user, dbname=dbname, sslmode="verify-full", password=token
    ) as connection:
        print("logged in as", connection.execute("select current_user").fetchone()[0])


if __name__ == "__main__":
    try:
        main()
    except (RuntimeError, psycopg.Error) as error:
        sys.exit(str(error))
