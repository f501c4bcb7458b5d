"""A token as a program in Python makes one with boto3.

  boto3_token.py token HOST PORT REGION USER   one token, credentials from boto3's default chain
  boto3_token.py warm HOST PORT REGION USER    prints the nanoseconds per token of each of 30 batches
"""

import sys
import time

import boto3

mode, host, port, region, user = sys.argv[1:]
client = boto3.client("rds", region_name=region)


def token():
    return client.generate_db_auth_token(DBHostname=host, Port=int(port), DBUsername=user, Region=region)


if mode == "token":
    print(token())
else:
    for batch in range(-3, 30):
        began = time.perf_counter_ns()
        for _ in range(20):
            token()
        if batch >= 0:
            print((time.perf_counter_ns() - began) / 20)
