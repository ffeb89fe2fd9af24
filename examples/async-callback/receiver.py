"""Receives results of asynchronous calls, and looks at their signatures. Nothing but Python is needed.

tailrace queue key > callback.key
python receiver.py callback.key 9000
"""

import hashlib
import hmac
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

SECRET = Path(sys.argv[1]).read_bytes().strip()
OLDEST_S = 300
seen = set()


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        # One outcome of a call: CALL-ID-1; CALL-ID-2 once `tailrace queue retry` has had it made again.
        delivery, status = self.headers["X-Tailrace-Delivery"], self.headers["X-Function-Status"]
        sent = self.headers["X-Tailrace-Timestamp"]
        signed = f"{sent}.{delivery}.{status}.".encode() + body
        expected = "sha256=" + hmac.new(SECRET, signed, hashlib.sha256).hexdigest()
        # Compared in constant time; an old one may have been overheard and sent again.
        if (
            not hmac.compare_digest(expected, self.headers["X-Tailrace-Signature"] or "")
            or abs(time.time() - int(sent)) > OLDEST_S
        ):
            self.reply(401)
        elif delivery in seen:  # at least once means: now and then twice
            self.reply(200)
        else:
            seen.add(delivery)
            self.reply(200)
            call = delivery.partition("-")[0]
            name, seconds = self.headers["X-Function-Name"], self.headers["X-Duration-Seconds"]
            print(f"{call}: {name} answered {status} after {seconds} s, {self.headers['X-Retry']} retries")
            print(body.decode(errors="replace"), flush=True)

    def reply(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    server = HTTPServer(("127.0.0.1", int(sys.argv[2])), Receiver)
    print(f"listening on http://127.0.0.1:{server.server_port}/", flush=True)
    server.serve_forever()
