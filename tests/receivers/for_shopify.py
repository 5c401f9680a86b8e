"""For Shopify: the Python example of its page on delivery through HTTPS, in Flask."""

import base64
import hashlib
import hmac
import logging
import os

from flask import Flask, abort, request
from werkzeug.serving import make_server

app = Flask(__name__)
logging.getLogger("werkzeug").setLevel(logging.ERROR)
CLIENT_SECRET = os.environ["WEBHOOK_SECRET"]


def verify_webhook(data, hmac_header):
    digest = hmac.new(CLIENT_SECRET.encode("utf-8"), data, digestmod=hashlib.sha256).digest()
    computed_hmac = base64.b64encode(digest)

    return hmac.compare_digest(computed_hmac, hmac_header.encode("utf-8"))


@app.route("/webhook", methods=["POST"])
def handle_webhook():
    data = request.get_data()
    verified = verify_webhook(data, request.headers.get("X-Shopify-Hmac-SHA256"))

    if not verified:
        abort(401)

    return "", 200


server = make_server("127.0.0.1", 0, app)
print("listening on", server.server_port, flush=True)
server.serve_forever()
