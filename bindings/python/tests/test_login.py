"""Which connections get a token, and with which sslmode."""

import os

import pgiam
import pytest
from conftest import ENDPOINT
from pgiam._login import login, targets_of

WRITER = "orders.cluster-c9akciq32rpa.eu-central-1.rds.amazonaws.com"
READER = "orders.cluster-ro-c9akciq32rpa.eu-central-1.rds.amazonaws.com"


@pytest.fixture
def client(keys):
    return pgiam.Client()


def test_host_port_and_user_come_from_the_parameters_and_then_from_libpqs_variables(monkeypatch):
    assert targets_of({"host": ENDPOINT, "user": "a"}) == [(ENDPOINT, 5432, "a")]
    assert targets_of({"host": ENDPOINT, "user": "a", "port": "5433"}) == [(ENDPOINT, 5433, "a")]
    monkeypatch.setenv("PGHOST", ENDPOINT)
    monkeypatch.setenv("PGPORT", "6432")
    monkeypatch.setenv("PGUSER", "app_user")
    assert targets_of({}) == [(ENDPOINT, 6432, "app_user")]
    assert targets_of({"host": WRITER, "port": 5432, "user": "b"}) == [(WRITER, 5432, "b")]


@pytest.mark.parametrize(
    "parameters", [{"host": ENDPOINT}, {"user": "a"}, {"host": ENDPOINT, "user": "a", "port": "abc"}]
)
def test_a_connection_without_host_or_user_is_refused(parameters):
    with pytest.raises(pgiam.InvalidArgument):
        targets_of(parameters)


def test_a_password_of_ones_own_is_kept_and_rds_iam_is_replaced(monkeypatch, client):
    own = {"host": "localhost", "user": "postgres", "password": "secret", "sslmode": "disable"}
    with login(own, client) as completed:
        assert completed == own
    for password in ("rds-iam", "", client.generate_token(ENDPOINT, user="old")):
        with login({"host": ENDPOINT, "user": "a", "password": password}, client) as completed:
            assert "DBUser=a&" in completed["password"]
    monkeypatch.setenv("PGPASSWORD", "secret")
    with login({"host": ENDPOINT, "user": "a"}, client) as completed:
        assert "password" not in completed
    monkeypatch.setenv("PGPASSWORD", "rds-iam")
    with login({"host": ENDPOINT, "user": "a"}, client) as completed:
        assert "DBUser=a&" in completed["password"]


def test_sslmode_becomes_verify_full_where_none_is_given(monkeypatch, client):
    def sslmode(**parameters):
        with login({"host": ENDPOINT, "user": "a", **parameters}, client) as completed:
            return completed["sslmode"]

    assert sslmode() == "verify-full"
    assert sslmode(sslmode="require") == "require"
    monkeypatch.setenv("PGSSLMODE", "verify-ca")
    assert sslmode() == "verify-ca"
    for mode in ("disable", "allow", "prefer"):
        with pytest.raises(pgiam.InvalidArgument, match=f"sslmode={mode} could send the token in clear"):
            sslmode(sslmode=mode)
        monkeypatch.setenv("PGSSLMODE", mode)
        with pytest.raises(pgiam.InvalidArgument):
            sslmode()


def test_several_hosts_get_a_token_each_in_a_password_file_in_memory(client):
    parameters = {"host": f"{WRITER},{READER}", "port": "5432,5433", "user": "jane:doe\\x", "dbname": "app"}
    with login(parameters, client) as completed:
        path = completed["passfile"]
        assert os.stat(path).st_mode & 0o777 == 0o600
        with open(path) as file:
            first, second = file.read().splitlines()
        assert first.startswith(f"{WRITER}:5432:*:jane\\:doe\\\\x:{WRITER}\\:5432/?")
        assert second.startswith(f"{READER}:5433:*:jane\\:doe\\\\x:{READER}\\:5433/?")
    assert not os.path.exists(path)
    with pytest.raises(pgiam.InvalidArgument, match="2 hosts and 3 ports"):
        targets_of({"host": "a,b", "port": "1,2,3", "user": "u"})


def test_asyncpg_gets_a_function_and_ssl(client):
    asyncio = pytest.importorskip("asyncio")
    from pgiam.asyncpg import completed

    result = completed({"host": ENDPOINT, "user": "a"}, client)
    assert result["ssl"] == "verify-full"
    assert "DBUser=a&" in asyncio.run(result["password"]())
    own = {"host": "localhost", "user": "a", "password": "secret"}
    assert completed(own, client) == own
    context = object()
    assert completed({"host": ENDPOINT, "user": "a", "ssl": context}, client)["ssl"] is context
    for ssl in (False, "disable", "prefer"):
        with pytest.raises(pgiam.InvalidArgument):
            completed({"host": ENDPOINT, "user": "a", "ssl": ssl}, client)
    for host in ([WRITER, READER], f"{WRITER},{READER}"):
        with pytest.raises(pgiam.InvalidArgument, match="pass one host"):
            completed({"host": host, "user": "a"}, client)


def test_the_sqlalchemy_plugin_takes_its_settings_from_the_url(client):
    import sqlalchemy

    url = f"postgresql+psycopg://app_user@{ENDPOINT}/app?plugin=pgiam&pgiam_region=eu-west-1&application_name=web"
    engine = sqlalchemy.create_engine(url)
    assert dict(engine.url.query) == {"application_name": "web"}
    with pytest.raises(pgiam.InvalidConfiguration):
        sqlalchemy.create_engine(url + "&pgiam_service=mysql")


def test_a_driver_that_is_not_supported_is_an_error_and_no_login_without_a_token(client):
    import sqlalchemy

    engine = sqlalchemy.create_engine("sqlite://", plugins=["pgiam"], pgiam_client=client)
    with pytest.raises(pgiam.InvalidArgument, match="sqlite"):
        engine.connect()


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_an_error_is_an_operational_error_of_sqlalchemy(driver):
    import sqlalchemy

    engine = sqlalchemy.create_engine(f"postgresql+{driver}://app_user@{ENDPOINT}/app?plugin=pgiam")
    with pytest.raises(sqlalchemy.exc.OperationalError, match="no credentials") as caught:
        engine.connect()
    assert isinstance(caught.value.orig.__cause__, pgiam.NoCredentials)


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_an_error_is_an_operational_error_of_an_asynchronous_engine(driver):
    import asyncio

    import sqlalchemy
    from sqlalchemy.ext.asyncio import create_async_engine

    async def main():
        await create_async_engine(f"postgresql+{driver}://app_user@{ENDPOINT}/app?plugin=pgiam").connect()

    with pytest.raises(sqlalchemy.exc.OperationalError, match="no credentials"):
        asyncio.run(main())


def test_an_error_is_an_operational_error_of_django():
    from django.conf import settings

    settings.configure()
    from django.db.utils import OperationalError
    from pgiam.django.base import DatabaseWrapper

    database = DatabaseWrapper(
        {
            **{"NAME": "app", "USER": "app_user", "HOST": ENDPOINT, "PORT": "", "PASSWORD": "", "OPTIONS": {}},
            **{"TIME_ZONE": None, "AUTOCOMMIT": True, "CONN_MAX_AGE": 0, "CONN_HEALTH_CHECKS": False},
        }
    )
    with pytest.raises(OperationalError, match="no credentials") as caught:
        database.ensure_connection()
    assert isinstance(caught.value.__cause__.__cause__, pgiam.NoCredentials)


def test_djangos_dbshell_gives_psql_a_token(keys):
    from pgiam.django.base import DatabaseClient

    settings = {"NAME": "app", "USER": "app_user", "HOST": ENDPOINT, "PORT": "", "PASSWORD": "", "OPTIONS": {}}
    arguments, environment = DatabaseClient.settings_to_cmd_args_env(settings, ["-XAt"])
    assert arguments == ["psql", "-U", "app_user", "-h", ENDPOINT, "-XAt", "app"]
    assert "DBUser=app_user&" in environment["PGPASSWORD"] and environment["PGSSLMODE"] == "verify-full"
    settings.update(PASSWORD="secret", HOST="localhost")
    _, environment = DatabaseClient.settings_to_cmd_args_env(settings, [])
    assert environment == {"PGPASSWORD": "secret"}
