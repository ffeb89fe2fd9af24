"""settings: where values come from, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailrace.errors import InvalidRequest
from tailrace.settings import ROWS, load

EVERY_KIND = """
auth = true
port = 0
drain_s = 2.5
idle_timeout_s = 7
log_format = "json"
metrics_port = "off"
trusted_proxies = ["10.0.0.0/8", "::1"]
tls_cert = "pem/cert.pem"
tls_key = "/abs/key.pem"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a test writes its settings."""
    return tmp_path / "settings.toml"


def test_flag_wins_over_environment_over_file_over_default(file: Path) -> None:
    """And each value remembers which it was."""
    file.write_text("port = 1\nhost = '127.0.0.3'\nqueue_limit = 3\n")

    settings = load({"port": 3, "settings": file}, {"TAILRACE_PORT": "2", "TAILRACE_HOST": "127.0.0.2"})

    assert (3, "127.0.0.2", 3, "8082") == (
        settings.port, settings.host, settings.queue_limit, str(settings.metrics_port)
    )  # fmt: skip
    names = ("port", "host", "queue_limit", "metrics_port", "settings")
    assert ["flag", "environment", "file", "default", "flag"] == [settings.sources[name] for name in names]


def test_a_file_holds_every_kind_of_value(file: Path) -> None:
    """Numbers, truths, texts, lists; a relative path counts from the file's folder, not from here."""
    file.write_text(EVERY_KIND)

    settings = load(env={"TAILRACE_SETTINGS": str(file)})

    assert (True, 0, 2.5, 7.0) == (settings.auth, settings.port, settings.drain_s, settings.idle_timeout_s)
    assert ("json", None) == (settings.log_format, settings.metrics_port)
    assert ["10.0.0.0/8", "::1/128"] == [str(network) for network in settings.trusted_proxies]
    assert (file.parent / "pem/cert.pem", Path("/abs/key.pem")) == (settings.tls_cert, settings.tls_key)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('port = "8080"', 'port = "8080" is not valid: expected a number, without quotes'),
        ("port = 70000", "port = 70000 is not valid: expected a whole number from 0 to 65535"),
        ('metrics_port = "no"', 'metrics_port = "no" is not valid: expected a whole number .*, or off'),
        ("port = 80.0", "port = 80.0 is not valid: expected a whole number from 0 to 65535"),
        ("port = true", "port = true is not valid: expected a whole number from 0 to 65535"),
        ("auth = 1", "auth = 1 is not valid: expected true or false"),
        ('auth = "true"', 'auth = "true" is not valid: expected true or false'),
        ("host = 1", "host = 1 is not valid: expected a text in quotes"),
        ("drain_s = nan", "drain_s = NaN is not valid: expected seconds from 0 to 86400"),
        ("drain_s = inf", "drain_s = Infinity is not valid: expected seconds from 0 to 86400"),
        ('log_format = "xml"', 'log_format = "xml" is not valid: expected text, json or off'),
        ("state_dir = 2026-01-01", 'state_dir = "2026-01-01" is not valid: expected a text in quotes'),
        ("trusted_proxies = [1.5]", "trusted_proxies = \\[1.5\\] is not valid: expected addresses"),
        ("[port]", "port = {} is not valid: expected a whole number"),
        ("settings = 'other'", "'settings' is not a setting"),
        ("port = ", "is not TOML: Invalid value"),
        (f"port = {'[' * 5000}", "is not TOML: maximum recursion depth"),
        (f"port = 0x{'f' * 5000}", "port = a number of too many digits is not valid: expected"),
        ('tls_cert = "~nobody-here/x"', "tls_cert = .* is not valid: expected a path; .* no home folder"),
        ('state_dir = "a\\u0000b"', r"state_dir = .* is not valid: expected a path"),
        ('state_dir = ""', 'state_dir = "" is not valid: expected a path'),
        ("nats_url = []", "nats_url = \\[\\] is not valid: expected embedded, off, or URLs"),
        ("\udcff", "is not TOML: 'utf-8' codec"),
    ],
)
def test_a_wrong_value_is_refused_with_file_key_value_and_what_was_expected(
    file: Path, line: str, expected: str
) -> None:
    """A mistake never becomes a default."""
    file.write_text(line, errors="surrogateescape")

    with pytest.raises(InvalidRequest, match=expected) as refused:
        load({"settings": file}, {})

    assert str(file) in refused.value.message


def test_an_unknown_key_is_refused_with_the_nearest(file: Path) -> None:
    """A typing error does not go unseen."""
    file.write_text("idle_timeout = 3")

    with pytest.raises(InvalidRequest, match="'idle_timeout' is not a setting") as refused:
        load({"settings": file}, {})

    assert "Did you mean 'idle_timeout_s'?" == refused.value.hint


def test_a_file_that_is_not_there_is_an_error(file: Path) -> None:
    """Whoever named it wanted it."""
    with pytest.raises(InvalidRequest, match=r"settings.toml' cannot be read: No such file"):
        load({"settings": file}, {})


def test_a_value_of_the_environment_names_its_variable() -> None:
    """The person finds where it was said."""
    with pytest.raises(InvalidRequest, match=r"^TAILRACE_PORT=x is not valid: expected a whole number"):
        load(env={"TAILRACE_PORT": "x"})


@pytest.mark.parametrize("name", ["TAILRACE_STATE_DIR", "TAILRACE_SECRET_MOUNT_PATH", "TAILRACE_NATS_URL"])
def test_a_variable_that_is_empty_means_neither_this_folder_nor_off(name: str) -> None:
    """A shell's variable that nobody set puts no secrets into the current folder and loses no calls."""
    with pytest.raises(InvalidRequest, match=rf"^{name}= is not valid: expected "):
        load(env={name: ""})


def test_every_default_parses() -> None:
    """And no default is taken for given."""
    settings = load(env={})

    assert {"default"} == set(settings.sources.values())
    assert {row.name for row in ROWS} == set(settings.sources)
