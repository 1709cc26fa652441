"""The program that posts a verdict to a webhook.

`python -m tasks.nightly.webhook` reads the JSON from standard input and the URL from the variable FSE_WEBHOOK. The URL may be
a secret: a command line is visible to other users, so it is passed in the environment, and no message contains it.
"""

import os
import sys

import requests

# `alarms.run_hook` kills this process after the hook's time limit. This is only an upper bound.
_TIMEOUT_SECONDS = 3600.0


def post(url: str, body: bytes) -> str:
    """Post JSON to a URL, in which $NAMES are environment variables; return the error, or '' if it was accepted.

    Redirects are errors: a client would follow them with a GET request without the body.
    """
    expanded_url = os.path.expandvars(url)
    if not expanded_url.startswith(("http://", "https://")):
        return f"{url}: is not an http(s) URL; check that its environment variables are set"
    try:
        response = requests.post(
            expanded_url,
            data=body,
            headers={"Content-Type": "application/json"},
            timeout=_TIMEOUT_SECONDS,
            allow_redirects=False,
        )
    except (requests.RequestException, ValueError) as error:  # an invalid URL raises a ValueError
        return f"no response: {type(error).__name__}"  # the message of the error contains the URL
    if response.status_code // 100 == 2:
        return ""
    return f"the response was {response.status_code} {response.reason}"


if __name__ == "__main__":
    sys.exit(post(os.environ["FSE_WEBHOOK"], sys.stdin.buffer.read()) or 0)
