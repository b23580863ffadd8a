"""Parts of an object, as the version that was listed or not at all."""

from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self, final

from rayft.storage import object_store
from rayft.storage.location import FileState, Location
from rayft.storage.object_file import ObjectFile

BLOCK_BYTES = 4 * 2**20
BLOCKS_AHEAD = 3
_BLOCKS_KEPT = BLOCKS_AHEAD + 2


def read_range(place: Location, start: int, length: int, *, version: str) -> bytes:
    """Return `length` bytes of an object from `start` on, fewer where it ends before.

    Raises:
        FileNotFoundError: it is not there.
        Changed: it is no longer `version`.
        StorageFault: the object store failed.
    """
    if not length:
        return b""
    return object_store.read_range(place.bucket, place.key, start, length, version=version)


@final
class StreamedFile(ObjectFile):
    """An object as a seekable file that fetches large blocks, and the next ones while it is read.

    It holds five blocks at most. Blocks that are passed over by a seek are not fetched.
    """

    def __init__(self, bucket: str, key: str, state: FileState) -> None:
        super().__init__(bucket, key, state)
        self._threads = ThreadPoolExecutor(BLOCKS_AHEAD)
        self._blocks: OrderedDict[int, Future[bytes]] = OrderedDict()
        self._last = -1

    def close(self) -> None:
        """Forget the blocks, and wait for those on their way."""
        for block in self._blocks.values():
            block.cancel()
        self._blocks.clear()
        self._threads.shutdown()
        super().close()

    def __enter__(self) -> Self:
        return self

    def _range(self, start: int, length: int) -> bytes:
        pieces = []
        for block in range(start // BLOCK_BYTES, -(-(start + length) // BLOCK_BYTES)):
            begin = block * BLOCK_BYTES
            content = memoryview(self._block(block))
            pieces.append(content[max(0, start - begin) : start + length - begin])
        return b"".join(pieces)

    def _block(self, block: int) -> bytes:
        wanted = self._fetch(block)
        if block == self._last + 1:
            for following in range(block + 1, block + 1 + BLOCKS_AHEAD):
                if following * BLOCK_BYTES < self._state.size:
                    self._fetch(following)
        self._last = block
        self._blocks.move_to_end(block)
        while len(self._blocks) > _BLOCKS_KEPT:
            self._blocks.popitem(last=False)[1].cancel()
        return wanted.result()

    def _fetch(self, block: int) -> Future[bytes]:
        if block not in self._blocks:
            read = super()._range
            future = self._threads.submit(read, block * BLOCK_BYTES, BLOCK_BYTES)
            self._blocks[block] = future
        return self._blocks[block]
