"""Images: names that stand for bundles. There is no registry; what a name means is in the bundle store."""

from __future__ import annotations

import re

from tailrace.errors import InvalidDeployment

IMAGE_LIMIT = 512  # characters
# What registries, repositories, tags and digests are written with; `+` because git's versions may have it.
# Nothing that could move a cursor, end a line or hide in a list.
_IMAGE = re.compile(r"[A-Za-z0-9._:/@+-]+")
_DIGEST = "@sha256:"
# Images that come with the gateway (`build.shipped`); nobody can give these names another meaning.
_SHIPPED = "tailrace-store/"


def check_image(image: str) -> None:
    """Refuse a text that is no name of an image.

    Raises:
        InvalidDeployment: it has not 1 to 512 characters, or others than letters, digits and ``._:/@+-``.
    """
    if not 0 < len(image) <= IMAGE_LIMIT:
        raise InvalidDeployment(f"image has {len(image)} characters; 1 to {IMAGE_LIMIT} are accepted")
    if not _IMAGE.fullmatch(image):
        raise InvalidDeployment(
            f"image {image[:80]!a} is no name of an image",
            hint="Use letters, digits and . _ : / @ + -, such as registry.example.com/team/name:1.0.",
        )


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
