"""From AIsoule's page: the hex HMAC of the raw body, keyed with the secret's text; exactly 200."""

import datetime
import hashlib
import hmac
import json
import os

from serve import serve

secret = os.environ["WEBHOOK_SECRET"]


def verify_signature(body, signature, secret):
    expected = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, signature)


def judge(headers, body):
    if not verify_signature(body, headers["X-Webhook-Signature"], secret):
        return 401
    payload = json.loads(body)
    # The page shows whole seconds with a Z, so somebody parses just that.
    datetime.datetime.strptime(payload["timestamp"], "%Y-%m-%dT%H:%M:%SZ")
    return 200 if list(payload) == ["event", "timestamp", "data"] else 422


serve(judge)
