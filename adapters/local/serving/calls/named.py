"""Calls as a name and then a JSON object: Mistral since 2025, DeepSeek, GLM-4."""

from __future__ import annotations

import re
from functools import partial

from adapters.local.serving.calls.head import NamedCall
from adapters.local.serving.calls.json_value import ValueEnd
from adapters.local.serving.calls.syntax import Opener


def named_object(head: re.Pattern[str]) -> Opener:
    """Calls whose head, which ends before an opening brace, is this."""
    return partial(NamedCall, head=head, arguments=lambda _: ValueEnd())
