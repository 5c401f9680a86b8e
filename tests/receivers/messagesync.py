"""From MessageSync's page: 2xx, deduplicate by the event id in the payload. It names no signature."""

import json

from serve import serve

seen = set()


def judge(_, body):
    event = json.loads(body)
    if event["id"] not in seen:
        seen.add(event["id"])
        # "Scope by channel."
        channel = event["type"].split(".")[0]
        if channel not in ("whatsapp", "imessage", "sms", "message") or "data" not in event:
            return 422
    return 204


serve(judge)
