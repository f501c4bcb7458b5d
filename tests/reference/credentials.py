"""For each line of standard input, {"environment": {…}, "profile": …}, prints the credentials that botocore finds, or why
it finds none: one JSON object a line. Each case runs in a child of its own, with nothing but its environment.

{"write": {"file": …, "section": …, "values": {…}}} writes a section as `aws configure` does."""

import json
import os
import sys

import awscli.customizations.configure as configure
import botocore.credentials
import botocore.session
import botocore.tokens
from awscli.customizations.configure.writer import ConfigFileWriter


def find(case):
    os.environ.clear()
    os.environ.update(case["environment"])
    # The modules set this at import, from the home directory at that time.
    cache = os.path.expanduser("~/.aws/sso/cache")
    botocore.credentials.SSOProvider._SSO_TOKEN_CACHE_DIR = cache
    botocore.tokens.SSOTokenProvider._SSO_TOKEN_CACHE_DIR = cache
    try:
        credentials = botocore.session.Session(profile=case["profile"]).get_credentials()
        if credentials is None:
            return {"error": "no credentials"}
        frozen = credentials.get_frozen_credentials()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"access_key_id": frozen.access_key, "session_token": frozen.token, "method": credentials.method}


def write(order):
    section = order["section"]
    if section is not None:
        section = configure.profile_to_section(section)
    else:
        section = order["raw_section"]
    ConfigFileWriter().update_config(dict(order["values"], __section__=section), order["file"])
    return {"written": section}


for line in sys.stdin:
    case = json.loads(line)
    if "write" in case:
        print(json.dumps(write(case["write"])), flush=True)
    elif os.fork() == 0:
        print(json.dumps(find(case)), flush=True)
        os._exit(0)
    else:
        os.wait()
