"""Log in to PostgreSQL with an IAM token and psycopg: connect.py HOST PORT USER DBNAME
PGSSLROOTCERT names the RDS certificate bundle, as for every libpq program."""

import sys

import pgiam
import psycopg


def main() -> None:
    host, port, user, dbname = sys.argv[1:]
    token = pgiam.generate_token(host, int(port), user=user)
    with psycopg.connect(
        host=host, port=port, user=user, dbname=dbname, sslmode="verify-full", password=token
    ) as connection:
        row = connection.execute("select current_user").fetchone()
        print("logged in as", row and row[0])


if __name__ == "__main__":
    try:
        main()
    except (pgiam.Error, psycopg.Error) as error:
        sys.exit(str(error))
