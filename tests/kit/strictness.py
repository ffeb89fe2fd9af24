"""Writes docs/explanation/strictness.md: Tailrace beside nginx and h11, message by message.

Run it with ``scripts/soak table``. `tests/edge/test_differential.py` holds that the page is true.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

from tests.kit import explained, hostile, nginx_cases, oracle, replies
from tests.kit.hostile import Case, Outcome, Passed
from tests.kit.needs import needs_nginx
from tests.kit.oracle import Answered
from tests.kit.replies import Got, Reply
from tests.kit.tap import said_in

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "strictness.md"
_TABLES = re.compile(r"<!-- tables -->.*<!-- end -->", re.DOTALL)
# What h11 would take minutes for is not asked of it.
_TOO_MUCH_FOR_H11 = re.compile(rb"[ \t]{1000}")


def h11_outcome(data: bytes) -> tuple[Outcome, ...]:
    """What a stock server over h11 does with a client's bytes."""
    if _TOO_MUCH_FOR_H11.search(data):
        return ("not asked",)
    said = said_in(data, skips_empty_line=False)
    read: list[Outcome] = [Passed(a.method, a.target, a.body) for a in said.requests if a.body is not None]
    return (*read, *([400] if said.tail in ("refused", "bad body") else []))


def h11_got(data: bytes) -> Got:
    """What a stock client over h11 gets of a replica's bytes; status 0: it refuses them."""
    whole = oracle.h11_reply(data, is_over=True)
    if not isinstance(whole, Answered):
        return Got(0, b"", is_whole=False)
    if whole.body is None:
        return Got(whole.status, oracle.h11_part(data), is_whole=False)
    return Got(whole.status, whole.body)


def told(outcome: Sequence[Outcome]) -> str:
    """An outcome in a table's cell."""
    return ", ".join(_told(one) for one in outcome) or "waits"


def _told(one: Outcome) -> str:
    if not isinstance(one, Passed):
        return str(one)
    target = one.target.decode("latin-1")
    target = (
        f"/{target.removeprefix(hostile.FN.decode())}" if target.startswith(hostile.FN.decode()) else target
    )
    if len(target) > 30:
        target = f"{target[:12]}... ({len(target)})"
    size = f" + {len(one.body)}" if one.body else ""
    return f"`{one.method.decode('latin-1')} {_cell(target)}`{size}"


def _cell(text: str) -> str:
    return text.encode("unicode_escape").decode().replace("\\\\", "\\").replace("|", "\\|")


def told_got(got: Got | str) -> str:
    """What a client gets, in a table's cell."""
    if isinstance(got, str):
        return got
    if got.is_told:
        return f"{got.status}, told"
    if not got.is_whole:
        return f"{got.status}, cut off" if got.status else "refuses"
    return f"{got.status} + {len(got.body)}" if got.body else str(got.status)


@dataclass(frozen=True, slots=True)
class NginxSays:
    """What one nginx does with every row, by the rows' names."""

    version: str
    requests: dict[str, tuple[Outcome, ...]]
    replies: dict[str, Got | str]


async def ask_nginx(program: Path) -> NginxSays:
    """What this nginx does with every row; takes some seconds, in which it waits for what never comes."""
    outcomes = await nginx_cases.outcomes(program, [case.data for case in hostile.REQUESTS])
    got = await nginx_cases.replies(program, [reply.data for reply in replies.REPLIES])
    return NginxSays(
        nginx_cases.version(program),
        dict(zip((case.name for case in hostile.REQUESTS), outcomes, strict=True)),
        dict(zip((reply.name for reply in replies.REPLIES), got, strict=True)),
    )


def tables(says: NginxSays | None) -> str:
    """The generated part of the page; without nginx its cells are empty."""
    return "\n".join(("<!-- tables -->", *_tables(says), "<!-- end -->"))


def without_nginx(page: str) -> str:
    """A page without the cells of nginx, to be compared where there is another version of it, or none."""
    return re.sub(r"^(\|(?:(?:[^|\\\n]|\\.)*\|){2})(?:[^|\\\n]|\\.)*\|", r"\1", page, flags=re.MULTILINE)


def _tables(says: NginxSays | None) -> Iterator[str]:
    heads = (
        f"| what is tried | Tailrace | nginx {says.version if says else ''} | h11 {metadata.version('h11')} |"
    )
    heads += "\n|---|---|---|---|"
    yield f"\n## {len(hostile.REQUESTS)} requests\n"
    for title, cases in hostile.GROUPS:
        yield f"### {title}\n\n{heads}"
        yield from (_request_row(case, told(says.requests[case.name]) if says else "") for case in cases)
        yield ""
    yield f"## {len(replies.REPLIES)} answers of replicas\n"
    for title, group in replies.GROUPS:
        yield f"### {title}\n\n{heads}"
        yield from (_reply_row(one, told_got(says.replies[one.name]) if says else "") for one in group)
        yield ""
    yield "## What h11 takes and Tailrace refuses\n\nThe fuzzers hold that there is nothing else.\n"
    rows = dict.fromkeys((r.what, r.why) for r in (*explained.REQUESTS, *explained.REPLIES))
    rows |= dict.fromkeys((r.what, r.why) for r in explained.CODINGS)
    yield "| what | why |\n|---|---|"
    yield from (f"| {_cell(what)} | {_cell(why)} |" for what, why in rows)
    yield "\n## What Tailrace takes and h11 refuses\n\n| what | why |\n|---|---|"
    yield from (f"| {_cell(what)} | {_cell(why)} |" for what, why in explained.TAKEN_THOUGH_REFUSED)
    yield ""


def _request_row(case: Case, of_nginx: str) -> str:
    why = f" ({case.because})" if case.because else ""
    ours, of_h11 = told(case.expected), told(h11_outcome(case.data))
    return f"| {_words(case.tries + why)} | {ours} | {of_nginx} | {of_h11} |"


def _reply_row(reply: Reply, of_nginx: str) -> str:
    why = f" ({reply.because})" if reply.because else ""
    ours = told_got(reply.expected)
    return f"| {_words(reply.tries + why)} | {ours} | {of_nginx} | {told_got(h11_got(reply.data))} |"


def _words(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Write the page's tables anew."""
    try:
        made = tables(asyncio.run(ask_nginx(needs_nginx())))
    except pytest.skip.Exception as missing:
        sys.exit(str(missing))
    PAGE.write_text(_TABLES.sub(lambda _: made, PAGE.read_text()))


if __name__ == "__main__":
    main()
