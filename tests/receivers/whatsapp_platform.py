"""From the WhatsApp API Platform's page: Flask, and the raw body of its request."""

import hashlib
import hmac
import logging
import os

from flask import Flask, request
from werkzeug.serving import make_server

app = Flask(__name__)
logging.getLogger("werkzeug").setLevel(logging.ERROR)


def verify_signature(raw_body: bytes, signature: str, secret: str) -> bool:
    expected = hmac.new(secret.encode(), raw_body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(signature, expected)


@app.route("/webhook", methods=["POST"])
def webhook():
    signature = request.headers.get("X-Webhook-Signature")
    if not verify_signature(request.data, signature, os.environ["WEBHOOK_SECRET"]):
        return "Invalid signature", 401

    event = request.get_json()
    known = event["id"].startswith("evt_") and isinstance(event["created_at"], int) and "object" in event["data"]
    return "OK", 200 if known else 422


server = make_server("127.0.0.1", 0, app)
print("listening on", server.server_port, flush=True)
server.serve_forever()
