"""Keys that encrypt images, several in turn.

Images are Fernet tokens without their base64: https://github.com/fernet/spec
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING

from rowtrail.connectors.errors import ConfigurationError

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

KEY_BYTES = 32
PACKAGE = "cryptography"
NO_KEY = (
    "is no key: a key is 32 random bytes in URL-safe base64, 44 characters. Make one with: python "
    '-c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"'
)


class WrongKeyError(Exception):
    """None of the keys opens it."""


def is_key(text: str) -> bool:
    """Whether the text has the form of a key; nothing is imported for it."""
    try:
        return len(base64.b64decode(text, altchars=b"-_", validate=True)) == KEY_BYTES
    except (binascii.Error, ValueError):
        return False


def keys_in(setting: str | Sequence[str] | None) -> tuple[str, ...]:
    """The keys of a setting: a list, or a text in which commas part them, as in a variable."""
    texts = [setting] if isinstance(setting, str) else setting or ()
    return tuple(key for text in texts for key in text.replace(",", " ").split() or ("",))


class ImageKeys:
    """The first key encrypts, each is tried to decrypt: a new key is put in front of the old ones.

    Raises ConfigurationError where the package that does it is not installed.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        if find_spec(PACKAGE) is None:
            raise ConfigurationError(
                f"`image_key` is set, and the package {PACKAGE} is not installed, so that images "
                f"cannot be encrypted. Install it: pip install 'rowtrail[encryption]'"
            )
        self._keys = tuple(keys)

    def __repr__(self) -> str:
        return f"ImageKeys({len(self._keys)})"  # whoever prints it must not print a key

    def seal(self, data: bytes) -> bytes:
        """The data, encrypted and signed."""
        return base64.urlsafe_b64decode(self._fernets.encrypt(data))

    def open(self, sealed: bytes) -> bytes:
        """What was sealed, as it was; raises WrongKeyError, also when it was changed since."""
        from cryptography.fernet import InvalidToken

        try:
            return bytes(self._fernets.decrypt(base64.urlsafe_b64encode(sealed)))
        except InvalidToken:
            raise WrongKeyError from None

    @cached_property
    def _fernets(self) -> MultiFernet:
        from cryptography.fernet import Fernet, MultiFernet

        return MultiFernet([Fernet(key) for key in self._keys])
