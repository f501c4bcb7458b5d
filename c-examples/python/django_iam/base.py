"""Django asks a backend for the parameters at every connect, so each connection gets a new token."""

from connect import generate_token
from django.db.backends.postgresql import base


class DatabaseWrapper(base.DatabaseWrapper):
    def get_connection_params(self):
        parameters = super().get_connection_params()
        parameters.setdefault("sslmode", "verify-full")
        port = int(parameters.get("port", 5432))
        parameters["password"] = generate_token(parameters["host"], port, parameters["user"])
        return parameters
