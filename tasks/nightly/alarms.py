"""Alarms: programs, webhooks and e-mail that are notified when the nightly's state changes.

The states are `good` (pass and warn), `regression`, and `broken` (infrastructure and no-data). A hook is notified if the
state differs from the last one that was delivered to it. A hook that failed is therefore notified again after the next
night. Nights before the newest one, which are run later to fill a gap, cause no alarms. A failing hook does not change the
verdict.
"""

import contextlib
import functools
import json
import os
import shlex
import signal
import subprocess
import sys
from typing import Any, Callable, Dict, List, Sequence, Tuple

from fse.runtime.clock import utc_timestamp
from tasks.nightly import mail
from tasks.nightly.config import Hook
from tasks.nightly.history import History, Notification, Record
from tasks.nightly.verdicts import state_of

# The program that posts to a webhook's URL.
_WEBHOOK_MODULE = "tasks.nightly.webhook"

# How much of a failed hook's last line is kept.
_MAX_OUTPUT_CHARACTERS = 300


def notify(record: Record, history: History, hooks: Sequence[Hook]) -> List[Notification]:
    """Notify all hooks that do not know the state of a night yet, and store the notifications in the history.

    Returns:
      the new notifications.
    """
    if any(later["date"] > record["date"] and later["verdict"] for later in history.records()):
        return []
    receivers: List[Tuple[str, Callable[[Dict[str, Any]], str]]]
    receivers = [(hook.name, functools.partial(run_hook, hook)) for hook in hooks]
    if mail.is_enabled():
        receivers.append((mail.NAME, _send_mail))
    state, sent = state_of(record["verdict"]), []
    for name, send in receivers:
        previous = _delivered_state(history, name)
        if previous == state:
            continue
        error = send(dict(record, state=state, before=previous))
        sent.append(Notification(record["date"], name, state, utc_timestamp(), error))
        history.save_notification(sent[-1])
    return sent


def run_hook(hook: Hook, message: Dict[str, Any]) -> str:
    """Run a hook with the message as JSON on its standard input; return the error, or '' if it succeeded.

    The hook gets a process group of its own, which is killed when the time limit is reached.
    """
    try:
        command = [sys.executable, "-m", _WEBHOOK_MODULE] if hook.url else shlex.split(hook.command)
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # The URL may be secret. A command line is visible to other users, the environment is not.
            env=dict(os.environ, FSE_WEBHOOK=hook.url),
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return f"cannot be started: {error}"
    try:
        output, _ = child.communicate(json.dumps(message).encode(), timeout=hook.seconds)
    except subprocess.TimeoutExpired:
        return f"did not end within {hook.seconds:g} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        # A grandchild may still hold the pipes open, so close them instead of reading to the end.
        child.wait()
        for pipe in (child.stdin, child.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
    if child.returncode == 0:
        return ""
    lines = output.decode(errors="replace").strip().splitlines()
    last_line = lines[-1][:_MAX_OUTPUT_CHARACTERS] if lines else "no output"
    return f"ended with exit code {child.returncode}: {last_line}"


def in_words(record: Record) -> str:
    """Return the verdict of a night in a few lines."""
    lines = [f"{record['nightly']} {record['date']}: {record['verdict']}"]
    lines += [": ".join(filter(None, (reason["metric"], reason["words"]))) for reason in record["reasons"]]
    if record["commits"]:
        lines += ["commits since the last good night:", *record["commits"]]
    return "\n".join(lines)


def _delivered_state(history: History, name: str) -> str:
    """Return the last state that was delivered to a receiver; `good` if there is none."""
    delivered = [notification for notification in history.notifications(name) if not notification.outcome]
    return delivered[-1].state if delivered else "good"


def _send_mail(message: Dict[str, Any]) -> str:
    return mail.send(f"{message['nightly']} {message['date']}: {message['verdict']}", in_words(message))
