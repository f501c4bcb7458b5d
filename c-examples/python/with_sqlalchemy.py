"""SQLAlchemy with a new IAM token for every connection that its pool opens: with_sqlalchemy.py HOST PORT USER DBNAME
PGSSLROOTCERT names the RDS certificate bundle, as for every libpq program."""

import sys

import sqlalchemy

from connect import generate_token


def create_engine(url, **options):
    """sqlalchemy.create_engine, with a token for a password. For psycopg 3, psycopg2 and others with these parameters."""
    engine = sqlalchemy.create_engine(url, **options)

    @sqlalchemy.event.listens_for(engine, "do_connect")
    def give_token(dialect, record, arguments, parameters):
        parameters.setdefault("sslmode", "verify-full")
        port = int(parameters.get("port", 5432))
        parameters["password"] = generate_token(parameters["host"], port, parameters["user"])

    return engine


def main():
    host, port, user, dbname = sys.argv[1:]
    url = sqlalchemy.URL.create("postgresql+psycopg", username=user, host=host, port=int(port), database=dbname)
    with create_engine(url).connect() as connection:
        print("logged in as", connection.execute(sqlalchemy.text("select current_user")).scalar())


if __name__ == "__main__":
    try:
        main()
    except (RuntimeError, sqlalchemy.exc.SQLAlchemyError) as error:
        sys.exit(str(error))
