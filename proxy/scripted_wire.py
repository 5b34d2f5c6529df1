"""Where a caller speaks Workers AI's own wire, a script that cuts, garbles or silences an answer does so to its bytes.

Whoever talks to the relay's own interface is told of such an upstream in the relay's way; here nothing stands between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapters.base import Call
from adapters.errors import UpstreamTruncated
from adapters.simulator.script import Scene
from proxy.boundary import below_root

_FRAME = b"data: "
_DONE = b"data: [DONE]"


class ScriptedWire:
    """Behind authentication, so that no error answer is touched. `native` tells Workers AI's own paths."""

    def __init__(self, app: ASGIApp, native: Callable[[str], bool]) -> None:
        self.app = app
        self._native = native

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._native(below_root(scope)):
            call: Call = scope["state"]["call"]
            call.native = True
            send = _spoiling(call, send)
        await self.app(scope, receive, send)


def _spoiling(call: Call, send: Send) -> Send:
    """`send` that does what the scene says. Raises UpstreamTruncated where the connection has to break."""
    whole = False

    async def spoiling(message: Message) -> None:
        nonlocal whole
        scene = call.scene
        if message["type"] == "http.response.start":
            whole = any(name == b"content-length" for name, _ in message["headers"])
        elif scene is not None and scene.spoil is not None:
            message = await _spoiled(message, scene, whole, send)
        await send(message)

    return spoiling


async def _spoiled(message: Message, scene: Scene, whole: bool, send: Send) -> Message:
    body: bytes = message.get("body", b"")
    if scene.spoil == "malformed":
        garbled = b"{" + body[:-1] if whole else _garbled(body)  # as long as it was announced
        if garbled != body:  # a keep-alive has nothing to garble
            scene.spoil = None
        return {**message, "body": garbled}
    if scene.spoil == "hang":
        scene.spoil = "cut"  # whatever ends the silence, nothing comes after it
        await asyncio.sleep(scene.idle)
    elif whole:
        await send({**message, "body": body[: len(body) // 2], "more_body": True})
    raise UpstreamTruncated


def _garbled(frames: bytes) -> bytes:
    """The frames of one event, the last of its data cut off in the middle of its JSON."""
    parts = frames.split(b"\n\n")
    data = [at for at, part in enumerate(parts) if part.startswith(_FRAME) and part != _DONE]
    if data:
        at = data[0] if _DONE in parts else data[-1]
        parts[at] = parts[at][: (len(_FRAME) + len(parts[at])) // 2]
    return b"\n\n".join(parts)
