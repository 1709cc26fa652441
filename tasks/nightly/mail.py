"""E-mail about a nightly through Luigi's `[email]` settings."""

import logging
import sys
import warnings
from typing import List

# The name of the receiver in the history and on the page.
NAME = "e-mail"


def is_enabled() -> bool:
    """Return whether Luigi would send an e-mail. It sends none without a receiver, and none from a terminal by default."""
    from luigi import notifications  # loaded only where Luigi runs

    settings = notifications.email()
    suppressed = settings.format == "none" or (sys.stdout.isatty() and not settings.force_send)
    return bool(settings.receiver) and not suppressed


def send(subject: str, body: str) -> str:
    """Send an e-mail; return the error, or '' if it was sent."""
    from luigi import notifications

    # Luigi only logs that a mail server does not answer, and its own logger may be disabled. A logger for this e-mail alone
    # collects the error.
    errors, original = _ErrorCollector(), notifications.logger
    notifications.logger = logging.Logger(original.name)
    notifications.logger.addHandler(errors)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", 'Parameter ".*" with value "None"')  # caused by Luigi's own defaults
            notifications.send_error_email(subject, body)
    except Exception as error:  # the mail libraries raise many types, and none of them may stop the nightly
        return f"cannot be sent: {error}"
    finally:
        notifications.logger = original
    return "; ".join(errors.messages)


class _ErrorCollector(logging.Handler):
    """A log handler that keeps the messages of errors."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: List[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
