"""Telling people that the nightly's state has changed: programs, webhooks, Luigi's e-mail; each bounded in time.

There are three states: `good` (pass and warn), `regression`, and `broken` (infrastructure and no-data). A hook is told
when the state is another than the last that it took; one that failed is told again with the next night. Nights that are
older than the newest are filled in silently. Whatever a hook does, the verdict stands.
"""

import contextlib
import datetime
import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import warnings
from typing import Any, Dict, List, Sequence

from tasks.nightly.history import GOOD, History, Told
from tasks.nightly.settings import Hook

# What posts a verdict, as a program of its own.
_WEBHOOK = "tasks.nightly.webhook"
_EMAIL = "e-mail"
_LONGEST = 300


def state(verdict: str) -> str:
    """The state that a verdict means."""
    if verdict in GOOD:
        return "good"
    return "regression" if verdict == "regression" else "broken"


def tell(record: Dict[str, Any], history: History, hooks: Sequence[Hook]) -> List[Told]:
    """Tells the hooks that have to know of a night, and keeps in the history how that went.

    Returns:
      what was told just now.
    """
    if any(later["date"] > record["date"] and later["verdict"] for later in history.records()):
        return []
    done = []
    for name in [*(hook.command or hook.url for hook in hooks), *([_EMAIL] if _has_email() else [])]:
        taken = [told for told in history.told(name) if not told.outcome]
        before = taken[-1].state if taken else "good"
        if before == state(record["verdict"]):
            continue
        message = dict(record, state=state(record["verdict"]), before=before)
        hook = next((hook for hook in hooks if name in (hook.command, hook.url)), None)
        outcome = run(hook, message) if hook else _mail(message)
        now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0).isoformat()
        told = Told(record["date"], name, message["state"], now, outcome)
        history.tell(told)
        done.append(told)
    return done


def run(hook: Hook, message: Dict[str, Any]) -> str:
    """Gives a hook the message as JSON on its standard input; returns what went wrong, '' if nothing did.

    It has a process group of its own, which is killed when its time is up.
    """
    try:
        command = [sys.executable, "-m", _WEBHOOK] if hook.url else shlex.split(hook.command)
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(os.environ, FSE_WEBHOOK=hook.url),
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return f"cannot be run: {error}"
    try:
        said, _ = child.communicate(json.dumps(message).encode(), timeout=hook.seconds)
    except subprocess.TimeoutExpired:
        return f"did not end within {hook.seconds:g} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        # What it left running may hold the pipes open; that is not waited for.
        child.wait()
        for pipe in (child.stdin, child.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
    if child.returncode == 0:
        return ""
    lines = said.decode(errors="replace").strip().splitlines()
    words = lines[-1][:_LONGEST] if lines else "it said nothing"
    return f"ended with exit code {child.returncode}: {words}"


def text(message: Dict[str, Any]) -> str:
    """A verdict in a few lines."""
    lines = ["{nightly} {date}: {verdict}".format(**message)]
    lines += [" ".join(filter(None, (reason["metric"], reason["words"]))) for reason in message["reasons"]]
    lines += ["commits since the last good night:", *message["commits"]] if message["commits"] else []
    return "\n".join(lines)


def _has_email() -> bool:
    """Whether Luigi would send a mail: to nobody, and from a terminal, it does not."""
    from luigi import notifications  # only where a scheduler is

    settings = notifications.email()
    quiet = settings.format == "none" or (sys.stdout.isatty() and not settings.force_send)
    return bool(settings.receiver) and not quiet


def _mail(message: Dict[str, Any]) -> str:
    """Sends it by Luigi's `[email]`; returns what went wrong, '' if nothing did."""
    from luigi import notifications

    # A logger for this mail alone: whether Luigi's own passes an error on depends on its settings.
    faults, luigis = _Faults(), notifications.logger
    notifications.logger = logging.Logger(luigis.name)
    notifications.logger.addHandler(faults)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", 'Parameter ".*" with value "None"')  # Luigi's own defaults
            notifications.send_error_email("{nightly} {date}: {verdict}".format(**message), text(message))
    except Exception as error:  # whatever a mail service's library raises, the night is over
        return f"cannot be sent: {error}"
    finally:
        notifications.logger = luigis
    return "; ".join(faults.said)


class _Faults(logging.Handler):
    """Keeps what is logged as an error: of a mail server that does not answer Luigi says no more than that."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: List[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())
