"""What the benchmarks share: child processes that end with us, their CPU time and memory, nginx."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path


def raise_file_limit() -> None:
    """Thousands of connections need thousands of descriptors, here and in the children."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def cpu_s(pids: list[int]) -> float:
    """Seconds of CPU that these processes have used so far, all threads, counted by the scheduler in ns."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def rss_mib(pid: int) -> float:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextlib.contextmanager
def python(module: str, *args: str) -> Iterator[tuple[int, str]]:
    """A Python module as a child: its pid, and the first line it prints once it is ready."""
    child = subprocess.Popen(
        [sys.executable, "-m", module, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        yield child.pid, child.stdout.readline().strip()
    finally:
        child.kill()
        child.communicate()


def find_nginx() -> str:
    """nginx's path; ends the program with the command that installs it."""
    found = shutil.which(
        "nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin:/opt/homebrew/bin"
    )
    if found is None:
        sys.exit("nginx is not installed; install it: sudo apt-get install -y nginx")
    return found


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


NGINX = """
daemon off; worker_processes {workers}; error_log stderr error; pid {folder}/nginx.pid;
worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 1000000000;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  upstream source {{ server unix:{upstream}; keepalive 4096; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    location /function/fn/ {{
      proxy_pass http://source/; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Call-Id $request_id;
      proxy_buffering off;
    }}
  }}
}}
"""


@contextlib.contextmanager
def nginx(folder: Path, upstream: str, *, workers: int = 1) -> Iterator[tuple[list[int], int]]:
    """nginx with ``proxy_buffering off`` before the same upstream: its workers' pids and its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(workers=workers, folder=folder, upstream=upstream, port=port))
    child = subprocess.Popen([find_nginx(), "-c", str(config), "-p", str(folder)], stderr=subprocess.DEVNULL)
    try:
        while True:
            assert child.poll() is None, "nginx did not start"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
        while len(pids := _children(child.pid)) < workers:
            time.sleep(0.01)
        yield pids, port
    finally:
        child.terminate()
        child.wait()
