"""Messages of PostgreSQL's log as numpy sees them: one buffer, and where each message lies in it.

Numbers on the wire are big-endian and lie at any offset. `words` reads eight bytes at many places
at once, which is enough for every fixed part of a message.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rowtrail.connectors.errors import StopError

Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Kinds = npt.NDArray[np.uint8]

_WORD = 8
_SMALL = 2**31  # what 32-bit offsets reach


class LogFormatError(StopError):
    """The log holds what the protocol does not allow, or what this reader does not know.

    `row` is the number of the message among those handed over, from 0, where one is at fault.
    """

    def __init__(self, message: str, *, row: int | None = None) -> None:
        super().__init__(
            f"{message} Nothing from it was taken. If no proxy or other program between Rowtrail "
            f"and the server changes data, report this with the server's version."
        )
        self.row = row


class BrokenMessageError(ValueError):
    """What is wrong with one message, as the end of the sentence 'It …'. Stays within the decoder.

    `row` is the message's number among those looked at; whoever knows it sets it.
    """

    def __init__(self, what: str, row: int = 0) -> None:
        super().__init__(what)
        self.row = row


class Messages:
    """An Arrow array of messages: `starts` and `ends` are places in `octets`, and never go back.

    Takes binary, large_binary and chunked arrays of either. Raises LogFormatError for a NULL.
    """

    def __init__(self, data: Any) -> None:
        array = _one_array(data)
        if array.null_count:
            row = int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])
            raise LogFormatError(f"Message {row + 1} of {len(array)} is NULL.", row=row)
        large = pa.types.is_large_binary(array.type)
        _, offsets, content = array.buffers()
        places: Ints = np.zeros(1, np.int64)
        if len(array):
            read = np.frombuffer(offsets, np.int64 if large else np.int32)
            places = read[array.offset : array.offset + len(array) + 1].astype(np.int64)
        first, last = int(places[0]), int(places[-1])
        content = pa.py_buffer(b"") if content is None else content.slice(first, last - first)
        if content.size < _WORD:  # so that there is a word to be read
            content = pa.py_buffer(content.to_pybytes().ljust(_WORD, b"\0"))
        places -= first
        self.content = content
        self.octets: npt.NDArray[np.uint8] = np.frombuffer(content, np.uint8)
        self.starts: Ints = places[:-1]
        self.ends: Ints = places[1:]
        self.large = last - first >= _SMALL
        """More bytes than 32-bit offsets reach."""
        self._limit = len(self.octets) - _WORD
        # One word for each byte at which it may begin: they overlap.
        self._words: Words = np.ndarray(
            (self._limit + 1,), dtype="<u8", buffer=self.octets, strides=(1,)
        )

    def __len__(self) -> int:
        return len(self.starts)

    def words(self, places: Ints) -> Words:
        """Eight bytes at each place as a big-endian number; zeros past the end of the buffer.

        The places must not go back, nor past the end of the buffer.
        """
        if not len(places) or places[-1] <= self._limit:
            found = self._words[places]
        else:
            within = np.minimum(places, self._limit)
            found = self._words[within]
            found >>= ((places - within) * 8).astype(np.uint64)
        return found.byteswap(inplace=True)

    def message(self, row: int) -> bytes:
        return self.octets[self.starts[row] : self.ends[row]].tobytes()


def signed(words: Words) -> Ints:
    """The same bits as signed numbers."""
    return words.view(np.int64)


def refuse(bad: Mask, what: str, rows: Ints | None = None) -> None:
    """Raises BrokenMessageError for the first true value; `rows` gives its message's number."""
    if bad.any():
        row = int(bad.argmax())
        raise BrokenMessageError(what, row if rows is None else int(rows[row]))


def lsn_text(lsn: int) -> str:
    """A place in the log as PostgreSQL writes it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def _one_array(data: Any) -> Any:
    if isinstance(data, pa.ChunkedArray):
        if data.num_chunks == 1:
            return _one_array(data.chunk(0))
        if data.nbytes >= _SMALL:
            data = data.cast(pa.large_binary())
        return pa.concat_arrays(data.chunks) if data.num_chunks else pa.array([], data.type)
    if pa.types.is_binary(data.type) or pa.types.is_large_binary(data.type):
        return data
    raise TypeError(f"messages are binary, not {data.type}")
