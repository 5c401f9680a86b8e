"""For Slack, as integrators have it: the verifier of slack_sdk from PyPI."""

import json
import os

from slack_sdk.signature import SignatureVerifier

from serve import serve

verifier = SignatureVerifier(os.environ["WEBHOOK_SECRET"])


def judge(headers, body):
    if not verifier.is_valid_request(body, dict(headers.items())):
        return 401
    return 200 if json.loads(body)["type"] else 422


serve(judge)
