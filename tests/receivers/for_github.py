"""For GitHub, as integrators have it: the library gidgethub from PyPI."""

import json
import os

from gidgethub import ValidationFailure
from gidgethub.sansio import validate_event

from serve import serve

secret = os.environ["WEBHOOK_SECRET"]


def judge(headers, body):
    try:
        validate_event(body, signature=headers["X-Hub-Signature-256"], secret=secret)
    except ValidationFailure:
        return 401
    return 200 if json.loads(body)["type"] else 422


serve(judge)
