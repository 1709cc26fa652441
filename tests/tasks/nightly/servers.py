"""A web server and a mail server on this host, for tests of alarms."""

import contextlib
import http.server
import json
import socketserver
import threading
from typing import Any, ClassVar, Dict, Iterator, List, Tuple


class WebhookHandler(http.server.BaseHTTPRequestHandler):
    """A handler that responds with the status code that the path begins with; `/hang` gets no response."""

    requests: ClassVar[List[Tuple[str, str, Dict[str, Any]]]] = []  # path, content type and JSON body
    release = threading.Event()  # ends the requests that hang

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.requests.append((self.path, self.headers["Content-Type"], json.loads(body.decode())))
        if self.path == "/hang":
            self.release.wait(60)
            return
        self.send_response(int(self.path[1:4]))
        self.send_header("Location", "/200")
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


class MailHandler(socketserver.StreamRequestHandler):
    """A handler with as much of SMTP (RFC 5321) as a client needs."""

    mails: ClassVar[List[str]] = []
    rejection = ""  # the response to the recipient of a mail; '' accepts it

    def handle(self) -> None:
        self.respond("220 here")
        for line in iter(self.rfile.readline, b""):
            verb = line[:4].upper().strip()
            if verb == b"DATA":
                self.respond("354 go on")
                lines = list(iter(self.rfile.readline, b".\r\n"))
                self.mails.append(b"".join(lines).decode())
            if verb == b"RCPT" and self.rejection:
                self.respond(self.rejection)
                continue
            self.respond("221 bye" if verb == b"QUIT" else "250 ok")
            if verb == b"QUIT":
                return

    def respond(self, line: str) -> None:
        self.wfile.write(line.encode() + b"\r\n")


@contextlib.contextmanager
def mail_server() -> Iterator[socketserver.TCPServer]:
    """Yield a running mail server; `MailHandler.mails` holds what it received."""
    MailHandler.mails.clear()
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), MailHandler)
    server.daemon_threads = True  # Luigi does not close a connection whose mail was rejected
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
