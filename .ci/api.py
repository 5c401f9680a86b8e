"""Runs the property-based tester against a real server, with a tenant's key and with the operator's. See .ci/api."""

import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from server import STOPS_WITHIN_S, Caller, start

HERE = pathlib.Path(__file__).parent
# Nothing that is made up may be sent anywhere.
DENY_ALL = "0.0.0.0/0,::/0"


class Household:
    """A tenant with two of everything: one to look at, and one to delete."""

    def __init__(self, base, operator, preset="standard"):
        made = {"name": "Tested", "preset": preset}
        self.tenant, doomed = (operator.post("/v1/tenants", made)["id"] for _ in range(2))
        scopes = {"name": "Tested", "scopes": ["read", "write", "publish", "secrets"]}
        keys = [operator.post(f"/v1/tenants/{self.tenant}/keys", scopes) for _ in range(3)]
        self.key = keys[0]["key"]
        caller = Caller(base, self.key)
        caller.post("/v1/locations", {"name": "Doomed", "external_id": "doomed"})
        caller.post("/v1/event-types", {"name": "tested.type", "description": "Tested"})
        signature = {"header": "x-tested", "algorithm": "hmac-sha256", "key": "text", "content": "{{body}}", "encoding": "hex"}
        for name in ("kept_format", "lost_format"):
            caller.post("/v1/formats", {"name": name, "envelope": {"data": "{{data}}"}, "signatures": [signature]})
        target = {"name": "Tested", "url": "https://tested.example.com/hook", "event_types": ["*"]}
        endpoints = [caller.post("/v1/endpoints", target)["id"] for _ in range(2)]
        event = {"type": "message.incoming", "data": {"text": "hello"}}
        events = [caller.post("/v1/locations/default/events", event)["id"] for _ in range(2)]
        jobs = [caller.post(f"/v1/events/{events[0]}/replay", {})["id"] for _ in range(2)]
        names = ("tenant_id", "key_id", "location_id", "endpoint_id", "event_id", "job_id", "format")
        kept = (self.tenant, keys[1]["id"], "default", endpoints[0], events[0], jobs[0], "kept_format")
        lost = (doomed, keys[2]["id"], "doomed", endpoints[1], events[1], jobs[1], "lost_format")
        self.kept, self.lost = dict(zip(names, kept)), dict(zip(names, lost))

    def header(self):
        return f'"header.Posthaste-Tenant" = "{self.tenant}"\n'

    def parameters(self):
        def lines(values):
            return "".join(f'"path.{name}" = "{value}"\n' for name, value in values.items())

        # A version that is made up would end most changes with 412.
        others = '"header.If-Match" = "*"\n"path.pattern" = "message.*"\n"path.preset" = "standard"\n"path.file" = "index.html"\n'
        return (
            f"[parameters]\n{self.header()}{others}{lines(self.kept)}"
            f'[[operations]]\ninclude-method = "DELETE"\n[operations.parameters]\n{self.header()}{lines(self.lost)}'
        )


def test(base, key, phases, parameters, config):
    config.write_text((HERE / "schemathesis.toml").read_text() + "\n" + parameters)
    tester = pathlib.Path(sys.executable).parent / "st"
    command = [tester, "--config-file", config, "run", f"{base}/openapi.json", "--phases", phases]
    command += ["--header", f"Authorization: Bearer {key}", *sys.argv[1:]]
    # It keeps what it finds in files where it runs.
    return subprocess.run(command, cwd=config.parent).returncode


def main():
    with tempfile.TemporaryDirectory() as data:
        data = pathlib.Path(data)
        server, base = start(data, POSTHASTE_DENY_TARGETS=DENY_ALL)
        failed = 0
        try:
            operator = Caller(base, (data / "operator.key").read_text().strip())
            started = time.monotonic()
            for is_operator in (False, True):
                house = Household(base, operator)
                key = operator.key if is_operator else house.key
                config = data / "schemathesis.toml"
                failed |= test(base, key, "examples,coverage,fuzzing", house.parameters(), config)
                # What one answer names goes into the next request, so nothing is given here.
                failed |= test(base, key, "stateful", "[parameters]\n" + house.header(), config)
            # These are for tenants of one preset alone.
            house = Household(base, operator, "whatsable")
            of_preset = house.parameters() + '[[operations]]\nexclude-path-regex = "^/api/"\nenabled = false\n'
            failed |= test(base, house.key, "examples,coverage,fuzzing", of_preset, config)
            print(f"{time.monotonic() - started:.0f} s")
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(STOPS_WITHIN_S)
        trouble = [line for line in (data / "log").read_text().splitlines() if " ERROR " in line]
        print(*trouble[:20], sep="\n")
        sys.exit(1 if failed or trouble else 0)


main()
