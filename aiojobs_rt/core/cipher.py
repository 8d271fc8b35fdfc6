"""Ciphers: what can encrypt the arguments and results of jobs, and the ready-made one, AES-GCM with keys that rotate.

What `AesGcmCipher` writes is the id of the key (4 bytes, made from the key), a random nonce (12 bytes), the encrypted data, and the tag
(16 bytes) that holds for it and for what it is associated with.
"""

from __future__ import annotations

import binascii
import os
from base64 import b64decode, urlsafe_b64encode
from hashlib import blake2s
from typing import TYPE_CHECKING, Protocol

from pydantic import SecretBytes, SecretStr

from aiojobs_rt.errors import ConfigurationError, DecryptionError, MissingKey

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
ID_BYTES = 4
NONCE_BYTES = 12
TAG_BYTES = 16
_HEAD_BYTES = ID_BYTES + NONCE_BYTES


class Cipher(Protocol):
    """What encrypts and decrypts; called in the event loop, and from any thread, so it must be quick and have no state of its own."""

    def encrypt(self, data: bytes, associated: bytes, /) -> bytes:
        """Encrypt data, bound to what it is associated with; the same data twice should not give the same bytes."""
        ...

    def decrypt(self, data: bytes, associated: bytes, /) -> bytes:
        """What `encrypt` was given.

        Raises:
            MissingKey: no key for it is here: a job waits for a worker that has it. So it does after any other error but the next.
            DecryptionError: it was changed, or encrypted with other associated data: the job is dead.
        """
        ...


class AesGcmCipher:
    """AES-GCM with 256-bit keys. Needs the package `cryptography`: `pip install aiojobs_rt[encryption]`.

    Args:
        keys: the first one encrypts, all decrypt. Each is 32 bytes, or their base64 as text; `AesGcmCipher.generate_key()` makes one.

    Raises:
        ConfigurationError: a key is none, one is there twice, or the package is missing. No key is ever told.
    """

    __slots__ = ("_by_id", "_first", "_first_id")

    def __init__(self, keys: Sequence[str | bytes | SecretStr | SecretBytes]) -> None:
        if isinstance(keys, (str, bytes)) or not keys:
            raise ConfigurationError("AesGcmCipher takes a list of keys, the one that encrypts first")
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - optional, and slow to import
        except ImportError:
            raise ConfigurationError(
                "encryption needs the package cryptography: pip install aiojobs_rt[encryption]"
            ) from None
        self._by_id: dict[bytes, AESGCM] = {}
        for number, key in enumerate(keys, start=1):
            raw = _raw(key, f"key {number} of {len(keys)}")
            key_id = blake2s(raw, digest_size=ID_BYTES, person=b"aiojobs").digest()
            if key_id in self._by_id:
                raise ConfigurationError(f"key {number} of {len(keys)} is there twice")
            self._by_id[key_id] = AESGCM(raw)
        self._first_id, self._first = next(iter(self._by_id.items()))

    def __repr__(self) -> str:
        return f"AesGcmCipher(<{', '.join(key_id.hex() for key_id in self._by_id)}>)"

    @staticmethod
    def generate_key() -> str:
        """A new key, as base64."""
        return urlsafe_b64encode(os.urandom(KEY_BYTES)).decode()

    def encrypt(self, data: bytes, associated: bytes, /) -> bytes:
        """See `Cipher.encrypt`."""
        nonce = os.urandom(
            NONCE_BYTES
        )  # never prepared for later: a fork would use it twice, and that breaks the cipher
        return self._first_id + nonce + self._first.encrypt(nonce, data, associated)

    def decrypt(self, data: bytes, associated: bytes, /) -> bytes:
        """See `Cipher.decrypt`."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - it is loaded: `__init__` has

        if len(data) < _HEAD_BYTES + TAG_BYTES:
            raise DecryptionError("too short for what AesGcmCipher writes")
        key = self._by_id.get(data[:ID_BYTES])
        if key is None:
            raise MissingKey(
                f"its key {data[:ID_BYTES].hex()} is not among those of this process (the setting encryption_keys)"
            )
        try:
            return key.decrypt(data[ID_BYTES:_HEAD_BYTES], data[_HEAD_BYTES:], associated)
        except InvalidTag:
            raise DecryptionError("changed since, or another job's") from None


def _raw(key: str | bytes | SecretStr | SecretBytes, which: str) -> bytes:
    if isinstance(key, (SecretStr, SecretBytes)):
        key = key.get_secret_value()
    if isinstance(key, str):
        try:
            key = b64decode(key.strip().translate({ord("-"): "+", ord("_"): "/"}), validate=True)
        except (binascii.Error, ValueError):  # without a cause: it may quote the key
            key = b""
    if not isinstance(key, bytes) or len(key) != KEY_BYTES:  # pyright: ignore[reportUnnecessaryIsInstance] - callers without types
        raise ConfigurationError(
            f"{which} is no key: 32 bytes, or their base64; make one: python -m aiojobs_rt generate key"
        )
    return key
