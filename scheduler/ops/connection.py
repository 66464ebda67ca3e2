"""One connection of a client, which waits for nobody for ever: uvicorn's, with what it has no setting for.

uvicorn closes a connection that is idle. It waits without an end for a request that never comes to the end of its head, for the rest of a
body that no application wants, and for a client that does not read its answer; a few hundred of those hold all that a process may open.
"""

import asyncio
import json
from http import HTTPStatus
from typing import Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_HEAD: Final = 64 * 1024
"""Bytes of a request's line and headers; more are answered with 400."""
ARRIVES_WITHIN: Final = 10.0
"""Seconds for them to arrive, from the connection or the request's first byte on, and for the rest of a body after its answer."""
MAX_PIECE: Final = 16 * 1024
"""Bytes that are taken before anybody else may run: of a body in chunks of one byte, some 3,000 chunks and 20 ms."""
READ_WITHIN: Final = 30.0
"""Seconds in which a client must read something of what is there for it."""


class Connection(H11Protocol):
    """HTTP/1.1 with limits on a client's time. When one is over, the connection is closed."""

    _unread = b""  # came, and was not taken yet
    _is_paused = False  # reads nothing more until that was taken
    _arrival_timer: asyncio.TimerHandle | None = None
    _read_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._arrival_timer = self.loop.call_later(ARRIVES_WITHIN, self._give_up)

    def data_received(self, data: bytes) -> None:
        """Take what came, a piece at a time: a piece may be a great many chunks, and each costs a step."""
        waits = bool(self._unread)
        self._unread += data
        if not waits:
            self._take_piece()

    def _take_piece(self) -> None:
        if self.transport.is_closing():
            self._unread = b""
        if not self._unread:
            return
        piece, self._unread = self._unread[:MAX_PIECE], self._unread[MAX_PIECE:]
        self._take(piece)
        if self._unread:
            self._is_paused = True
            self.transport.pause_reading()
            self.loop.call_soon(self._take_piece)
        elif self._is_paused:
            self._is_paused = False
            if not self.flow.read_paused and not self.transport.is_closing():
                self.transport.resume_reading()

    def _take(self, data: bytes) -> None:
        """Take some bytes; unless a request is under way then, all of it must have come before the time that it has is over."""
        super().data_received(data)
        if self._is_serving():
            self._stop_waiting()
        elif self._is_idle():
            self._stop_waiting()
            self._keep_alive()
        elif self._arrival_timer is None:
            self._arrival_timer = self.loop.call_later(ARRIVES_WITHIN, self._give_up)

    def send_400_response(self, msg: str) -> None:
        """Say what is wrong with a request that is none, in the form of all other errors, and close."""
        body = json.dumps({"type": "invalid_request", "code": "bad_request", "detail": msg, "attr": None}).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("Connection", "close")]
        for event in (
            h11.Response(status_code=HTTPStatus.BAD_REQUEST, headers=headers, reason=HTTPStatus.BAD_REQUEST.phrase),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def timeout_keep_alive_handler(self) -> None:
        """Close what has been idle for long enough, also when the client has not read all of its last answer."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        super().timeout_keep_alive_handler()

    def pause_writing(self) -> None:
        """Begin to wait for the client to read."""
        super().pause_writing()
        self._wait_for_reading()

    def resume_writing(self) -> None:
        """Take note that the client has read."""
        super().resume_writing()
        self._stop_waiting_for_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._stop_waiting()
        self._stop_waiting_for_reading()
        super().connection_lost(exc)

    def _is_serving(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete  # type: ignore[redundant-expr] # None before the first one

    def _is_idle(self) -> bool:
        return self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]

    def _keep_alive(self) -> None:
        if self.timeout_keep_alive_task is None:  # uvicorn sets it at the end of an answer only, and this came after it
            self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _stop_waiting(self) -> None:
        if self._arrival_timer is not None:
            self._arrival_timer.cancel()
            self._arrival_timer = None

    def _give_up(self) -> None:
        self._arrival_timer = None
        if not self._is_serving():
            self.transport.abort()

    def _wait_for_reading(self) -> None:
        self._stop_waiting_for_reading()
        left = self.transport.get_write_buffer_size()
        self._read_timer = self.loop.call_later(READ_WITHIN, self._check_reading, left)

    def _check_reading(self, left_before: int) -> None:
        if self.transport.get_write_buffer_size() < left_before:
            self._wait_for_reading()
        else:
            self.transport.abort()

    def _stop_waiting_for_reading(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None
