"""Posts a verdict: `python -m tasks.nightly.webhook` with the JSON on standard input and the address in FSE_WEBHOOK.

The address is handed on by the environment, since others see a command line, and no message names it: it may be a secret.
"""

import os
import sys

import requests

# The hook's own time, after which the whole process is killed, is the bound that counts.
_SECONDS = 3600.0


def post(address: str, body: bytes) -> str:
    """Posts JSON to an address, in which $NAMES are the environment's; returns what went wrong, '' if it was taken.

    A redirection is a fault: what follows it would be asked for a page, and not be told.
    """
    whole = os.path.expandvars(address)
    if not whole.startswith(("http://", "https://")):
        return f"{address}: is no http(s) address; is what it names set?"
    try:
        answer = requests.post(
            whole,
            data=body,
            headers={"Content-Type": "application/json"},
            timeout=_SECONDS,
            allow_redirects=False,
        )
    except (requests.RequestException, ValueError) as error:  # the latter of an address that is none
        return f"no answer: {type(error).__name__}"
    return "" if answer.status_code // 100 == 2 else f"the answer was {answer.status_code} {answer.reason}"


if __name__ == "__main__":
    sys.exit(post(os.environ["FSE_WEBHOOK"], sys.stdin.buffer.read()) or 0)
