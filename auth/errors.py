"""Why a caller is not let in. The messages are for the caller and hold no token."""

from __future__ import annotations


class AuthError(Exception):
    """The request carries no token that lets it in; `missing` where it carries none at all."""

    missing = False

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class MissingToken(AuthError):
    missing = True

    def __init__(self) -> None:
        super().__init__("No token. Send `Authorization: Bearer <token>` or `x-api-key: <token>`.")


class InvalidToken(AuthError):
    def __init__(self) -> None:
        super().__init__("The token is not one that this relay accepts.")
