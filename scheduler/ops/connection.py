"""One connection of a client: uvicorn's protocol with the time limits for which uvicorn has no setting.

uvicorn closes an idle connection. It waits without limit in three cases: for the end of a request's head, for
the rest of a body after the application's answer, and for a client to read its answer. A few hundred such
connections use up all the file descriptors of a process.
"""

import asyncio
import json
from http import HTTPStatus
from typing import Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_HEAD: Final = 64 * 1024
"""Limit for a request's line and headers, in bytes. A longer head is answered with 400."""
ARRIVES_WITHIN: Final = 10.0
"""Seconds for a head to arrive, from the connection or from the request's first byte on.

The same limit holds for the rest of a body after its answer.
"""
MAX_PIECE: Final = 16 * 1024
"""Bytes to process before the loop's other tasks run.

A body in chunks of one byte has some 3,000 chunks in a piece, which take 20 ms.
"""
READ_WITHIN: Final = 30.0
"""Seconds in which a client must read at least a part of the data that waits for it."""


class Connection(H11Protocol):
    """HTTP/1.1 with limits on a client's time. A connection beyond a limit is closed."""

    _unread = b""  # received, and not processed yet
    _is_paused = False  # reads no more from the transport until `_unread` is processed
    _arrival_timer: asyncio.TimerHandle | None = None
    _read_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        """Start the time limit for the first request."""
        super().connection_made(transport)
        self._arrival_timer = self.loop.call_later(ARRIVES_WITHIN, self._give_up)

    def data_received(self, data: bytes) -> None:
        """Process received bytes in pieces.

        A piece may hold a large number of chunks, and each chunk costs a step.
        """
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
        """Process some bytes, and set the time limit for the rest of a request.

        While a request is being answered, this limit does not run. An idle connection gets uvicorn's
        idle limit.
        """
        super().data_received(data)
        if self._is_serving():
            self._stop_waiting()
        elif self._is_idle():
            self._stop_waiting()
            self._keep_alive()
        elif self._arrival_timer is None:
            self._arrival_timer = self.loop.call_later(ARRIVES_WITHIN, self._give_up)

    def send_400_response(self, msg: str) -> None:
        """Answer malformed input with 400, in the form of all other errors, and close the connection."""
        problem = {"type": "invalid_request", "code": "bad_request", "detail": msg, "attr": None}
        body = json.dumps(problem).encode()
        headers = [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
        ]
        status = HTTPStatus.BAD_REQUEST
        response = h11.Response(status_code=status, headers=headers, reason=status.phrase)
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection after its idle time.

        Abort the connection when the client has not read all of its last answer.
        """
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        super().timeout_keep_alive_handler()

    def pause_writing(self) -> None:
        """Start the time limit for the client to read."""
        super().pause_writing()
        self._wait_for_reading()

    def resume_writing(self) -> None:
        """Stop the time limit for the client to read: the client has read."""
        super().resume_writing()
        self._stop_waiting_for_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all time limits."""
        self._stop_waiting()
        self._stop_waiting_for_reading()
        super().connection_lost(exc)

    def _is_serving(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete  # type: ignore[redundant-expr] # None before the first one

    def _is_idle(self) -> bool:
        return self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]

    def _keep_alive(self) -> None:
        # uvicorn starts the timer at the end of an answer only; these bytes came later
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

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
