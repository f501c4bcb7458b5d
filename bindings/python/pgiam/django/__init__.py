"""Django's PostgreSQL backend with a new token for each connection: "ENGINE": "pgiam.django", and no PASSWORD.

OPTIONS may have "pgiam": {"profile": …, "region": …, "role_arn": …}, the settings of `pgiam.Client`. Pools work
("pool": True), and so does `manage.py dbshell`.
"""
