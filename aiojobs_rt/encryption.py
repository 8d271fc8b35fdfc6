"""Encryption: the arguments of a job are sealed as they leave the process, and opened by the worker that runs it; its result the other way.

A job whose class says `encrypted = True` (or none says otherwise, and the setting `encrypted` is on) is marked in its meta, and travels
as wire version 2: a worker that knows nothing of this leaves it unread. Sealed bytes begin with a byte that no JSON begins with. They hold
for one job: its id, without the shard that it is given on the way, and its name are associated with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiojobs_rt.core.cipher import AesGcmCipher
from aiojobs_rt.errors import ConfigurationError, DecryptionError, MissingKey
from aiojobs_rt.settings import place_of, settings

if TYPE_CHECKING:
    from aiojobs_rt.core.cipher import Cipher
    from aiojobs_rt.job import Job

SEALED = b"\x01"
NO_KEYS = "set AIOJOBS_RT_ENCRYPTION_KEYS, or encryption_keys in aiojobs_rt.toml, or call use_cipher"


class _Chosen:
    """The cipher that `use_cipher` was given."""

    cipher: Cipher | None = None


_of_settings: dict[str, AesGcmCipher] = {}


def use_cipher(cipher: Cipher | None) -> None:
    """Encrypt and decrypt with this cipher in this process, whatever AIOJOBS_RT_ENCRYPTION_KEYS says.

    Call it in a module that producers and workers import.

    Args:
        cipher: an `AesGcmCipher`, or one of your own; None: that of the setting again.
    """
    _Chosen.cipher = cipher


def current() -> Cipher | None:
    """The cipher of this process; None: it has no keys.

    Raises:
        ConfigurationError: the setting holds no keys, or `cryptography` is missing.
    """
    if _Chosen.cipher is not None:
        return _Chosen.cipher
    keys = settings().encryption_keys.get_secret_value()
    if not keys.strip():
        return None
    found = _of_settings.get(keys)
    if found is None:
        try:
            found = _of_settings[keys] = AesGcmCipher([key for key in keys.replace(",", " ").split() if key])
        except ConfigurationError as error:
            raise ConfigurationError(f"{place_of('encryption_keys')}: {error}") from None
    return found


def required(job: str) -> Cipher:
    """The cipher, for a job that has to be encrypted: it is never sent as it is.

    Raises:
        ConfigurationError: there is none.
    """
    found = current()
    if found is None:
        raise ConfigurationError(f"the arguments of {job} are to be encrypted, and this process has no key: {NO_KEYS}")
    return found


def is_wanted(job_class: type[Job]) -> bool:
    """Whether jobs of this class are to be encrypted: as it says, or else the setting."""
    said = job_class.options().encrypted
    return settings().encrypted if said is None else said


def seal_arguments(job_id: str, job: str, raw: bytes) -> bytes:
    """The arguments of a job as they leave this process.

    Raises:
        ConfigurationError: there is no key.
    """
    return SEALED + required(job).encrypt(raw, _of_arguments(job_id, job))


def open_arguments(job_id: str, job: str, sealed: bytes) -> bytes:
    """What `seal_arguments` was given.

    Raises:
        MissingKey: no key for it is here, or its cipher fails.
        DecryptionError: they were changed, or are another job's.
    """
    return _open(sealed, _of_arguments(job_id, job), "its arguments")


def is_sealed(raw: bytes) -> bool:
    """Whether arguments are sealed, and not JSON."""
    return raw.startswith(SEALED)


def seal_result(job_id: str, raw: bytes) -> bytes:
    """The result of an encrypted job as it is kept."""
    return SEALED + required(job_id).encrypt(raw, _of_result(job_id))


def open_result(job_id: str, sealed: bytes) -> bytes:
    """What `seal_result` was given.

    Raises:
        MissingKey, DecryptionError: as of `open_arguments`.
    """
    return _open(sealed, _of_result(job_id), f"the result of job {job_id}")


def _open(sealed: bytes, associated: bytes, what: str) -> bytes:
    try:
        return _decrypt(sealed, associated)
    except MissingKey as error:
        raise MissingKey(f"{what} can't be decrypted here: {error}") from None
    except DecryptionError as error:
        raise DecryptionError(f"{what} can't be decrypted: {error}") from None
    except Exception as error:
        # whatever a cipher raises, the job is kept (G1)
        raise MissingKey(f"{what} can't be decrypted here: {type(error).__name__}: {error}") from error


def _decrypt(sealed: bytes, associated: bytes) -> bytes:
    if not is_sealed(sealed):
        raise DecryptionError("they are not encrypted, though the message says so")
    cipher = current()
    if cipher is None:
        raise MissingKey(f"this process has no key: {NO_KEYS}")
    return cipher.decrypt(sealed[len(SEALED) :], associated)


def _of_arguments(job_id: str, job: str) -> bytes:
    return f"aiojobs arguments {_without_shard(job_id)} {job}".encode("utf-8", "surrogatepass")


def _of_result(job_id: str) -> bytes:
    return f"aiojobs result {_without_shard(job_id)}".encode()


def _without_shard(job_id: str) -> str:
    """A sharded queue writes it into the id after the arguments were sealed, and another job's differs in the rest of the id anyway."""
    home, dot, rest = job_id.partition(".")
    return f"{home.partition('~')[0]}{dot}{rest}"
