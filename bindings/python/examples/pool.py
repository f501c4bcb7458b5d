"""A pool of psycopg whose connections log in with a new IAM token each: pool.py HOST PORT USER DBNAME
PGSSLROOTCERT names the RDS certificate bundle, as for every libpq program."""

import sys

import pgiam.psycopg
import psycopg
import psycopg_pool


def main() -> None:
    host, port, user, dbname = sys.argv[1:]
    with psycopg_pool.ConnectionPool(
        f"host={host} port={port} user={user} dbname={dbname}", connection_class=pgiam.psycopg.Connection, open=True
    ) as pool, pool.connection() as connection:
        row = connection.execute("select current_user").fetchone()
        print("logged in as", row and row[0])


if __name__ == "__main__":
    try:
        main()
    except (pgiam.Error, psycopg.Error) as error:
        sys.exit(str(error))
