"""The process provider: it conforms, tells why a replica did not start, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import tailrace_runtime
from tailrace.errors import EnvironmentFailed, HandlerNotLoaded, InvalidDeployment
from tailrace.model import FunctionSpec
from tailrace.provider.conformance import CHECKS, Behaviour, Check, Subject, run_check
from tailrace.provider.process import provider
from tailrace.provider.process.runtime import RuntimeCopy
from tests.kit.loops import run
from tests.kit.process import House, open_house

REPO = Path(__file__).parent.parent.parent
HANDLERS: dict[Behaviour, str] = {
    "answers": "",
    "cannot-load": "import numpy_that_is_not_there\n",
    "never-loads": "import threading; threading.Event().wait()\n",
    "stubborn": "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n",
}


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conforms(tmp_path: Path, check: Check, loop: str) -> None:
    """The process provider passes the suite, on the gateway's loop and on the standard one."""

    @asynccontextmanager
    async def open_subject() -> AsyncIterator[Subject]:
        async with open_house(tmp_path) as house:

            async def make_spec(name: str, behaviour: Behaviour) -> FunctionSpec:
                return await house.deploy(name, HANDLERS[behaviour])

            yield Subject(house.provider, make_spec)

    (run if loop == "uvloop" else asyncio.run)(run_check(check, open_subject))


def in_house(tmp_path: Path, act: Callable[[House], Awaitable[None]], **options: float) -> None:
    """Run act in a house, and check that nothing of it is left afterwards."""

    async def main() -> None:
        async with open_house(tmp_path, **options) as house:  # type: ignore[arg-type]  # load_timeout_s only
            await act(house)
            await house.provider.aclose()
            assert [] == [*house.state.replicas.iterdir(), *house.state.sockets.iterdir()]

    run(main())


def test_a_handler_that_cannot_load_is_quoted(tmp_path: Path) -> None:
    """The error has the traceback's last lines and the runtime's hint."""

    async def act(house: House) -> None:
        spec = await house.deploy("f", "def load():\n    import numpy_x\nload()\n")
        with pytest.raises(HandlerNotLoaded, match="handler of 'f' could not be loaded") as caught:
            await house.provider.start(spec, "f-1")
        assert 'File "function/handler.py", line 2, in load' in caught.value.message
        assert "No module named 'numpy_x'" in caught.value.message
        assert caught.value.hint == "mend it"

    in_house(tmp_path, act)


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        ("import os; print('last word', flush=True); os._exit(7)", "ended with exit code 7 before"),
        ("import os; os.write(2, b'last word'); os.kill(os.getpid(), 11)", "was killed by SIGSEGV before"),
        ("print('last word', flush=True); import threading; threading.Event().wait()", "within 0.5 s|1 s"),
    ],
)
def test_a_replica_that_ends_or_hangs_while_loading_is_told(
    tmp_path: Path, handler: str, expected: str
) -> None:
    """The error says how it ended and quotes what it wrote last."""

    async def act(house: House) -> None:
        with pytest.raises(HandlerNotLoaded, match=expected) as caught:
            await house.provider.start(await house.deploy("f", handler), "f-1")
        assert caught.value.message.endswith("its last words:\nlast word")

    in_house(tmp_path, act, load_timeout_s=1.0)


SHOW = "import json, os, boot\nboot.tell({{'type': 'log', 'text': json.dumps({})}})"


def test_a_replica_sees_only_the_variables_it_is_meant_to(tmp_path: Path) -> None:
    """PATH, LANG, TZ, certificates, proxies, its own HOME and TMPDIR, and the stack file's; no more."""
    given = {
        "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC", "SSL_CERT_FILE": "/c", "HOME": "/root",
        "https_proxy": "http://p", "NO_PROXY": "x", "AWS_SECRET_ACCESS_KEY": "s", "TAILRACE_X": "s",
        "UV_CACHE_DIR": str(tmp_path / "uv"), "PIP_X": "s", "PYTHONPATH": "/evil",
    }  # fmt: skip

    async def main() -> None:
        async with open_house(tmp_path, env=given) as house:
            spec = await house.deploy("f", SHOW.format("dict(os.environ)"))
            replica = await house.provider.start(replace(spec, env={"MODEL": "m", "TZ": "CET"}), "f-1")
            seen = json.loads(house.text(instance="f-1"))
            home, tmp = seen.pop("HOME"), seen.pop("TMPDIR")
            seen.pop("LC_CTYPE", None)  # Python's own, where LANG is C
            path = seen.pop("PATH").split(":")
            assert path[1:] == ["/usr/bin", "/bin"]
            assert (Path(path[0]) / "python").exists()
            expected = {"LANG": "C.UTF-8", "TZ": "CET", "SSL_CERT_FILE": "/c", "MODEL": "m"}
            assert seen == expected | {"https_proxy": "http://p", "NO_PROXY": "x"}
            assert [0o700, 0o700] == [stat.S_IMODE(os.stat(path).st_mode) for path in (home, tmp)]  # noqa: PTH116
            await replica.stop(1)
            assert [] == [*house.state.replicas.iterdir()]

    run(main())


def test_the_boot_config_is_what_the_contract_says(tmp_path: Path) -> None:
    """The runtime is told its function, id, socket, kind, folder, worker and secrets' files."""

    async def act(house: House) -> None:
        await house.provider.set_secret("openfaas-fn", "api-key", b"k")
        spec = await house.deploy("f", SHOW.format("[boot.boot, os.getcwd()]"))
        annotations = {"com.tailrace.worker": "threads"}
        replica = await house.provider.start(
            replace(spec, secrets=("api-key",), annotations=annotations), "f-1"
        )
        boot, cwd = json.loads(house.text(instance="f-1"))
        secret = house.state.secrets / "openfaas-fn" / "api-key"
        root = house.state.replicas / "f-1" / "root"
        assert 0 < boot.pop("report_fd")
        assert cwd == str(root)
        assert boot == {
            "function": "f.openfaas-fn", "instance": "f-1", "socket": replica.address.path, "kind": "flask",
            "root": str(root), "worker": "threads", "secrets": {"api-key": str(secret)},
            "folder": str(root.parent),
        }  # fmt: skip
        assert (secret.read_bytes(), stat.S_IMODE(secret.stat().st_mode)) == (b"k", 0o600)
        assert len(replica.address.path.encode()) < 104
        assert 0.25 == replica.import_s

    in_house(tmp_path, act)


CHATTY = """
import os, sys, boot
print("plain")
sys.stdout.flush()
os.write(2, b"\\xff" + b"x" * 200_000 + b"\\n")
report = boot.boot["report_fd"]
os.write(report, b"garbage\\n" * 1000 + b"[" * 60_000 + b"\\n" + b'{"type":"loaded","import_s":"x"}\\n')
os.write(report, b'{"type":"log","text":"' + b"y" * 300_000 + b'"}\\n')
boot.tell({"type": "log", "stream": "stderr", "text": "in a call", "call": "abc123"})
boot.tell({"type": "log", "stream": "stderr", "text": "odd call", "call": "a\\nb"})
for number in range(30_000):
    os.write(1, b"%d\\n" % number)
"""


def test_what_a_replica_writes_becomes_bounded_log_lines(tmp_path: Path) -> None:
    """Lines keep their stream and call, long ones come in pieces, garbage is told once, none is lost."""

    async def act(house: House) -> None:
        replica = await house.provider.start(await house.deploy("f", CHATTY), "f-1")
        await replica.stop(5)
        lines = [line for line in house.logged if line.instance == "f-1"]
        assert max(len(line.text) for line in lines) <= 66_560
        assert house.text("stderr").count("x") >= 200_000
        assert 1 == sum("report pipe" in line.text for line in lines)
        assert [("in a call", "abc123"), ("odd call", "")] == [
            (line.text, line.call_id) for line in lines if line.text in ("in a call", "odd call")
        ]
        numbers = [line.text for line in lines if line.stream == "stdout"]
        assert ["plain\n", *(f"{number}\n" for number in range(30_000))] == numbers

    in_house(tmp_path, act)


GRANDCHILD = """
import os, socket, subprocess, sys
link = socket.socket(socket.AF_UNIX)
link.connect(os.environ["LINK"])
subprocess.Popen(["sleep", "600"], pass_fds=[link.fileno()])
link.close()
"""


@contextmanager
def grandchild_link() -> Iterator[tuple[str, socket.socket]]:
    """A listening socket: who connects holds the connection's other end until it is dead."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{folder}/link")  # not below tmp_path: a socket's path has at most 103 bytes on macOS
        server.listen()
        server.settimeout(20)
        yield f"{folder}/link", server


@pytest.mark.parametrize("how", ["stop", "crash"])
def test_children_of_the_handler_die_with_the_replica(tmp_path: Path, how: str) -> None:
    """The replica's whole group is dead once its exit is told, however it ended."""

    async def act(house: House) -> None:
        with grandchild_link() as (path, server):
            spec = await house.deploy("f", GRANDCHILD)
            replica = await house.provider.start(replace(spec, env={"LINK": path}), "f-1")
            link, _ = server.accept()
            if how == "crash":
                os.kill(replica.pid, signal.SIGKILL)
                assert -9 == (await replica.wait_exit()).code
            else:
                assert 0 == (await replica.stop(5)).code
            link.settimeout(5)
            assert b"" == link.recv(1)  # EOF: nobody holds the other end
            link.close()

    in_house(tmp_path, act)


GATEWAY = """
import asyncio, dataclasses, os, sys
from pathlib import Path
from tests.kit.process import open_house
async def main():
    async with open_house(Path(sys.argv[1])) as house:
        spec = await house.deploy("f", sys.argv[2])
        await house.provider.start(dataclasses.replace(spec, env={"LINK": sys.argv[3]}), "f-1")
        print("ready", flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


def test_a_gateway_killed_with_kill_9_takes_every_replica_with_it(tmp_path: Path) -> None:
    """Replica and grandchild are dead soon after, and the next gateway finds a clean house."""

    async def main() -> None:
        with grandchild_link() as (path, server):
            handler = GRANDCHILD.replace("link.close()", "")
            gateway = subprocess.Popen(  # noqa: ASYNC220  # the test has nothing else to do
                [sys.executable, "-c", GATEWAY, str(tmp_path), handler, path],
                stdout=subprocess.PIPE, cwd=REPO, env=os.environ | {"PYTHONPATH": str(REPO)},
            )  # fmt: skip
            link, _ = server.accept()
            assert gateway.stdout is not None
            assert b"ready\n" == gateway.stdout.readline()

            gateway.kill()

            link.settimeout(5)
            assert b"" == link.recv(1)
            gateway.wait()
            gateway.stdout.close()
            link.close()
        async with open_house(tmp_path) as house:
            assert [] == [*house.state.replicas.iterdir(), *house.state.sockets.iterdir()]

    asyncio.run(main())


def test_variables_that_cannot_be_set_are_refused(tmp_path: Path) -> None:
    """A name with '=' and more than the system takes are the deployment's fault."""

    async def act(house: House) -> None:
        spec = await house.deploy("f", "")
        for env in ({"A=B": "x"}, {"": "x"}, {"A": "x\0"}, {"A": "x" * 3_000_000}):
            with pytest.raises(InvalidDeployment, match="'f'"):
                await house.provider.start(replace(spec, env=env), "f-1")

    in_house(tmp_path, act)


def test_deployments_are_neither_saved_nor_restored_when_not_persistent(tmp_path: Path) -> None:
    """`tailrace up` leaves what `tailrace serve` saved as it is."""

    async def main() -> None:
        async with open_house(tmp_path) as house:
            saved = await house.deploy("f", "")
            await house.provider.save_spec(saved)
        async with open_house(tmp_path, persistent=False) as house:
            await house.provider.save_spec(replace(saved, image="other"))
            await house.provider.forget_spec(saved.name)
            assert [] == await house.provider.load_specs()
            assert [] == await house.provider.bundles.prune({saved.bundle}, min_age_s=0)
        async with open_house(tmp_path) as house:
            assert [saved] == await house.provider.load_specs()

    run(main())


def test_a_saved_deployment_that_is_damaged_is_told_and_the_others_restored(tmp_path: Path) -> None:
    """One broken file does not keep the gateway from starting."""

    async def act(house: House) -> None:
        good = await house.deploy("good", "")
        await house.provider.save_spec(good)
        (house.state.functions / "bad.openfaas-fn.json").write_text('{"format":1')
        (house.state.functions / "worse.openfaas-fn.json").write_text(json.dumps({"format": 9, "spec": {}}))
        assert [good] == await house.provider.load_specs()
        assert 2 == house.text().count("cannot be read, so it is not restored")

    in_house(tmp_path, act)


def test_requirements_that_are_refused_fail_the_environment(tmp_path: Path) -> None:
    """A bundle that an older Tailrace took in with lines that are no longer accepted says which."""

    async def act(house: House) -> None:
        spec = await house.deploy("f", "")
        file = house.provider.bundles.path(spec.bundle) / "function" / "requirements.txt"
        file.chmod(0o600)
        file.write_text("-r /etc/passwd\n")
        with pytest.raises(EnvironmentFailed, match="line 1: '-r /etc/passwd'"):
            await house.provider.prepare(spec)

    in_house(tmp_path, act)


def test_the_runtime_is_copied_once_and_read_only(tmp_path: Path) -> None:
    """Later starts and later gateways use the copy; older copies are removed."""

    async def main() -> None:
        copies = []
        for _ in range(2):
            async with open_house(tmp_path) as house:
                (house.state.runtime / "older").mkdir(exist_ok=True)
                await house.provider.prepare(await house.deploy("f", ""))
                copies.append([(path, path.stat().st_ino) for path in house.state.runtime.iterdir()])
                files = copies[0][0][0].rglob("*")
                assert not [path for path in files if stat.S_IMODE(path.stat().st_mode) & 0o222]
        assert copies[0] == copies[1]
        assert 1 == len(copies[0])

    run(main())


def names(folder: Path) -> set[str]:
    """What a folder holds."""
    return {path.name for path in folder.iterdir()}


def test_a_start_that_is_cancelled_leaves_the_copy_of_the_runtime_to_the_next(tmp_path: Path) -> None:
    """The copy goes on without its caller, and a second caller neither begins another nor disturbs it."""

    async def main() -> None:
        copy = RuntimeCopy(tmp_path, Path(tailrace_runtime.__file__).parent)
        first = asyncio.create_task(copy.ensure())
        while not names(tmp_path):  # until the copying has begun
            await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        (tmp_path / ".tmp-other").mkdir()

        place = await copy.ensure()

        assert first.cancelled()
        assert (place / "__main__.py").is_file()
        assert {place.name, ".tmp-other"} == names(tmp_path)

    run(main())


def test_a_start_that_is_cancelled_or_fails_leaves_no_copy_of_its_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever: a save may come while the replica of the last one is being started, or the disk be full."""
    has_begun, may_go_on, is_full = threading.Event(), threading.Event(), threading.Event()
    copy = provider._copy_file

    def slow(source: str, target: str) -> None:
        copy(source, target)
        has_begun.set()
        may_go_on.wait(20)
        if is_full.is_set():
            raise OSError(errno.ENOSPC, "No space left on device", target)

    async def act(house: House) -> None:
        spec = await house.deploy("f", "")
        monkeypatch.setattr(provider, "_copy_file", slow)
        starting = asyncio.ensure_future(house.provider.start(spec, "f-1"))
        assert await asyncio.to_thread(has_begun.wait, 20)
        starting.cancel()
        may_go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert [] == [*house.state.replicas.iterdir()]

        is_full.set()
        with pytest.raises(OSError, match="No space left"):
            await house.provider.start(spec, "f-2")
        assert [] == [*house.state.replicas.iterdir()]

    in_house(tmp_path, act)


def test_a_copy_of_the_runtime_that_failed_is_tried_again(tmp_path: Path) -> None:
    """A disk that was full is no reason to refuse every later start; nothing half-made is left."""

    async def main() -> None:
        copy = RuntimeCopy(tmp_path / "runtime", Path(tailrace_runtime.__file__).parent)
        with pytest.raises(FileNotFoundError):
            await copy.ensure()
        (tmp_path / "runtime").mkdir()

        place = await copy.ensure()

        assert {place.name} == names(tmp_path / "runtime")

    run(main())
