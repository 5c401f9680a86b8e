"""Starts Posthaste and the programs of tests/receivers, sends to each what is hard to get right, and forges what it must refuse."""

import base64
import contextlib
import json
import os
import pathlib
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from schemes import BODY_ALONE, ED25519, LIBRARY, NOTHING, SLACK, STRIPE
from server import STOPS_WITHIN_S, Caller, start

ROOT = pathlib.Path(__file__).parent.parent
TOOLS = ROOT / "target" / "receivers"
EXAMPLE = ROOT / "target" / "debug" / "examples" / "receiver"
PATIENCE_S = 60
MAX_DATA_BYTES = 256 * 1024
# Every receiver that looks at the time tolerates five minutes.
STALE_S = 600

# `data` as it is published, byte by byte.
DATA = {
    "plain": '{"text":"hello"}',
    "non-ASCII": '{"text":"Grüße ☺ 你好 مرحبا 👩‍👩‍👧 \u2028\u2029","ключ":"é e\u0301"}',
    "empty": "{}",
    "256 KiB": '{"text":"%s"}' % ("x" * (MAX_DATA_BYTES - len('{"text":""}'))),
    "floats": '{"n":[1.0,1.50,-0.0,-0,0.1,1e3,1E+2,1E-7,0.000001,1e21,1.7976931348623157e308,5e-324,123456789.125,'
    "9007199254740991,100000000000000000000,2.2250738585072014E-308]}",
    "escapes": r'{"t":"\u00e9\/\"\\\b\f\n\r\t\u0000\u001f\u007f\ud83d\ude00\u2028<\/script>&amp;","\u0061":1}',
    "arrays": '{ "a" : [ [ ] , [[[{}]],[[],[1,[2,[3,[null,true,false]]]]]], "" ] }',
    "integer-like keys": '{"b":0,"10":1,"2":2,"01":3,"-1":4,"4294967294":5,"4294967295":6,"1.5":7,"a":{"1":1,"0":0},"b":8}',
    "names of JavaScript": '{"__proto__":{"x":1},"constructor":null,"toString":"","hasOwnProperty":1}',
}

# Receiver, preset (or "preset/format"), event type, how it verifies. Each that verifies must refuse what was forged.
RECEIVERS = [
    ("library.py", "standard", "message.incoming", LIBRARY),
    ("library.js", "standard", "message.incoming", LIBRARY),
    ("library.rs", "standard", "message.incoming", LIBRARY),
    ("library.py", "messagesync", "sms.message.inbound", LIBRARY),
    ("library.js", "whatsable", "message.incoming", LIBRARY),
    ("messagesync.py", "messagesync", "whatsapp.message.inbound", NOTHING),
    ("messagesync.js", "messagesync", "message.failed", NOTHING),
    ("whatsable.py", "whatsable", "message.incoming", BODY_ALONE),
    ("whatsable.js", "whatsable", "message.incoming", NOTHING),
    ("aisoule.py", "aisoule", "contact.created", BODY_ALONE),
    ("aisoule.js", "aisoule", "message.incoming", BODY_ALONE),
    ("whatssync.py", "whatssync", "media.upload", BODY_ALONE),
    ("whatssync.js", "whatssync", "message.incoming", BODY_ALONE),
    ("whatsapp_platform.py", "whatsapp_platform", "message.report", BODY_ALONE),
    ("whatsapp_platform.js", "whatsapp_platform", "form.submitted", BODY_ALONE),
    ("for_stripe.py", "standard/stripe", "contact.created", STRIPE),
    ("for_stripe.js", "standard/stripe", "contact.created", STRIPE),
    ("for_github.py", "standard/github", "media.uploaded", BODY_ALONE),
    ("for_github.js", "standard/github", "media.uploaded", BODY_ALONE),
    ("for_shopify.py", "standard/shopify", "form.submitted", BODY_ALONE),
    ("for_shopify.js", "standard/shopify", "form.submitted", BODY_ALONE),
    ("for_slack.py", "standard/slack", "message.sent", SLACK),
    ("for_slack.js", "standard/slack", "message.sent", SLACK),
    ("public_key.py", "standard/asymmetric", "message.read", ED25519),
    ("public_key.js", "standard/asymmetric", "message.read", ED25519),
]


def format_of_the_page():
    """The format of a tenant's own that docs/formats.md shows."""
    page = (ROOT / "docs" / "formats.md").read_text()
    return json.loads(page.split("```json\n")[1].split("```")[0])


def new_secret():
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


@contextlib.contextmanager
def running(program, secret):
    """The receiver's URL while it runs."""
    source = ROOT / "tests" / "receivers" / program
    command = {".py": [sys.executable, source], ".js": ["node", source], ".rs": [EXAMPLE]}[source.suffix]
    environment = {
        "PATH": os.environ["PATH"],
        "WEBHOOK_SECRET": secret,
        "NODE_PATH": str(TOOLS / "node_modules"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        if not line.startswith("listening on "):
            sys.exit(f"{program} did not start")
        yield f"http://127.0.0.1:{line.removeprefix('listening on ').strip()}/webhook"
    finally:
        process.terminate()
        process.wait(STOPS_WITHIN_S)


class Sender:
    """A tenant with one endpoint, and what becomes of what it publishes."""

    def __init__(self, operator, preset, event_type, url, secret):
        preset, _, format = preset.partition("/")
        tenant = operator.post("/v1/tenants", {"name": "Tested", "preset": preset})["id"]
        scopes = {"name": "Tested", "scopes": ["read", "write", "publish", "secrets"]}
        self.caller = Caller(operator.base, operator.post(f"/v1/tenants/{tenant}/keys", scopes)["key"])
        made = {"name": "Tested", "url": url, "event_types": [event_type], "secret": secret, "retry_schedule_s": []}
        own = format_of_the_page()
        if format == own["name"]:
            self.caller.post("/v1/formats", own)
        if format:
            made["format"] = format
        self.endpoint = self.caller.post("/v1/endpoints", made)["id"]
        self.event_type = event_type

    def send(self, data):
        """The delivery once it has ended."""
        body = '{"type":"%s","data":%s}' % (self.event_type, data)
        event = self.caller.send("POST", "/v1/locations/default/events", body)["id"]
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            delivery = self.caller.get(f"/v1/events/{event}/deliveries/{self.endpoint}")
            if delivery["status"] != "pending":
                return delivery
            time.sleep(0.01)
        sys.exit(f"{event} did not end: {delivery}")

    def rotate(self, **how):
        self.caller.post(f"/v1/endpoints/{self.endpoint}/secret/rotate", how)

    def test(self):
        return self.caller.post(f"/v1/endpoints/{self.endpoint}/test", {})


def post(url, headers, body):
    """What the receiver answers to a request that Posthaste did not send."""
    request = urllib.request.Request(url, body, headers, method="POST")
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


class Checks:
    def __init__(self):
        self.done, self.failed = 0, []

    def that(self, good, *what):
        self.done += 1
        if not good:
            self.failed.append(what)
            print("FAILED", *what)

    def arrived(self, delivery, *what):
        attempt = (delivery["attempts"] or [{}])[-1]
        self.that(delivery["status"] == "succeeded", *what, attempt.get("diagnosis"), attempt.get("response"))

    def refused(self, status, *what):
        # The pages' own code in Node throws where lengths differ, which is a 500.
        self.that(status == 401 or status == 500, *what, status)


def check(checks, operator, program, preset, event_type, scheme):
    secret, newer = new_secret(), new_secret()
    with running(program, scheme.key(secret)) as url, running(program, scheme.key(newer)) as renewed:
        sender = Sender(operator, preset, event_type, url, secret)
        for name, data in DATA.items():
            checks.arrived(sender.send(data), program, preset, name)
        tested = sender.test()
        checks.that(tested["outcome"] == "succeeded", program, preset, "test event", tested["diagnosis"])
        if scheme is NOTHING:
            return

        # What the history says was sent is what was sent: repeated, it is believed. Changed, it is not.
        request = sender.send(DATA["non-ASCII"])["request"]
        body = request["body"].encode()
        checks.that(post(url, request["headers"], body) == 200, program, preset, "repeated")
        checks.refused(post(url, request["headers"], body.replace(b"Gr", b"GR")), program, preset, "tampered")
        checks.refused(post(renewed, request["headers"], body), program, preset, "another secret")
        if scheme.at:
            # The forger's own signing is right, so that it is the time which is refused.
            checks.that(post(url, scheme.at(request, 1, secret), body) == 200, program, preset, "signed here")
            checks.refused(post(url, scheme.at(request, -STALE_S, secret), body), program, preset, "stale")
            checks.refused(post(url, scheme.at(request, 1), body), program, preset, "another time")

        # With a grace period both secrets sign where the header has room; elsewhere the newest one alone.
        sender.rotate(secret=newer, **({"grace_period_s": 3600} if scheme.has_room else {}))
        for name in ("plain", "non-ASCII", "empty", "256 KiB"):
            delivery = sender.send(DATA[name])
            if scheme.has_room:
                checks.arrived(delivery, program, preset, name, "during the rotation, by the old secret")
            else:
                checks.that(delivery["status"] == "failed", program, preset, name, "the old secret is worth nothing")
            request = delivery["request"]
            believed = post(renewed, request["headers"], request["body"].encode())
            checks.that(believed == 200, program, preset, name, "by the new secret", believed)


def main():
    checks = Checks()
    with tempfile.TemporaryDirectory() as data:
        data = pathlib.Path(data)
        server, base = start(data, POSTHASTE_ALLOW_TARGETS="127.0.0.1", POSTHASTE_ALLOW_HTTP="true")
        try:
            operator = Caller(base, (data / "operator.key").read_text().strip())
            for receiver in RECEIVERS:
                check(checks, operator, *receiver)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(STOPS_WITHIN_S)
    print(f"{len(RECEIVERS)} receivers, {checks.done} checks, {len(checks.failed)} failed")
    sys.exit(1 if checks.failed else 0)


main()
