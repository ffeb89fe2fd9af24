"""The proxies that are compared, each in front of the same source."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from bench.machine import accepts, child, family, find_nginx, free_port, python
from bench.rows import OURS
from bench.session import Contender, Session

PREFIX = "/function/fn/"
RIVALS = Path(__file__).parent / "rivals"
RIVAL_PROGRAMS = Path(__file__).parent.parent / ".venv-bench" / "bin"

# The same work as the edge: the headers it adds to requests and answers, a line per call into a file
# (buffered for as long as the edge does), connections to the upstream kept, nothing of an answer held back.
NGINX = """
daemon off; worker_processes {workers}; error_log stderr error; pid {folder}/nginx.pid;
worker_rlimit_nofile {files};
events {{ worker_connections {connections}; }}
http {{
  log_format call '$time_iso8601 call_id=$request_id function=fn method=$request_method status=$status '
                  'end_reason=$request_completion bytes=$body_bytes_sent first_byte_s=$upstream_header_time '
                  'total_s=$request_time client=$remote_addr';
  access_log {log};
  keepalive_requests 100000;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  upstream source {{ server unix:{upstream}; keepalive 16384; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=8192;
    location /function/fn/ {{
      proxy_pass http://source/; proxy_http_version 1.1; proxy_buffering off;
      proxy_set_header Host $http_host; proxy_set_header Connection "";
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Host $http_host; proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Call-Id $request_id; proxy_set_header X-Start-Time $msec;
      add_header X-Call-Id $request_id; add_header X-Start-Time $msec;
    }}
  }}
}}
"""


def _contender(name: str, port: int, pids: list[int]) -> Contender:
    return Contender(name, f"127.0.0.1:{port}", PREFIX, pids)


@contextlib.contextmanager
def edge(session: Session, *, is_pure: bool = False) -> Iterator[Contender]:
    """Tailrace's edge, alone in a process, with its call log and numbers on.

    Args:
        is_pure: In pure Python, as a clone runs it, also where the data path is compiled.
    """
    name = f"{OURS}, pure Python" if is_pure else OURS
    arguments = (str(session.source.path), str(session.folder / f"{name}.log"))
    with python("bench.edge", *arguments, is_pure=is_pure) as process:
        yield _contender(name, int(process.line()), [process.pid])


@contextlib.contextmanager
def nginx(session: Session, *, workers: int = 1, has_log: bool = True) -> Iterator[Contender]:
    """nginx with ``proxy_buffering off``; its master does nothing and is not counted."""
    name = ("nginx" if workers == 1 else f"nginx, {workers} workers") + ("" if has_log else ", no log")
    folder = session.folder / name.replace(", ", "-").replace(" ", "-")
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)  # its worker is another user
    port = free_port()
    log = f"{folder}/calls.log call buffer=64k flush=100ms" if has_log else "off"
    (folder / "nginx.conf").write_text(
        NGINX.format(
            workers=workers, folder=folder, upstream=session.source.path, port=port, log=log,
            files=session.file_limit, connections=session.file_limit,
        )
    )  # fmt: skip
    with child([find_nginx(), "-c", folder / "nginx.conf", "-p", folder]) as master:
        master.wait_for(lambda: accepts(("127.0.0.1", port)), "start to listen")
        master.wait_for(lambda: len(family(master.pid)) > workers, "start its workers")
        yield _contender(name, port, family(master.pid)[1:])


@contextlib.contextmanager
def aiohttp_proxy(session: Session) -> Iterator[Contender]:
    """A proxy as one writes it with aiohttp's server and client, on uvloop, without a log."""
    command = [RIVAL_PROGRAMS / "python", RIVALS / "aiohttp_proxy.py", session.source.path]
    with child(command) as process:
        yield _contender("aiohttp", int(process.line()), [process.pid])
