"""Zstandard for long values in L2, by python-zstandard: the extra `zstd`."""

from __future__ import annotations

import threading

import zstandard

LEVEL = 3
"""Zstandard's own default: about as fast as the network that it spares."""


class Zstd:
    """Packs what is longer than `above` bytes. Compressors serve one thread at a time, so that each has its own."""

    def __init__(self, above: int) -> None:
        self.above = above
        self._own = threading.local()

    def pack(self, data: bytes) -> bytes:
        own = self._own
        if not hasattr(own, "compressor"):
            own.compressor = zstandard.ZstdCompressor(level=LEVEL)
        packed: bytes = own.compressor.compress(data)
        return packed

    def unpack(self, data: bytes, size: int) -> bytes:
        """Raises for what is no such frame, or is of another size than it says. A frame tells its size, and nothing is
        made before that has been compared: a few bytes could stand for gigabytes.
        """
        if zstandard.frame_content_size(data) != size:
            raise ValueError(f"a frame that is not of {size} bytes")
        own = self._own
        if not hasattr(own, "decompressor"):
            own.decompressor = zstandard.ZstdDecompressor()
        unpacked: bytes = own.decompressor.decompress(data, max_output_size=size)
        if len(unpacked) != size:
            raise ValueError(f"{len(unpacked)} bytes where {size} are announced")
        return unpacked
