import asyncio
import copy
import os
import pickle
import threading
import time
from datetime import datetime, timedelta, timezone

import pgiam
import pytest
from conftest import ENDPOINT


def test_a_token_is_a_str_with_the_time_at_which_it_expires(keys):
    before = datetime.now(timezone.utc)
    token = pgiam.Client().generate_token(ENDPOINT, 5433, user="app_user")
    assert isinstance(token, str)
    assert token.startswith(f"{ENDPOINT}:5433/?Action=connect&DBUser=app_user&")
    assert before + timedelta(minutes=14, seconds=58) < token.expires_at < before + timedelta(minutes=16)


def test_the_region_is_an_argument_or_comes_from_the_name(keys):
    client = pgiam.Client()
    assert "%2Feu-central-1%2Frds-db%2F" in client.generate_token(ENDPOINT, user="app_user")
    name = "orders-prod.global-abcd1234.global.rds.amazonaws.com".replace("global-abcd1234", "globalabcd1234")
    assert "%2Fus-west-2%2F" in client.generate_token(name, user="app_user", region="us-west-2")


def test_repr_hides_the_token_and_str_does_not(keys):
    token = pgiam.Client().generate_token(ENDPOINT, user="app_user")
    assert "Signature" not in repr(token) and "Signature" not in f"{[token]} {token!r}"
    assert "Signature" in str(token) and f"{token}" == token


def test_a_token_can_be_copied_and_pickled(keys):
    token = pgiam.Client().generate_token(ENDPOINT, user="app_user")
    for other in (copy.copy(token), copy.deepcopy(token), pickle.loads(pickle.dumps(token))):
        assert other == token and other.expires_at == token.expires_at and type(other) is pgiam.Token


def test_the_functions_of_the_module_share_a_client_that_is_made_at_the_first_use(metadata):
    pgiam.generate_token(ENDPOINT, user="app_user")
    pgiam.generate_token(ENDPOINT, user="app_user")
    assert len(metadata.requests) == 3, "session token, role, credentials"
    assert pgiam.default_client() is pgiam.default_client()
    pgiam.refresh()
    assert len(metadata.requests) > 3


def test_a_setting_that_was_wrong_at_the_first_call_and_is_right_now_counts(monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    with pytest.raises(pgiam.Error):
        pgiam.generate_token(ENDPOINT, user="app_user")
    monkeypatch.delenv("AWS_PROFILE")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    assert pgiam.generate_token(ENDPOINT, user="app_user")


@pytest.mark.parametrize(
    "arguments",
    [
        {"host": "localhost", "user": "app_user"},
        {"host": ENDPOINT, "user": ""},
        {"host": ENDPOINT, "user": "app_user\0"},
        {"host": ENDPOINT + "\0.example.com", "user": "app_user"},
        {"host": ENDPOINT, "user": "\udc80"},
        {"host": ENDPOINT, "user": "app_user", "port": 0},
        {"host": ENDPOINT, "user": "app_user", "port": 65536},
        {"host": ENDPOINT, "user": "app_user", "port": 2**32 + 5432},
        {"host": ENDPOINT, "user": "app_user", "region": "us-east-1"},
    ],
)
def test_arguments_that_no_token_can_be_made_for_are_refused(keys, arguments):
    with pytest.raises(pgiam.InvalidArgument) as caught:
        pgiam.Client().generate_token(**arguments)
    assert isinstance(caught.value, ValueError) and caught.value.status == 1


@pytest.mark.parametrize(
    "arguments",
    [{"host": b"host", "user": "u"}, {"host": ENDPOINT, "user": None}, {"host": ENDPOINT, "user": "u", "port": "5432"}],
)
def test_arguments_of_other_types_are_type_errors(keys, arguments):
    with pytest.raises(TypeError):
        pgiam.Client().generate_token(**arguments)


def test_each_status_has_its_exception(monkeypatch, keys, tmp_path):
    def failure(**settings):
        with pytest.raises(pgiam.Error) as caught:
            pgiam.Client(**settings).generate_token("db.global1.global.rds.amazonaws.com", user="app_user")
        assert "\n" not in str(caught.value)
        return type(caught.value)

    assert failure() is pgiam.NoRegion
    assert failure(service="mysql") is pgiam.InvalidConfiguration
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", "2020-01-01T00:00:00Z")
    assert failure() is pgiam.CredentialsExpired
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert failure() is pgiam.NoCredentials
    config = tmp_path / "config"
    config.write_text("[profile legacy-tool]\ncredential_process = /bin/false\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    assert failure(profile="legacy-tool") is pgiam.ProviderError


def test_a_call_ends_at_its_timeout(metadata):
    metadata.answers.clear()
    with pytest.raises(pgiam.Timeout) as caught:
        pgiam.Client(timeout=0.05).generate_token(ENDPOINT, user="app_user")
    assert isinstance(caught.value, TimeoutError)


def test_other_threads_run_while_a_call_waits(metadata):
    # The metadata service is a thread of this process: it could not answer if the call kept the interpreter lock.
    metadata.answers.clear()
    client, tokens = pgiam.Client(), []
    threads = [
        threading.Thread(target=lambda: tokens.append(client.generate_token(ENDPOINT, user="app_user")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    assert metadata.asked.wait(10)
    assert tokens == []
    metadata.answers.set()
    for thread in threads:
        thread.join()
    assert len(tokens) == 8 and len(metadata.requests) == 3, "one fetch for all threads"


def test_a_closed_client_refuses_calls_and_a_call_in_progress_finishes(metadata):
    metadata.answers.clear()
    tokens = []
    with pgiam.Client() as client:
        thread = threading.Thread(target=lambda: tokens.append(client.generate_token(ENDPOINT, user="app_user")))
        thread.start()
        assert metadata.asked.wait(10)
    with pytest.raises(ValueError, match="closed"):
        client.generate_token(ENDPOINT, user="app_user")
    client.close()
    metadata.answers.set()
    thread.join()
    assert len(tokens) == 1


def test_try_generate_token_returns_none_until_the_credentials_are_there(metadata):
    metadata.answers.clear()
    client = pgiam.Client()
    assert client.try_generate_token(ENDPOINT, user="app_user") is None
    metadata.answers.set()
    deadline = time.monotonic() + 10
    while (token := client.try_generate_token(ENDPOINT, user="app_user")) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert token.startswith(ENDPOINT)


def test_the_event_loop_runs_while_a_token_is_waited_for(metadata):
    async def main():
        metadata.answers.clear()
        client = pgiam.Client()
        waiting = [asyncio.ensure_future(client.async_generate_token(ENDPOINT, user="app_user")) for _ in range(3)]
        while not metadata.asked.is_set():
            await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        metadata.answers.set()
        tokens = await asyncio.gather(*waiting)
        # Credentials are cached: no thread and no wait.
        again = client.async_generate_token(ENDPOINT, user="app_user")
        with pytest.raises(StopIteration):
            again.send(None)
        return tokens

    assert len(asyncio.run(main())) == 3


def test_async_generate_token_of_the_module(keys):
    assert asyncio.run(pgiam.async_generate_token(ENDPOINT, user="app_user")).startswith(ENDPOINT)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_after_fork_uses_the_clients_it_inherits(metadata):
    client = pgiam.Client()
    client.generate_token(ENDPOINT, user="app_user")
    child = os.fork()
    if child == 0:
        try:
            token = client.generate_token(ENDPOINT, user="child")
            client.close()
            os._exit(0 if "DBUser=child" in token else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert len(metadata.requests) == 3, "the child uses the cached credentials"
    assert client.generate_token(ENDPOINT, user="app_user")
