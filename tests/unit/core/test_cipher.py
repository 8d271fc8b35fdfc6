from __future__ import annotations

import os
from base64 import b64encode
from typing import Any

import pytest
from pydantic import SecretBytes, SecretStr

from aiojobs_rt import AesGcmCipher, ConfigurationError, DecryptionError, MissingKey
from aiojobs_rt.core.cipher import ID_BYTES, NONCE_BYTES, TAG_BYTES

ONE, TWO = AesGcmCipher.generate_key(), AesGcmCipher.generate_key()


def test_what_was_encrypted_is_decrypted_and_looks_like_nothing() -> None:
    cipher = AesGcmCipher([ONE])
    sealed = cipher.encrypt(b"hunter2", b"of a job")
    assert b"hunter2" not in sealed
    assert len(sealed) == len(b"hunter2") + ID_BYTES + NONCE_BYTES + TAG_BYTES
    assert cipher.decrypt(sealed, b"of a job") == b"hunter2"
    assert cipher.decrypt(cipher.encrypt(b"", b""), b"") == b""


def test_the_same_twice_is_not_the_same() -> None:
    cipher = AesGcmCipher([ONE])
    assert len({cipher.encrypt(b"x", b"") for _ in range(100)}) == 100


def test_the_first_key_encrypts_and_all_decrypt() -> None:
    old, both, new = AesGcmCipher([ONE]), AesGcmCipher([TWO, ONE]), AesGcmCipher([TWO])
    before, after = old.encrypt(b"before", b""), both.encrypt(b"after", b"")
    assert both.decrypt(before, b"") == b"before"
    assert both.decrypt(after, b"") == new.decrypt(after, b"") == b"after"
    for cipher, sealed in ((new, before), (old, after)):
        with pytest.raises(MissingKey, match=rf"its key {sealed[:4].hex()} is not among those of this process"):
            cipher.decrypt(sealed, b"")


@pytest.mark.parametrize("at", range(ID_BYTES + NONCE_BYTES + 5 + TAG_BYTES))
def test_no_bit_can_be_changed(at: int) -> None:
    cipher = AesGcmCipher([ONE, TWO])
    sealed = bytearray(cipher.encrypt(b"12345", b"of a job"))
    sealed[at] ^= 1
    with pytest.raises(MissingKey if at < ID_BYTES else DecryptionError) as raised:
        cipher.decrypt(bytes(sealed), b"of a job")
    assert isinstance(raised.value, MissingKey) == (at < ID_BYTES)


@pytest.mark.parametrize("length", [0, 3, 4, 16, 31])
def test_what_is_cut_is_told(length: int) -> None:
    cipher = AesGcmCipher([ONE])
    with pytest.raises(DecryptionError, match="too short"):
        cipher.decrypt(cipher.encrypt(b"", b"")[:length], b"")


def test_it_is_bound_to_what_it_is_associated_with() -> None:
    cipher = AesGcmCipher([ONE])
    with pytest.raises(DecryptionError, match="changed since, or another job's"):
        cipher.decrypt(cipher.encrypt(b"x", b"of a job"), b"of another")


def test_a_key_may_be_given_in_any_form() -> None:
    raw = os.urandom(32)
    text = b64encode(raw).decode()
    sealed = AesGcmCipher([raw]).encrypt(b"x", b"")
    forms: list[Any] = [text, f" {text}\n", text.replace("+", "-").replace("/", "_"), SecretStr(text), SecretBytes(raw)]
    for form in forms:
        assert AesGcmCipher([form]).decrypt(sealed, b"") == b"x"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ([], "takes a list of keys"),
        (ONE, "takes a list of keys"),
        ([ONE, "hunter2"], "key 2 of 2 is no key: 32 bytes, or their base64; make one: python -m aiojobs_rt generate key"),
        ([b"hunter2"], "key 1 of 1 is no key"),
        (["hünter2"], "key 1 of 1 is no key"),
        ([b64encode(b"hunter2" * 5).decode()], "key 1 of 1 is no key"),
        ([7], "key 1 of 1 is no key"),
        ([ONE, TWO, ONE], "key 3 of 3 is there twice"),
    ],
    ids=["no keys", "no list", "a password among them", "bytes", "no ASCII", "too long", "a number", "twice"],
)  # fmt: skip
def test_a_wrong_key_is_refused_and_never_told(keys: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as raised:
        AesGcmCipher(keys)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
    assert not any(str(key) in str(raised.value) for key in keys if len(str(key)) > 1)


def test_no_key_is_in_its_repr() -> None:
    shown = repr(AesGcmCipher([ONE, TWO]))
    assert shown.startswith("AesGcmCipher(<")
    assert ONE not in shown
    assert len(shown) == len("AesGcmCipher(<01234567, 01234567>)")


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    with pytest.raises(ConfigurationError, match=r"pip install aiojobs_rt\[encryption\]"):
        AesGcmCipher([ONE])
