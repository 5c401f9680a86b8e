"""Starts the debug build with a private Postgres, and calls it. For .ci/api and .ci/receivers."""

import json
import os
import pathlib
import subprocess
import sys
import urllib.error
import urllib.request

BINARY = pathlib.Path(__file__).parent.parent / "target" / "debug" / "posthaste"
STOPS_WITHIN_S = 60


def start(data, **settings):
    """The process and the address of its API. Its private Postgres runs as another user, who has to get in."""
    data.chmod(0o755)
    settings |= {
        "PATH": os.environ["PATH"],
        "POSTHASTE_DATA_DIR": str(data),
        "POSTHASTE_LISTEN": "127.0.0.1:0",
        "POSTHASTE_RATE_LIMIT_PER_S": "0",
        "POSTHASTE_LOG": "warn",
    }
    if "POSTGRES_BIN" in os.environ:
        settings["POSTGRES_BIN"] = os.environ["POSTGRES_BIN"]
    with open(data / "log", "w") as log:
        server = subprocess.Popen([BINARY, "serve"], env=settings, stdout=subprocess.PIPE, stderr=log, text=True)
    for line in server.stdout:
        if line.startswith("listening on "):
            return server, line.removeprefix("listening on ").strip()
    sys.exit("the server did not start: " + (data / "log").read_text())


class Caller:
    """Calls the API with a key, or with the operator's that lies in the server's data directory."""

    def __init__(self, base, key):
        self.base, self.key = base, key

    def send(self, method, path, text=None):
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.base + path, text and text.encode(), headers, method=method)
        try:
            with urllib.request.urlopen(request) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            error.add_note(error.read().decode())
            raise

    def get(self, path):
        return self.send("GET", path)

    def post(self, path, body):
        return self.send("POST", path, json.dumps(body))
