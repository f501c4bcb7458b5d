"""psycopg 3 with a new IAM token for every connection, in pools too: token_connection.py HOST PORT USER DBNAME
PGSSLROOTCERT names the RDS certificate bundle, as for every libpq program."""

import sys

import psycopg
from psycopg.conninfo import conninfo_to_dict

from connect import generate_token


class TokenConnection(psycopg.Connection):
    """For psycopg_pool's and Django's connection_class."""

    @classmethod
    def connect(cls, conninfo="", **parameters):
        given = {**conninfo_to_dict(conninfo), **parameters}
        if "sslmode" not in given:
            parameters["sslmode"] = "verify-full"
        parameters["password"] = generate_token(given["host"], int(given.get("port", 5432)), given["user"])
        return super().connect(conninfo, **parameters)


def main():
    host, port, user, dbname = sys.argv[1:]
    with TokenConnection.connect(host=host, port=port, user=user, dbname=dbname) as connection:
        print("logged in as", connection.execute("select current_user").fetchone()[0])


if __name__ == "__main__":
    try:
        main()
    except (RuntimeError, psycopg.Error) as error:
        sys.exit(str(error))
