"""Receivers as integrators have them already, each written from the documentation of the service that it is for.

Reads one request a line, as JSON: {"style", "key", "headers", "body" (base64), "now"}. Answers each with a line: "ok", or what
is wrong with it. The standard library alone: nothing here knows of Posthaste.
"""

import base64
import hashlib
import hmac
import json
import sys

TOLERANCE_S = 300


class Refused(Exception):
    pass


def stripe(key, headers, body, now):
    # As stripe-python's WebhookSignature.verify_header.
    items = [item.split("=", 2) for item in headers["stripe-signature"].split(",")]
    timestamp = int([value for name, value in items if name == "t"][0])
    signatures = [value for name, value in items if name == "v1"]
    if not signatures:
        raise Refused("no signatures found with expected scheme")
    signed = "%d.%s" % (timestamp, body.decode("utf-8"))
    expected = hmac.new(key.encode("utf-8"), msg=signed.encode("utf-8"), digestmod=hashlib.sha256).hexdigest()
    if not any(hmac.compare_digest(expected, signature) for signature in signatures):
        raise Refused("no signatures found matching the expected signature")
    if timestamp < now - TOLERANCE_S:
        raise Refused("timestamp outside the tolerance zone")
    event = json.loads(body)
    if event["object"] != "event" or not isinstance(event["data"]["object"], dict):
        raise Refused("not an event")


def github(key, headers, body, now):
    # "Validating webhook deliveries", the Python example.
    digest = hmac.new(key.encode("utf-8"), msg=body, digestmod=hashlib.sha256)
    if not hmac.compare_digest("sha256=" + digest.hexdigest(), headers["x-hub-signature-256"]):
        raise Refused("request signatures didn't match")


def shopify(key, headers, body, now):
    # "Deliver webhooks through HTTPS", the Python example.
    digest = hmac.new(key.encode("utf-8"), body, digestmod=hashlib.sha256).digest()
    if not hmac.compare_digest(base64.b64encode(digest), headers["x-shopify-hmac-sha256"].encode("utf-8")):
        raise Refused("not verified")


def slack(key, headers, body, now):
    # "Verifying requests from Slack".
    timestamp = headers["x-slack-request-timestamp"]
    if abs(now - int(timestamp)) > 60 * 5:
        raise Refused("could be a replay attack")
    basestring = "v0:" + timestamp + ":" + body.decode("utf-8")
    signature = "v0=" + hmac.new(key.encode(), basestring.encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(signature, headers["x-slack-signature"]):
        raise Refused("another signature")


# RFC 8032, section 6: ed25519 in plain Python.
P = 2**255 - 19
Q = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
SQRT_M1 = pow(2, (P - 1) // 4, P)


def add(a, b):
    e, f = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    g, h = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = f - e, h - g, h + g, f + e
    return (e * f, g * h, f * g, e * h)


def multiply(scalar, point):
    result = (0, 1, 1, 0)
    while scalar > 0:
        if scalar & 1:
            result = add(result, point)
        point = add(point, point)
        scalar >>= 1
    return result


def recover_x(y, sign):
    if y >= P:
        raise Refused("not a point")
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P)
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P != 0:
        x = x * SQRT_M1 % P
    if (x * x - x2) % P != 0:
        raise Refused("not a point")
    return P - x if x & 1 != sign else x


def decompress(text):
    y = int.from_bytes(text, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    x = recover_x(y, sign)
    return (x, y, 1, x * y % P)


BASE_Y = 4 * pow(5, P - 2, P) % P
BASE = (recover_x(BASE_Y, 0), BASE_Y, 1, recover_x(BASE_Y, 0) * BASE_Y % P)


def ed25519_verifies(public, message, signature):
    if len(public) != 32 or len(signature) != 64:
        raise Refused("of another length")
    a, r = decompress(public), decompress(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if s >= Q:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % Q
    left, right = multiply(s, BASE), add(r, multiply(h, a))
    return (left[0] * right[2] - right[0] * left[2]) % P == 0 and (left[1] * right[2] - right[1] * left[2]) % P == 0


def standard_ed25519(key, headers, body, now):
    # The Standard Webhooks specification, "asymmetric".
    identifier, timestamp = headers["webhook-id"], headers["webhook-timestamp"]
    if abs(now - int(timestamp)) > TOLERANCE_S:
        raise Refused("too old, or too new")
    public = base64.b64decode(key[len("whpk_"):], validate=True)
    message = identifier.encode() + b"." + timestamp.encode() + b"." + body
    for versioned in headers["webhook-signature"].split(" "):
        version, signature = versioned.split(",", 1)
        if version == "v1a" and ed25519_verifies(public, message, base64.b64decode(signature, validate=True)):
            return
    raise Refused("no matching signature")


STYLES = {"stripe": stripe, "github": github, "shopify": shopify, "slack": slack, "ed25519": standard_ed25519}

for line in sys.stdin:
    request = json.loads(line)
    try:
        body = base64.b64decode(request["body"])
        STYLES[request["style"]](request["key"], request["headers"], body, request["now"])
        print("ok", flush=True)
    except Refused as refused:
        print(refused, flush=True)
