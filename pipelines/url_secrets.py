"""Passwords in URLs: a file that may be shared gets the name of a variable instead."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SECRET_OPTIONS = ("password", "sslpassword", "private_key_file_pwd", "token", "passcode")
_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")


@dataclass(frozen=True, kw_only=True)
class MaskedUrl:
    """A URL in which each password is the name of an environment variable."""

    url: str
    variables: tuple[str, ...] = ()  # that must be set to what stood there, as it was written


def mask(url: str, kind: str) -> MaskedUrl:
    """Puts `${ROWTRAIL_SOURCE_PASSWORD}` and its like in for the passwords; `kind` is `source` or
    `destination`. What is such a variable already stays.
    """
    scheme, found, rest = url.partition("://")
    if not found:
        return MaskedUrl(url=url)
    end = re.search(r"[/?#]", rest)
    authority, tail = (rest, "") if end is None else (rest[: end.start()], rest[end.start() :])
    variables: list[str] = []

    def hide(secret: str, option: str) -> str:
        if not secret or _VARIABLE.fullmatch(secret):
            return secret
        variables.append(f"ROWTRAIL_{kind}_{option}".upper())
        return f"${{{variables[-1]}}}"

    user, at, host = authority.rpartition("@")
    name, colon, password = user.partition(":")
    masked = f"{name}{colon}{hide(password, 'password')}{at}{host}"
    path, question, query = tail.partition("?")
    options = [
        f"{key}{equals}{hide(value, key.lower()) if key.lower() in _SECRET_OPTIONS else value}"
        for key, equals, value in (one.partition("=") for one in query.split("&"))
    ]
    return MaskedUrl(
        url=f"{scheme}://{masked}{path}{question}{'&'.join(options)}",
        variables=tuple(dict.fromkeys(variables)),
    )
