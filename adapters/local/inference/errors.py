"""What can go wrong with a job or with the engine. No message holds a prompt or an answer."""

from __future__ import annotations


class InferenceError(Exception):
    """Anything that the engine refuses or fails at."""


class UnsupportedModel(InferenceError):
    """This folder holds no model that the engine can run."""


class InvalidJob(InferenceError):
    """A job that can never be run: `field` is the name of what is wrong with it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class PromptTooLong(InvalidJob):
    """The prompt of `tokens` leaves no room for an answer in a context of `limit` tokens."""

    def __init__(self, tokens: int, limit: int) -> None:
        super().__init__("prompt_ids", f"the prompt has {tokens} tokens and the context holds {limit} with the answer")
        self.tokens = tokens
        self.limit = limit


class InputTooLong(PromptTooLong):
    """A text of `tokens` for a model that makes vectors of `limit` tokens at most."""

    def __init__(self, tokens: int, limit: int) -> None:
        super().__init__(tokens, limit)
        self.args = (f"input: it has {tokens} tokens and the model takes {limit}",)
        self.field = "input"


class QueueFull(InferenceError):
    """Nobody else may wait; `retry_after` is the estimate, in seconds, of when a place in the queue is likely."""

    def __init__(self, retry_after: float) -> None:
        super().__init__("the queue is full")
        self.retry_after = retry_after


class JobFailed(InferenceError):
    """This job alone could not go on: its constraint failed, or the model gave it no usable numbers."""


class EngineClosed(InferenceError):
    """The engine has been told to stop."""


class EngineDead(InferenceError):
    """The device or the model failed under all jobs; only a new process helps."""
