import asyncio
import base64
import json
import struct
import zlib

LIMIT = 1024  # pixels of a side
ROWS = 8  # drawn between two events


async def handle(event, context):
    """Each event is base64 of some bytes of a PNG: decoded one by one and joined, they are the file."""
    try:
        width, height = size_of(event.body)
    except ValueError as mistake:
        context.status, context.content_type = 400, "application/json"
        yield json.dumps({"error": str(mistake)}).encode()  # bytes: no event, the body as it is
        return
    kept = b""
    async for data in png(width, height):
        kept += data
        whole = len(kept) // 3 * 3  # of three bytes each, no event but the last ends in padding
        if whole:
            yield base64.b64encode(kept[:whole]).decode()
            kept = kept[whole:]
    if kept:
        yield base64.b64encode(kept).decode()


def size_of(body):
    """Width and height that are asked for.

    Raises:
        ValueError: they are no whole numbers from 1 to 1024.
    """
    try:
        asked = json.loads(body) if body.strip() else {}
        sides = asked.get("width", 256), asked.get("height", 192)
    except (ValueError, AttributeError, RecursionError):
        sides = (None, None)
    if not all(type(side) is int and 1 <= side <= LIMIT for side in sides):
        raise ValueError(f'expected {{"width": 1 to {LIMIT}, "height": 1 to {LIMIT}}}')
    return sides


async def png(width, height):
    """A grey picture of the Mandelbrot set, as the pieces of a PNG file."""
    yield b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    packer = zlib.compressobj()
    for first in range(0, height, ROWS):
        rows = b"".join(
            b"\0" + bytes(shade(x / width, y / height) for x in range(width))
            for y in range(first, min(first + ROWS, height))
        )
        yield chunk(b"IDAT", packer.compress(rows) + packer.flush(zlib.Z_SYNC_FLUSH))
        await asyncio.sleep(0)  # others of this replica go on
    yield chunk(b"IDAT", packer.flush()) + chunk(b"IEND", b"")


def chunk(kind, data):
    """One chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def shade(x, y):
    """0 to 255: how soon a point leaves. x and y are 0 to 1."""
    point = complex(3 * x - 2.2, 2.4 * y - 1.2)
    value = 0j
    for step in range(32):
        if abs(value) > 2:
            return 255 - step * 8
        value = value * value + point
    return 0
