"""From WhatsAble's page: a bare conversation, acknowledged at once. It says to verify, not how; this does it by the simple header."""

import hashlib
import hmac
import json
import os

from serve import serve

secret = os.environ["WEBHOOK_SECRET"].encode()


def judge(headers, body):
    expected = hmac.new(secret, body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, headers["x-webhook-signature"] or ""):
        return 401
    conversation = json.loads(body)
    return 200 if isinstance(conversation, dict) and "event" not in conversation else 422


serve(judge)
