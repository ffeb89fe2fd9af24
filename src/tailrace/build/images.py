"""Images: names that stand for bundles. There is no registry; what a name means is in the bundle store."""

from __future__ import annotations

IMAGE_LIMIT = 512  # characters
_DIGEST = "@sha256:"
# Images that come with the gateway (`build.shipped`); nobody can give these names another meaning.
_SHIPPED = "tailrace-store/"


def with_tag(image: str) -> str:
    """The image with ``:latest`` where it names neither tag nor digest. Source: contract section 5."""
    last = image.rpartition("/")[2]
    return image if not last or ":" in last or "@" in last else f"{image}:latest"


def pinned_digest(image: str) -> str:
    """What stands after ``@sha256:``, which may be no digest of ours; empty for a plain tag."""
    return image.partition(_DIGEST)[2]


def is_shipped(image: str) -> bool:
    """Whether the name belongs to the functions that come with the gateway."""
    return image.startswith(_SHIPPED)
