"""Environments: built once per set of requirements, from an index on disk, so no test needs a network."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import subprocess
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tailrace.build.environment import Environments, installer_env
from tailrace.build.requirements import Requirements, parse_requirements, read_requirements
from tailrace.errors import EnvironmentFailed, InvalidBundle
from tests.kit.loops import run
from tests.kit.patience import wait_until

NONE = Requirements(())


def make_index(folder: Path, *wheels: tuple[str, str, str]) -> str:
    """A package index of tiny wheels, each (name, version, what it requires); its address."""
    for name, version, requires in wheels:
        page = folder / name
        page.mkdir(parents=True, exist_ok=True)
        info = f"{name}-{version}.dist-info"
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        files = {
            f"{name}.py": f"VERSION = '{version}'\n",
            f"{info}/METADATA": metadata + (f"Requires-Dist: {requires}\n" if requires else ""),
            f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        rows = [f"{path},sha256={_digest(text)},{len(text)}\n" for path, text in files.items()]
        with zipfile.ZipFile(page / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
            for path, text in [*files.items(), (f"{info}/RECORD", "".join(rows))]:
                wheel.writestr(path, text)
        links = "".join(f"<a href='{path.name}'>{path.name}</a>\n" for path in page.glob("*.whl"))
        (page / "index.html").write_text(f"<html><body>{links}</body></html>")
    return folder.as_uri()


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


class Place:
    """Environments in a folder, with an index and a cache of their own, and what they told."""

    def __init__(self, folder: Path, *, index: str | None = None, **variables: str) -> None:
        self.folder = folder / "environments"
        self.folder.mkdir(exist_ok=True)
        url = index or make_index(
            folder / "index", ("food", "1.0", ""), ("food", "2.0", ""), ("runtimeless", "1.0", "food<2")
        )
        base = {"PATH": os.environ["PATH"], "HOME": str(folder), "UV_CACHE_DIR": str(folder / "cache")}
        self.env: Mapping[str, str] = base | {"UV_DEFAULT_INDEX": url, "UV_HTTP_RETRIES": "0"} | variables
        self.told: list[str] = []

    def open(self, runtime: str = "") -> Environments:
        return Environments(self.folder, runtime=parse_requirements(runtime), env=self.env)

    async def ensure(self, environments: Environments, text: str) -> Path:
        wanted = parse_requirements(text)
        return (await environments.ensure(wanted, name="stream", tell=self.told.append)).python


def version_of_food(python: Path) -> str:
    return subprocess.check_output([python, "-c", "import food; print(food.VERSION)"], text=True).strip()


def test_requirements_are_installed_and_compiled(tmp_path: Path) -> None:
    """The newest version that fits is there with its byte code, and the log says what went on."""
    place = Place(tmp_path)

    python = run(place.ensure(place.open("food<2"), "runtimeless\n"))

    assert "1.0" == version_of_food(python)
    assert list(python.parent.parent.glob("lib/*/site-packages/__pycache__/food.*.pyc"))
    assert "installing requirements of 'stream': runtimeless" == place.told[0]
    assert place.told[1].startswith("environment ready in ")


# As uv does when a package's build starts a server that stays, of a compiler for example.
LEAVING = """#!/bin/sh
sleep 60 </dev/null >/dev/null 2>&1 &
echo $! > "{0}"
echo the installer has ended >&2
exit 3
"""


def test_what_an_install_leaves_in_the_background_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It neither holds up the install nor outlives it; what was said before is told."""
    place, installer, left = Place(tmp_path), tmp_path / "uv", tmp_path / "left"
    installer.write_text(LEAVING.format(left))
    installer.chmod(0o755)
    monkeypatch.setattr("uv.find_uv_bin", lambda: str(installer))

    began = time.monotonic()
    with pytest.raises(EnvironmentFailed, match="the installer has ended"):
        run(place.ensure(place.open(), "food\n"))

    assert time.monotonic() - began < 10
    wait_until(lambda: not is_running(int(left.read_text())), "it is gone")


def is_running(pid: int) -> bool:
    """Whether there is such a process that is no zombie."""
    table = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return bool(table.stdout.strip()) and not table.stdout.strip().startswith("Z")


def test_equal_requirements_need_neither_installer_nor_network_again(tmp_path: Path) -> None:
    """Order, comments and blank lines do not matter; a later gateway finds the environment on disk."""
    first, second = Place(tmp_path), Place(tmp_path, index="http://127.0.0.1:9/", PATH="/nowhere")
    python = run(first.ensure(first.open(), "runtimeless\nfood # good\n"))

    assert python == run(second.ensure(second.open(), "# mine\n\nfood\nruntimeless  \n"))
    assert [] == second.told


def test_other_requirements_are_another_environment(tmp_path: Path) -> None:
    """The runtime's own requirements count too."""
    place = Place(tmp_path)

    async def act() -> set[Path]:
        wanted = [("", "food==1.0"), ("", "food==2.0"), ("food", "food==2.0")]
        return {await place.ensure(place.open(runtime), text) for runtime, text in wanted}

    assert 3 == len(run(act()))


def test_concurrent_builds_of_equal_requirements_build_once(tmp_path: Path) -> None:
    """Who comes second waits for the first, and both get the same."""
    place = Place(tmp_path)

    async def act() -> list[Path]:
        environments = place.open()
        return await asyncio.gather(*(place.ensure(environments, "food") for _ in range(5)))

    assert 1 == len(set(run(act())))
    assert 1 == sum(line.startswith("installing") for line in place.told)


def test_one_that_stops_waiting_does_not_end_the_others_build(tmp_path: Path) -> None:
    """Cancelling the first caller leaves the build to the second; cancelling all ends it without a trace."""
    place = Place(tmp_path)

    async def act() -> Path:
        environments = place.open()
        first, second = (asyncio.ensure_future(place.ensure(environments, "food")) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        only = asyncio.ensure_future(place.ensure(environments, "food==1.0"))
        await asyncio.sleep(0)
        only.cancel()
        await asyncio.wait([first, only])
        assert first.cancelled()
        assert only.cancelled()
        return await second

    assert "2.0" == version_of_food(run(act()))
    assert 1 == len(list(place.folder.iterdir()))


def test_an_environment_whose_interpreter_is_gone_is_built_anew(tmp_path: Path) -> None:
    """After an upgrade of Python took the old one away."""
    place = Place(tmp_path)
    python = run(place.ensure(place.open(), "food"))
    python.unlink()

    assert "2.0" == version_of_food(run(place.ensure(place.open(), "food")))


@pytest.mark.parametrize(
    ("text", "quoted", "hint"),
    [
        ("fodo", "fodo was not found in the package registry", "spelled"),
        ("food==1.5", "no version of food==1.5", "The runtime itself needs: food<2"),
        ("food==2.0", "food<2", "The runtime itself needs: food<2"),
    ],
)
def test_a_failed_installation_quotes_the_installer(
    tmp_path: Path, text: str, quoted: str, hint: str
) -> None:
    """A wrong name, a version that is not there, a conflict with the runtime: each says what to do."""
    place = Place(tmp_path)

    with pytest.raises(EnvironmentFailed, match="requirements of 'stream' could not be installed") as caught:
        run(place.ensure(place.open("food<2"), text))

    assert quoted in " ".join(caught.value.message.split())
    assert hint in (caught.value.hint or "")
    assert str(tmp_path / "environments") not in caught.value.message
    assert [] == list(place.folder.iterdir())


def test_a_network_that_is_down_is_told_without_credentials(tmp_path: Path) -> None:
    """The hint asks for the index; passwords in its address are not quoted."""
    place = Place(tmp_path, index="http://me:hunter2@127.0.0.1:9/simple")

    with pytest.raises(EnvironmentFailed) as caught:
        run(place.ensure(place.open(), "food"))

    assert "hunter2" not in caught.value.text
    assert "Is the package index reachable" in (caught.value.hint or "")


def test_the_installer_sees_only_what_it_needs() -> None:
    """Paths, certificates, proxies and its own settings; no keys of the gateway's shell."""
    passed = {"PATH", "HOME", "SSL_CERT_FILE", "SSL_CERT_DIR", "https_proxy", "NO_PROXY", "UV_X", "PIP_X"}
    others = {"OPENAI_API_KEY", "VIRTUAL_ENV", "PYTHONPATH", "TAILRACE_AUTH", "LANG"}

    assert passed | {"UV_SYSTEM_CERTS"} == set(installer_env(dict.fromkeys(passed | others, "x")))


def test_the_installer_trusts_what_the_machine_trusts_unless_told_otherwise() -> None:
    """Behind a company's own certificate authority pip works, and so must uv."""
    assert {"UV_SYSTEM_CERTS": "true"} == installer_env({})
    assert {"UV_SYSTEM_CERTS": "false"} == installer_env({"UV_SYSTEM_CERTS": "false"})


def test_ordinary_requirements_are_accepted_and_normalised() -> None:
    """Names, extras, markers, addresses, hashes, continued lines and index options."""
    sha = "0" * 64
    text = f"""\ufeff# mine
Flask >= 3 ; python_version > "3.8"  # comment
langchain-openai[x,y]~=1.0
a @ https://user:pw@host/a.whl#sha256={sha}
https://host/b-1.0-py3-none-any.whl
git+https://host/repo@v1#egg=c
locked==1.0 \\
    --hash=sha256:{sha} \\
    --hash=sha256:{sha}
-i https://index/simple
--extra-index-url=https://other/simple
--only-binary=:all:
--no-binary a,b
flask
flask
"""

    requirements = parse_requirements(text.lstrip("\ufeff"))

    assert requirements.lines == (
        "--extra-index-url https://other/simple",
        "--index-url https://index/simple",
        "--no-binary a,b",
        "--only-binary :all:",
        'Flask >= 3 ; python_version > "3.8"',
        f"a @ https://user:pw@host/a.whl#sha256={sha}",
        "flask",
        "git+https://host/repo@v1#egg=c",
        "https://host/b-1.0-py3-none-any.whl",
        "langchain-openai[x,y]~=1.0",
        f"locked==1.0 --hash=sha256:{sha} --hash=sha256:{sha}",
    )


@pytest.mark.parametrize(
    "line",
    [
        "-r other.txt", "-r/etc/passwd", "--requirement=/etc/passwd", "-c x", "-e .", "--editable /x",
        "--find-links /x", "-f /x", "--no-index", "--index-url file:///etc", "-i /etc",
        "--pre", "--python /x",
        "./x.whl", "../x", "/etc/x", "x/y", "x\\y", "x.whl", "x.tar.gz ; python_version > '3'", "~/x", ".",
        "a @ file:///etc/passwd", "a@./x", "a @ /etc", "a[b] @ file:/etc", "file:///etc/passwd",
        "git+file:///etc", "a --global-option=x", "a --hash=md5:00", "a --hash=sha256:zz", "a\x00b", "a\x1bb",
        "--only-binary=../x", "${HOME}/x", "-",
    ],
)  # fmt: skip
def test_lines_that_could_reach_files_of_the_server_are_refused(line: str) -> None:
    """Options and paths are refused with the line's number and what is supported."""
    with pytest.raises(InvalidBundle, match=r"requirements\.txt line 2: ") as caught:
        parse_requirements(f"flask\n{line}\n")

    assert "Supported are" in (caught.value.hint or "")


@pytest.mark.parametrize("password", ["geheim", "ge@geheim", "geheim" * 40])
def test_a_password_in_a_refused_line_is_not_shown(password: str) -> None:
    """Neither one with an '@' nor one that is longer than what is shown of the line."""
    with pytest.raises(InvalidBundle, match="line 1: ") as caught:
        parse_requirements(f"--index-addr https://user:{password}@host/simple")
    assert "***@host/simple" in caught.value.message
    assert "geheim" not in caught.value.message


@pytest.mark.parametrize("data", [b"\xff\xfe", b"flask\n" * 400_000])
def test_files_that_are_no_requirements_are_refused(tmp_path: Path, data: bytes) -> None:
    """Not UTF-8, or over 2 MiB."""
    (tmp_path / "requirements.txt").write_bytes(data)

    with pytest.raises(InvalidBundle, match=r"requirements\.txt is"):
        read_requirements(tmp_path / "requirements.txt")


def test_a_missing_file_asks_for_nothing(tmp_path: Path) -> None:
    """requirements.txt is optional."""
    assert NONE == read_requirements(tmp_path / "requirements.txt")
