"""The asymmetric signatures of Standard Webhooks: a public key for WEBHOOK_SECRET, verified with the library cryptography from PyPI."""

import base64
import os
import time

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from serve import serve

TOLERANCE_S = 300
key = Ed25519PublicKey.from_public_bytes(base64.b64decode(os.environ["WEBHOOK_SECRET"].removeprefix("whpk_")))


def judge(headers, body):
    if abs(time.time() - int(headers["webhook-timestamp"])) > TOLERANCE_S:
        return 401
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    for signature in headers["webhook-signature"].split(" "):
        try:
            key.verify(base64.b64decode(signature.removeprefix("v1a,")), content)
            return 200
        except InvalidSignature:
            pass
    return 401


serve(judge)
