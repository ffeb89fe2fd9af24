"""cli.envsubst: every form of contract section 5."""

from __future__ import annotations

import pytest

from tailrace.cli.envsubst import substitute
from tailrace.errors import InvalidDeployment

ENV = {"v": "hello", "path": "a/b/c.tar.gz", "empty": "", "up": "LOUD", "n": "other"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("${v}", "hello"),
        ("<${v}>${v}", "<hello>hello"),
        ("$v and $ and $1", "$v and $ and $1"),
        ("$${v}", "${v}"),
        ("cost: 5$$", "cost: 5$"),
        ("${unset}", ""),
        ("${unset:-d}", "d"),
        ("${empty:-d}", "d"),
        ("${v:-d}", "hello"),
        ("${unset:=d}", "d"),
        ("${unset=d}", "d"),
        ("${unset:-}", ""),
        ("${unset:-http://h:80/x?y=z}", "http://h:80/x?y=z"),
        ("${unset:-${v}}", "hello"),
        ("${unset:-${alsounset:-x y}}", "x y"),
        ("${v^}", "Hello"),
        ("${v^^}", "HELLO"),
        ("${up,}", "lOUD"),
        ("${up,,}", "loud"),
        ("${v:1}", "ello"),
        ("${v:1:3}", "ell"),
        ("${v:-2}", "hello"),
        ("${v: -2}", "lo"),
        ("${v:9}", ""),
        ("${v:3:9}", "lo"),
        ("${v#he}", "llo"),
        ("${v#*l}", "lo"),
        ("${v##*l}", "o"),
        ("${v%l*}", "hel"),
        ("${v%%l*}", "he"),
        ("${path##*/}", "b/c.tar.gz"),
        ("${path%.gz}", "a/b/c.tar"),
        ("${path%%.*}", "a/b/c"),
        ("${v#nope}", "hello"),
        ("${v/l/L}", "heLlo"),
        ("${v//l/L}", "heLLo"),
        ("${v/l}", "helo"),
        ("${v/#he/HE}", "HEllo"),
        ("${v/%lo/LO}", "helLO"),
        ("${#v}", "5"),
        ("${#unset}", "0"),
        ("a\n${v}\nb", "a\nhello\nb"),
        ("${unset:-a $$ b}", "a $ b"),
    ],
)
def test_each_form_gives_what_openfaas_gives(text: str, expected: str) -> None:
    """One row a form."""
    assert substitute(text, ENV) == expected


@pytest.mark.parametrize(
    "text", ["${", "${}", "${v", "${1}", "${ v}", "${v:+x}", "${v:x}", "${v?}", "${v!}", "${unset:-${v}"]
)
def test_a_form_that_is_not_known_is_refused_with_its_line(text: str) -> None:
    """Nothing is guessed and nothing silently becomes empty."""
    with pytest.raises(InvalidDeployment, match=r"^line 3: "):
        substitute("one\n\n" + text, ENV)


def test_values_are_not_substituted_again() -> None:
    """What the environment holds is text, so a value cannot reach for another variable."""
    assert substitute("${a}", {"a": "${b}", "b": "x"}) == "${b}"


def test_nesting_without_end_is_refused() -> None:
    """A file of nothing but openings costs a message, not the stack."""
    with pytest.raises(InvalidDeployment, match="nested too deeply"):
        substitute("${u:-" * 5000, {})
