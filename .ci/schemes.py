"""How receivers verify, and what a forger can make of a request that was overheard. Written from the pages of those who thought each up."""

import base64
import dataclasses
import hashlib
import hmac
import typing

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


@dataclasses.dataclass
class Scheme:
    # The same request's headers at another time: signed anew if there is a secret, else as they were. None: it tells no time.
    at: typing.Callable | None = None
    # While a secret is rotated, the old one signs as well.
    has_room: bool = False
    # What a receiver has of the secret.
    key: typing.Callable = lambda secret: secret


def sha256(key, content):
    return hmac.new(key, content.encode(), hashlib.sha256)


def base64_part(secret):
    return base64.b64decode(secret.removeprefix("whsec_"))


def library_at(request, shift_s, secret=None):
    headers = dict(request["headers"])
    headers["webhook-timestamp"] = then = str(int(headers["webhook-timestamp"]) + shift_s)
    if secret:
        digest = sha256(base64_part(secret), f"{headers['webhook-id']}.{then}.{request['body']}").digest()
        headers["webhook-signature"] = "v1," + base64.b64encode(digest).decode()
    return headers


def key_pair(secret):
    """As docs/formats.md has it."""
    seed = sha256(base64_part(secret), "posthaste ed25519 signing key 1").digest()
    return Ed25519PrivateKey.from_private_bytes(seed)


def public_key(secret):
    raw = serialization.Encoding.Raw, serialization.PublicFormat.Raw
    return "whpk_" + base64.b64encode(key_pair(secret).public_key().public_bytes(*raw)).decode()


def ed25519_at(request, shift_s, secret=None):
    headers = dict(request["headers"])
    headers["webhook-timestamp"] = then = str(int(headers["webhook-timestamp"]) + shift_s)
    if secret:
        signature = key_pair(secret).sign(f"{headers['webhook-id']}.{then}.{request['body']}".encode())
        headers["webhook-signature"] = "v1a," + base64.b64encode(signature).decode()
    return headers


def stripe_at(request, shift_s, secret=None):
    headers = dict(request["headers"])
    time, signature = headers["stripe-signature"].split(",", 1)
    then = int(time.removeprefix("t=")) + shift_s
    if secret:
        signature = "v1=" + sha256(secret.encode(), f"{then}.{request['body']}").hexdigest()
    return headers | {"stripe-signature": f"t={then},{signature}"}


def slack_at(request, shift_s, secret=None):
    headers = dict(request["headers"])
    headers["x-slack-request-timestamp"] = then = str(int(headers["x-slack-request-timestamp"]) + shift_s)
    if secret:
        headers["x-slack-signature"] = "v0=" + sha256(secret.encode(), f"v0:{then}:{request['body']}").hexdigest()
    return headers


NOTHING = Scheme()
BODY_ALONE = Scheme()
LIBRARY = Scheme(library_at, has_room=True)
ED25519 = Scheme(ed25519_at, has_room=True, key=public_key)
STRIPE = Scheme(stripe_at, has_room=True)
SLACK = Scheme(slack_at)
