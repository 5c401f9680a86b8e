"""Verifies with the library from PyPI."""

import os

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from serve import serve

webhook = Webhook(os.environ["WEBHOOK_SECRET"])


def judge(headers, body):
    try:
        webhook.verify(body, {name.lower(): value for name, value in headers.items()})
    except WebhookVerificationError:
        return 401
    return 200


serve(judge)
