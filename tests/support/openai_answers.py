"""What the answers in OpenAI's form share that tests have written."""

from __future__ import annotations

from hypothesis import strategies as st

from adapters.canonical import ChatRequest, Message, Usage
from adapters.wire.openai_answer import Stamp

STAMP = Stamp(id="chatcmpl-1", created=1795167460, model="asked-for", fingerprint="fp_x")
REQUEST = ChatRequest(model="asked-for", messages=(Message(role="user", content="Hi"),))
USAGE = Usage(prompt_tokens=3, completion_tokens=2, cached_tokens=1, reasoning_tokens=1)
LEGACY = ChatRequest(model="m", messages=(), legacy_functions=True)

COUNTED = st.builds(
    Usage,
    prompt_tokens=st.integers(0, 10**9),
    completion_tokens=st.integers(0, 10**9),
    cached_tokens=st.integers(0, 10**9),
    reasoning_tokens=st.integers(0, 10**9),
    neurons=st.none() | st.floats(0, 1e9),
)
