"""A TCP port in front of a server, through which chaos.py makes a network slow, broken or untrue."""

from __future__ import annotations

import asyncio
import threading

from _chaos_tools import free_port

OPEN, CUT, SLOW, REFUSING, LYING = "open", "cut", "slow", "refusing", "lying"
DELAY = 1.5  # seconds added to every answer of a slow link
SORRY = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
CHUNK = 65536


class Link:
    """A TCP port in front of another one, in a thread. `mode` says what becomes of what passes through."""

    def __init__(self, target: int) -> None:
        """target: a port of this machine, where nobody needs to listen yet."""
        self.port = free_port()
        self.mode = OPEN
        self._target = target
        self.connections: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    def set(self, mode: str) -> None:
        """Change what becomes of the traffic; CUT ends every connection."""
        self.mode = mode
        if mode == CUT:
            self._loop.call_soon_threadsafe(self._abort)

    def close(self) -> None:
        """Listen no longer, and end every connection."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _abort(self) -> None:
        for writer in self.connections:
            writer.transport.abort()

    async def _end(self) -> None:
        self._server.close()
        self._abort()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.add(writer)
        try:
            if self.mode == CUT:
                return
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            try:
                forth = asyncio.ensure_future(self._forth(reader, writer, far_writer))
                back = asyncio.ensure_future(self._back(far_reader, writer))
                await asyncio.wait({forth, back}, return_when=asyncio.FIRST_COMPLETED)
                forth.cancel()
                back.cancel()
                await asyncio.gather(forth, back, return_exceptions=True)
            finally:
                far_writer.transport.abort()
        except OSError:
            pass
        finally:
            self.connections.discard(writer)
            writer.transport.abort() if self.mode == CUT else writer.close()

    async def _forth(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, far: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(CHUNK):
            if self.mode == CUT:
                return
            if self.mode == REFUSING:
                writer.write(SORRY)
                await writer.drain()
                return
            far.write(data)
            await far.drain()

    async def _back(self, far: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await far.read(CHUNK):
            if self.mode == CUT:
                return
            if self.mode == SLOW:
                await asyncio.sleep(DELAY)
            writer.write(SORRY if self.mode == LYING else data)
            await writer.drain()
            if self.mode == LYING:
                return
