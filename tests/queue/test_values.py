"""When a call is tried again, where a result may go, what a signature says: pure values."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from tailrace.errors import CallerError, InvalidDeployment, InvalidRequest, NotAllowed
from tailrace.options import read_options
from tailrace.queue.calls import Outcome, call_subject, consumer_name, parse_consumer
from tailrace.queue.policy import Policy, Verdict, judge, policy_of, read_retry_after, wait_s
from tailrace.queue.signing import sign
from tailrace.queue.targets import check_addresses, is_public, read_target
from tailrace.retries import DEFAULT_CODES, Retries
from tailrace.settings import load
from tests.kit.addresses import PRIVATE, PUBLIC

POLICY = Policy(3, DEFAULT_CODES, 10.0, 120.0, after_first_byte=False)


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [
        (Outcome("done", 200, tries=1), "over"),
        (Outcome("failed", 500, tries=1), "over"),
        (Outcome("cancelled", 409, is_ours=True), "over"),
        (Outcome("streaming", is_busy=True), "busy"),
        *((Outcome("queued", status, tries=1), "again") for status in DEFAULT_CODES),
        *((Outcome("queued", status, tries=3), "give_up") for status in DEFAULT_CODES),
        (Outcome("queued", 500, is_begun=True, tries=1), "give_up"),
        (Outcome("queued", 200, tries=1), "again"),  # broken after its head, before its first byte
        (Outcome("queued", 0, tries=1), "again"),
        (Outcome("", 507, is_ours=True, tries=1), "again"),
        (Outcome("", 404, is_ours=True, tries=1), "give_up"),
        (Outcome("", 413, is_ours=True, tries=1), "give_up"),
    ],
)
def test_what_follows_a_try(outcome: Outcome, verdict: Verdict) -> None:
    """Over, again, or given up; never again after a byte, or after the last try."""
    assert verdict == judge(outcome, POLICY)


def test_a_function_may_have_its_own_rules() -> None:
    """Codes, and whether a byte ends it; what the platform says is tried again all the same."""
    own = Policy(3, frozenset((418,)), 1.0, 1.0, after_first_byte=True)

    assert "again" == judge(Outcome("queued", 418, tries=1), own)
    assert "give_up" == judge(Outcome("queued", 503, tries=1), own)
    assert "again" == judge(Outcome("queued", 503, is_ours=True, tries=1), own)
    assert "again" == judge(Outcome("queued", 200, is_begun=True, tries=1), own)


@pytest.mark.parametrize(
    ("tries", "asked_s", "chance", "expected"),
    [
        (1, None, 1.0, 10.0),
        (2, None, 1.0, 20.0),
        (4, None, 0.5, 40.0),
        (5, None, 1.0, 120.0),
        (10_000, None, 1.0, 120.0),
        (1, None, 0.0, 0.0),
        (1, 30.0, 0.5, 30.0),
        (5, 30.0, 1.0, 120.0),
        (1, 1e9, 0.5, 3600.0),
    ],
)
def test_the_wait_doubles_below_its_bound(
    tries: int, asked_s: float | None, chance: float, expected: float
) -> None:
    """Full jitter; what `Retry-After` asks for is the least, an hour the most."""
    assert expected == wait_s(POLICY, tries, asked_s, chance)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", 3.0),
        ("", None),
        ("-1", None),
        ("soon", None),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 40.0),
        ("Thu, 01 Jan 1970 00:00:10 GMT", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str, expected: float | None) -> None:
    """Anything else says nothing."""
    assert expected == read_retry_after(text, now=60.0)


def test_annotations_win_over_settings() -> None:
    """Each by itself."""
    settings = load({"async_retry_attempts": 7, "async_retry_min_wait_s": 2}, env={})
    annotations = {
        "com.openfaas.queue": "slow",
        "com.openfaas.retry.attempts": "5",
        "com.openfaas.retry.codes": "429, 502",
        "com.openfaas.retry.max_wait": "1m",
        "com.tailrace.retry.after-first-byte": "true",
    }
    retries = read_options(annotations, {}, {}).retries

    assert "slow" == retries.queue
    assert Policy(5, frozenset((429, 502)), 2.0, 60.0, after_first_byte=True) == policy_of(retries, settings)
    assert Policy(7, DEFAULT_CODES, 2.0, 120.0, after_first_byte=False) == policy_of(Retries(), settings)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("com.openfaas.queue", "Not A Name"),
        ("com.openfaas.queue", "all"),
        ("com.openfaas.retry.attempts", "0"),
        ("com.openfaas.retry.attempts", "many"),
        ("com.openfaas.retry.codes", "200"),
        ("com.openfaas.retry.codes", "5xx"),
        ("com.openfaas.retry.min_wait", "10"),
        ("com.openfaas.retry.max_wait", "25h"),
        ("com.tailrace.retry.after-first-byte", "yes"),
    ],
)
def test_an_annotation_that_says_nothing_is_refused(key: str, value: str) -> None:
    """At the deployment, with the key."""
    with pytest.raises(InvalidDeployment, match=key):
        read_options({key: value}, {}, {})


@pytest.mark.parametrize("address", [*PRIVATE, "no address", ""])
def test_addresses_that_are_not_everybodys(address: str) -> None:
    """Loopback, private, link-local, shared, multicast, in all their spellings."""
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_addresses_that_are(address: str) -> None:
    """Of the Internet."""
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/", "http://LOCALHOST./", "http://a.localhost/", "http://127.0.0.1/", "http://[::1]/",
        "http://2130706433/", "http://0x7f000001/", "http://127.1/", "http://0177.0.0.1/", "http://10.0.0.1:8080/x",
        "https://169.254.169.254/latest/meta-data/", "http://[::ffff:7f00:1]/",
    ],
)  # fmt: skip
def test_a_url_of_a_private_address_is_refused(url: str) -> None:
    """However it is written; allowed where the operator allows it."""
    with pytest.raises(NotAllowed):
        read_target(url, allow_private=False)

    assert read_target(url, allow_private=True).host


@pytest.mark.parametrize(
    "url",
    ["", "ftp://example.com/", "example.com", "http:///x", "http://user:pw@example.com/", "http://a b/",
     "http://example.com:99999/", "http://exa\nmple.com/", "http://[::1", "http://ex\xe4mple.com/",
     "http://example.com/" + "a" * 3000, "http://example.com:0/", "http://example.com%2f.evil.example/",
     "http://a.example,http://b.example/", "http://[fe80::1%25eth0]/"],
)  # fmt: skip
def test_what_is_no_url_is_refused(url: str) -> None:
    """With the header's name."""
    with pytest.raises(InvalidRequest, match="X-Callback-Url"):
        read_target(url, allow_private=True)


def test_a_target_is_taken_apart() -> None:
    """For a connection to an address that was looked at, with the name in Host."""
    target = read_target("https://Example.com:8443/a/b?c=1", allow_private=False)

    assert ("example.com", 8443, "/a/b?c=1") == (target.host, target.port, target.path)
    assert "example.com:8443" == target.authority
    assert "https://[2001:db8::1]:8443/a/b?c=1" == target.url_at("2001:db8::1")
    assert "example.com" == read_target("http://example.com", allow_private=False).authority


def test_one_private_address_of_several_is_too_many() -> None:
    """A name that leads both ways is refused."""
    target = read_target("http://example.com/", allow_private=False)

    check_addresses(target, ["8.8.8.8"], allow_private=False)
    check_addresses(target, ["127.0.0.1"], allow_private=True)
    with pytest.raises(CallerError, match=r"127\.0\.0\.1"):
        check_addresses(target, ["8.8.8.8", "127.0.0.1"], allow_private=False)


def test_a_signature_can_be_made_by_hand() -> None:
    """HMAC-SHA256 over time, outcome, status and body, with dots between them, as the documents say."""
    made = sign(b"secret", timestamp=1700000000, delivery="abc-1", status=200, body=b"hello")

    by_hand = hmac.new(b"secret", b"1700000000.abc-1.200.hello", hashlib.sha256).hexdigest()
    assert f"sha256={by_hand}" == made


def test_a_functions_consumer_tells_what_it_hands_out() -> None:
    """Its filter leads back to queue and function; the one of results to neither."""
    subject = call_subject("slow", "fn.openfaas-fn", "*")

    assert ("slow", "fn.openfaas-fn") == parse_consumer(subject)
    assert parse_consumer("tailrace.callback.*") is None
    assert "slow_fn_openfaas-fn" == consumer_name("slow", "fn.openfaas-fn")
