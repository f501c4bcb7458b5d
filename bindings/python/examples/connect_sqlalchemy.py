"""Log in with SQLAlchemy and an IAM token: connect_sqlalchemy.py HOST PORT USER DBNAME
PGSSLROOTCERT names the RDS certificate bundle, as for every libpq program."""

import sys

import pgiam
import sqlalchemy


def main() -> None:
    host, port, user, dbname = sys.argv[1:]
    engine = sqlalchemy.create_engine(f"postgresql+psycopg://{user}@{host}:{port}/{dbname}?plugin=pgiam")
    with engine.connect() as connection:
        print("logged in as", connection.scalar(sqlalchemy.text("select current_user")))


if __name__ == "__main__":
    try:
        main()
    except (pgiam.Error, sqlalchemy.exc.SQLAlchemyError) as error:
        sys.exit(str(error))
