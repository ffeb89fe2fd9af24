"""The store of bundles: what is in it is whole, verified and found again."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tailrace.build.bundle import Bundle, pack_folder
from tailrace.build.store import BundleStore
from tailrace.errors import InvalidBundle, InvalidDeployment, NotFound, TooLarge
from tailrace.state import TEMPORARY
from tests.kit.loops import run

LIMIT = 1 << 20


def make_bundle(folder: Path, source: str = "", **files: str) -> Bundle:
    folder.mkdir(exist_ok=True)
    (folder / "handler.py").write_text(source)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return pack_folder(folder, lang="python3-http", limit_bytes=LIMIT)


def open_store(folder: Path, limit_bytes: int = LIMIT) -> BundleStore:
    (folder / "bundles").mkdir(exist_ok=True)
    return BundleStore(folder / "bundles", limit_bytes=limit_bytes)


async def in_pieces(data: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def entries(folder: Path) -> set[str]:
    return {path.name for path in (folder / "bundles").iterdir()}


def test_a_bundle_is_found_by_digest_and_by_tag(tmp_path: Path) -> None:
    """Also by a store that is opened later, and a tag moves on."""
    store = open_store(tmp_path)
    first, second = (make_bundle(tmp_path / "f", f"# {number}") for number in (1, 2))

    async def act() -> None:
        for bundle in (first, second):
            assert await store.put(bundle.digest, in_pieces(bundle.data))
            await store.tag("registry:5000/me/f:latest", bundle.digest)
            assert open_store(tmp_path).resolve("registry:5000/me/f:latest") == bundle.digest
        assert not await store.put(first.digest, in_pieces(first.data))

    run(act())
    assert "# 1" == (store.path(first.digest) / "function" / "handler.py").read_text()
    assert "python3-http" == store.lang(first.digest)
    assert {first.digest, second.digest, "tags"} == entries(tmp_path)


@pytest.mark.parametrize("image", ["..", "a/../../b", "/etc/passwd", "CON", "a+b", "x" * 505])
def test_no_image_becomes_a_path(tmp_path: Path, image: str) -> None:
    """Whatever a name says about folders, it is only a name."""
    store = open_store(tmp_path)
    bundle = make_bundle(tmp_path / "f")

    async def act() -> None:
        await store.put(bundle.digest, in_pieces(bundle.data))
        await store.tag(image, bundle.digest)

    run(act())
    assert bundle.digest == store.resolve(image)
    assert {bundle.digest, "tags"} == entries(tmp_path)


@pytest.mark.parametrize(
    "image",
    ["a\0b", "\ud800", "é", " ", "a b", "a\n", "\x1b[2Jx", "a\u202eb", "a\x9b31m", "a\n@sha256:" + "0" * 64],
)
def test_what_could_play_on_a_screen_is_no_image(tmp_path: Path, image: str) -> None:
    """Lists and logs show images as they are: control characters, blanks and line ends are refused."""
    store = open_store(tmp_path)
    bundle = make_bundle(tmp_path / "f")

    async def act() -> None:
        await store.put(bundle.digest, in_pieces(bundle.data))
        with pytest.raises(InvalidDeployment, match="is no name of an image"):
            await store.tag(image, bundle.digest)

    run(act())
    with pytest.raises(InvalidDeployment, match="is no name of an image"):
        store.resolve(image)


@pytest.mark.parametrize("image", ["", "x" * 513])
def test_an_image_has_1_to_512_characters(tmp_path: Path, image: str) -> None:
    """Others are refused by both doors."""
    store = open_store(tmp_path)

    with pytest.raises(InvalidDeployment, match="1 to 512"):
        store.resolve(image)


def test_an_image_without_a_bundle_says_how_to_bring_it(tmp_path: Path) -> None:
    """The text names the image and the command."""
    with pytest.raises(NotFound) as caught:
        open_store(tmp_path).resolve("ghcr.io/somebody/f:1")

    assert caught.value.text.startswith("image 'ghcr.io/somebody/f:1' was not built for this gateway")
    assert "Run: tailrace build -f stack.yaml" in caught.value.text


@pytest.mark.parametrize(
    ("tagged", "asked"),
    [
        ("f", "f:latest"),
        ("f:latest", "f"),
        ("localhost:5000/f", "localhost:5000/f:latest"),
        ("f:1", "f:1"),
        ("f:1", "f@sha256:{digest}"),
        ("f:1", "other:tag@sha256:{digest}"),
    ],
)
def test_an_image_is_found_by_its_tag_and_by_its_digest(tmp_path: Path, tagged: str, asked: str) -> None:
    """No tag is ``latest``; a digest is the bundle's own, whatever stands before it."""
    store = open_store(tmp_path)
    bundle = make_bundle(tmp_path / "f")

    async def act() -> None:
        await store.put(bundle.digest, in_pieces(bundle.data))
        await store.tag(tagged, bundle.digest)

    run(act())
    assert bundle.digest == store.resolve(asked.format(digest=bundle.digest))


@pytest.mark.parametrize("image", ["f:2", "f@sha256:" + "0" * 64, "f@sha256:../tags", "f@", "f@md5:1"])
def test_another_tag_or_digest_is_not_found(tmp_path: Path, image: str) -> None:
    """What was tagged as f:1 answers to nothing else, and a digest never becomes a path."""
    store = open_store(tmp_path)
    bundle = make_bundle(tmp_path / "f")

    async def act() -> None:
        await store.put(bundle.digest, in_pieces(bundle.data))
        await store.tag("f:1", bundle.digest)

    run(act())
    with pytest.raises(NotFound):
        store.resolve(image)


def test_a_digest_cannot_be_given_another_meaning(tmp_path: Path) -> None:
    """Only tags are given."""
    store = open_store(tmp_path)
    bundle = make_bundle(tmp_path / "f")

    async def act() -> None:
        await store.put(bundle.digest, in_pieces(bundle.data))
        await store.tag(f"f@sha256:{'0' * 64}", bundle.digest)

    with pytest.raises(InvalidDeployment, match="names a digest"):
        run(act())


def test_a_tag_needs_its_bundle(tmp_path: Path) -> None:
    """A digest that was never uploaded, or is none, is not found."""
    store = open_store(tmp_path)

    for digest in ("0" * 64, "..", "tags", ""):
        with pytest.raises(NotFound):
            run(store.tag("f", digest))


@pytest.mark.parametrize("digest", ["", "0" * 63, "A" * 64, "../" + "0" * 61, "0" * 64 + "\n"])
def test_what_is_no_digest_is_refused(tmp_path: Path, digest: str) -> None:
    """Only 64 lower-case hex digits name a bundle."""
    with pytest.raises(InvalidBundle, match="not a SHA-256"):
        run(open_store(tmp_path).put(digest, in_pieces(b"")))


def test_bytes_that_differ_from_their_digest_are_refused_and_gone(tmp_path: Path) -> None:
    """The text names both; also when the announced bundle is there already."""
    store = open_store(tmp_path)
    bundle = make_bundle(tmp_path / "f")
    other = hashlib.sha256(bundle.data + b"x").hexdigest()

    async def act() -> None:
        for _ in range(2):
            with pytest.raises(InvalidBundle, match=other):
                await store.put(bundle.digest, in_pieces(bundle.data + b"x"))
            await store.put(bundle.digest, in_pieces(bundle.data))

    run(act())
    assert {bundle.digest} == entries(tmp_path)


def test_an_upload_over_the_limit_is_cut_off(tmp_path: Path) -> None:
    """It is refused while it comes, not after."""
    store = open_store(tmp_path, limit_bytes=10_000)
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1000
            yield bytes(1000)

    with pytest.raises(TooLarge):
        run(store.put("0" * 64, endless()))
    assert 11_000 == taken
    assert set() == entries(tmp_path)


def test_an_upload_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    """A client that leaves mid-way, or a hostile tar, leaves no file."""
    store = open_store(tmp_path)

    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 100
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        run(store.put("0" * 64, broken()))
    with pytest.raises(InvalidBundle):
        run(store.put(hashlib.sha256(b"x" * 9000).hexdigest(), in_pieces(b"x" * 9000)))
    assert set() == entries(tmp_path)


def test_requirements_that_are_not_supported_are_refused_at_the_upload(tmp_path: Path) -> None:
    """The author hears it when deploying, not when the environment is built."""
    bundle = make_bundle(tmp_path / "f", requirements_txt="-r /etc/passwd\n")

    with pytest.raises(InvalidBundle, match="line 1"):
        run(open_store(tmp_path).put(bundle.digest, in_pieces(bundle.data)))


def test_one_bundle_uploaded_by_many_at_once_is_stored_once(tmp_path: Path) -> None:
    """All succeed; nothing is left beside it."""
    store = open_store(tmp_path)
    bundle = make_bundle(tmp_path / "f")

    async def act() -> list[bool]:
        puts = (store.put(bundle.digest, in_pieces(bundle.data)) for _ in range(5))
        return await asyncio.gather(*puts)

    assert 1 == sum(run(act()))
    assert {bundle.digest} == entries(tmp_path)


def test_pruning_keeps_what_is_tagged_kept_or_young(tmp_path: Path) -> None:
    """The rest is gone, read-only or not."""
    store = open_store(tmp_path)
    tagged, kept, loose = (make_bundle(tmp_path / "f", f"# {number}") for number in range(3))

    async def act() -> None:
        for bundle in (tagged, kept, loose):
            await store.put(bundle.digest, in_pieces(bundle.data))
        await store.tag("f", tagged.digest)
        assert [] == await store.prune({kept.digest})
        assert [loose.digest] == await store.prune({kept.digest}, min_age_s=-1)

    run(act())
    assert {tagged.digest, kept.digest, "tags"} == entries(tmp_path)
    assert not [name for name in os.listdir(tmp_path / "bundles") if name.startswith(TEMPORARY)]  # noqa: PTH208


@pytest.mark.parametrize("how", ["resolved", "put again"])
def test_a_bundle_that_is_about_to_be_used_is_young_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Its deployment or tag is on its way: another's upload, which prunes, must not take it from under it."""
    store, bundle = open_store(tmp_path), make_bundle(tmp_path / "f")
    folder = tmp_path / "bundles" / bundle.digest

    async def use() -> None:
        if how == "resolved":
            store.resolve(f"f@sha256:{bundle.digest}")
        else:
            await store.put(bundle.digest, in_pieces(bundle.data))

    async def act() -> list[str]:
        await store.put(bundle.digest, in_pieces(bundle.data))
        born = folder.stat().st_ctime
        monkeypatch.setattr("tailrace.build.store.time.time", lambda: born + 600.001)
        await use()
        async with asyncio.timeout(10):
            while folder.stat().st_ctime <= born + 0.001:  # the file system's clock has ticks
                await use()
        return await store.prune([])

    assert [] == run(act())
    assert folder.is_dir()
