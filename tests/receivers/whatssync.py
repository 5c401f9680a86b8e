"""WhatsSync's header, verified in Python over the raw body."""

import hashlib
import hmac
import json
import os

from serve import serve

secret = os.environ["WEBHOOK_SECRET"].encode()


def judge(headers, body):
    expected = hmac.new(secret, body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, headers["x-whatsync-signature"] or ""):
        return 401
    return 200 if list(json.loads(body)) == ["event", "id", "timestamp", "data"] else 422


serve(judge)
