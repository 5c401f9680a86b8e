"""For Stripe, as integrators have it: the library from PyPI verifies and parses in one call."""

import os

import stripe

from serve import serve

secret = os.environ["WEBHOOK_SECRET"]


def judge(headers, body):
    try:
        event = stripe.Webhook.construct_event(body, headers["Stripe-Signature"], secret)
    except stripe.SignatureVerificationError:
        return 401
    return 200 if event.id.startswith("evt_") and event.type and event.data.object is not None else 422


serve(judge)
