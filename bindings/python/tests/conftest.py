"""The tests run against the installed wheel, on a simulated EC2 instance whose metadata service is a thread of the tests."""

import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pgiam
import pgiam._client
import pytest

ENDPOINT = "orders-prod.c9akciq32rpa.eu-central-1.rds.amazonaws.com"
CREDENTIALS = (
    b'{"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": "ASIAQ3EGT7EXAMPLE123", "SecretAccessKey": "secret",'
    b' "Token": "session", "LastUpdated": "2026-01-01T00:00:00Z", "Expiration": "2099-01-01T00:00:00Z"}'
)

assert pgiam.__file__.startswith(sys.prefix), "the tests are for the installed package"


class Metadata:
    """A metadata service that answers only while `answers` is set."""

    def __init__(self):
        self.answers = threading.Event()
        self.answers.set()
        self.asked = threading.Event()
        self.requests = []
        metadata = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def reply(self):
                metadata.requests.append(self.path)
                metadata.asked.set()
                metadata.answers.wait()
                body = b"token" if self.command == "PUT" else b"app-role"
                if self.path.endswith("app-role"):
                    body = CREDENTIALS
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("X-aws-ec2-metadata-token-ttl-seconds", "21600")
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_PUT = reply

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        # A client that gives up closes its connection.
        self.server.handle_error = lambda request, address: None
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self.answers.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    """No settings of whoever runs the tests, and no client of another test."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "PG")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    pgiam._client._process_wide.clear()


@pytest.fixture
def keys(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")


@pytest.fixture
def metadata(monkeypatch):
    service = Metadata()
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{service.server.server_port}")
    yield service
    service.close()
