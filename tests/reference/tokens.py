"""Prints N tokens made by botocore, a JSON object a line with what went into each. The inputs are random but the same
in every run, and favor difficult cases: characters that need escaping, port 443, long session tokens."""

import datetime
import json
import os
import random
import sys
from unittest import mock

# The signer in Python, as the AWS CLI has it. With awscrt (for login sessions) botocore would replace it.
os.environ["BOTO_DISABLE_CRT"] = "true"

import botocore.auth
import botocore.session

ROUND = random.Random(20260102)
LETTERS = "abcdefghijklmnopqrstuvwxyz"
ALPHANUMERIC = LETTERS + "0123456789"
REGIONS = ["us-east-1", "eu-central-1", "ap-southeast-2", "us-gov-west-1", "cn-north-1", "us-iso-east-1", "il-central-1"]
AWKWARD = " &+%*~'\"=/?#:;,@!$()[]{}<>|\\^`äöü߀漢字🦀-_.AZaz09"


def word(alphabet, low, high):
    return "".join(ROUND.choice(alphabet) for _ in range(ROUND.randint(low, high)))


def host(region):
    name, account = word(LETTERS, 1, 1) + word(ALPHANUMERIC, 0, 12), word(ALPHANUMERIC, 8, 12)
    forms = [
        f"{name}.{account}.{region}.rds.amazonaws.com",
        f"{name}.cluster-{account}.{region}.rds.amazonaws.com",
        f"{name}.cluster-ro-{account}.{region}.rds.amazonaws.com",
        f"{name}.cluster-custom-{account}.{region}.rds.amazonaws.com",
        f"{name}.proxy-{account}.{region}.rds.amazonaws.com",
        f"{name}.shardgrp-{account}.{region}.rds.amazonaws.com",
        f"{name}.endpoint.proxy-{account}.{region}.rds.amazonaws.com",
        f"{name}-green-{word(ALPHANUMERIC, 6, 6)}.{account}.{region}.rds.amazonaws.com",
        f"{name}-old1.{account}.{region}.rds.amazonaws.com",
        f"{name}.{account}.{region}.rds-fips.amazonaws.com",
        f"{name}.{account}.{region}.rds.amazonaws.eu",
        f"{name}.{account}.rds.{region}.amazonaws.com",
        f"{name}.{account}.rds.{region}.amazonaws.com.cn",
        f"{name}.{account}.{region}.rds.amazonaws.com.cn",
        f"{name}.{account}.rds.{region}.c2s.ic.gov",
        f"{name}.{account}.rds.{region}.sc2s.sgov.gov",
    ]
    others = [f"{name}.global-{account}.global.rds.amazonaws.com", f"{name}.example.com", name]
    known = ROUND.random() < 0.8
    return ROUND.choice(forms if known else others), known


def make(session, kind):
    region = ROUND.choice(REGIONS)
    access_key_id, secret = word(ALPHANUMERIC.upper(), 16, 16), word(ALPHANUMERIC + "/+=", 20, 40)
    length = ROUND.choice([0, 0, 1, ROUND.randint(2, 1500), ROUND.randint(1500, 4096)])
    session_token = word(ALPHANUMERIC + "/+=", length, length) or None
    access_key_id = ("ASIA" if session_token else "AKIA") + access_key_id
    second = ROUND.randint(0, 4_102_444_799)
    moment = datetime.datetime.fromtimestamp(second, datetime.timezone.utc)
    client = session.create_client(
        kind,
        region_name=region,
        aws_access_key_id=access_key_id,
        aws_secret_access_key=secret,
        aws_session_token=session_token,
    )
    with mock.patch.object(botocore.auth, "get_current_datetime", lambda remove_tzinfo=True: moment.replace(tzinfo=None)):
        if kind == "rds":
            name, known = host(region)
            port = ROUND.choice([5432, 443, 80, 1, 65535, ROUND.randint(1, 65535)])
            user = word(ROUND.choice([ALPHANUMERIC + "_", AWKWARD]), 1, 30)
            token = client.generate_db_auth_token(DBHostname=name, Port=port, DBUsername=user, Region=region)
        else:
            name, known, port = f"{word(ALPHANUMERIC, 6, 26)}.dsql.{region}.on.aws", True, 5432
            user = ROUND.choice(["admin", "app_user"])
            make_token = (
                client.generate_db_connect_admin_auth_token if user == "admin" else client.generate_db_connect_auth_token
            )
            token = make_token(Hostname=name, Region=region, ExpiresIn=900)
    assert moment.strftime("%Y%m%dT%H%M%SZ") in token, "botocore did not use the patched clock"
    return {
        "service": "auto",
        "host": name,
        "port": port,
        "user": user,
        "region_argument": None if known and ROUND.random() < 0.5 else region,
        "access_key_id": access_key_id,
        "secret_access_key": secret,
        "session_token": session_token,
        "time": second,
        "token": token,
    }


def main():
    session = botocore.session.get_session()
    for number in range(int(sys.argv[1])):
        print(json.dumps(make(session, "dsql" if number % 10 == 9 else "rds")))


main()
