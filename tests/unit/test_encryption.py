"""Which jobs are sealed as they leave, what for, and what a worker makes of them; without Redis."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from aiojobs_rt import (
    AesGcmCipher,
    ConfigurationError,
    DecryptionError,
    InvalidJob,
    Job,
    MissingKey,
    PayloadTooLarge,
    after_enqueue,
    perform_all_later,
    use_cipher,
)
from aiojobs_rt.adapters.redis.enqueuer import route_of
from aiojobs_rt.core.message import MalformedMessage, NewerMessage, parse
from aiojobs_rt.encryption import open_arguments, open_result, seal_arguments, seal_result
from aiojobs_rt.testing import recording_jobs
from aiojobs_rt.worker.served import Delivery, Served
from tests.support.recording import NOW_MS, RecordingAdapter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiojobs_rt.adapters.base import Envelope

CARD = "hunter2"
KEY = AesGcmCipher.generate_key()


@pytest.fixture(autouse=True)
def _keys() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    use_cipher(AesGcmCipher([KEY]))
    yield
    use_cipher(None)


class Sent:
    """A job class that is encrypted, and what it enqueued."""

    def __init__(self, encrypted: bool | None = True) -> None:
        carried = self.carried = RecordingAdapter()

        class ChargesCard(Job):
            adapter = carried

            async def perform(self, card: str) -> str:
                return card

        ChargesCard.encrypted = encrypted
        ChargesCard._options = replace(ChargesCard._options, encrypted=encrypted)
        self.job = ChargesCard

    async def envelope(self, **options: Any) -> Envelope:
        await self.job.set(**options).perform_later(CARD)
        return self.carried.envelopes[-1]


def delivered(envelope: Envelope, *, version: int = 2, job_id: str = "", job: str = "") -> Delivery:
    """An envelope as a worker gets it."""
    meta = b'{"v":%d,"at":%d' % (version, NOW_MS) + envelope.meta
    job_id, job = job_id or envelope.id, job or envelope.job
    fields = [b"id", job_id.encode(), b"job", job.encode(), b"args", envelope.args, b"meta", meta]
    return Delivery(Served("default", worker="w", prefix="p", lease=30), "", b"1-1", fields, 0.0)


async def test_what_is_enqueued_is_sealed_and_marked_and_a_worker_opens_it() -> None:
    envelope = await Sent().envelope()
    assert CARD not in repr(envelope)
    assert CARD.encode() not in envelope.args + envelope.meta
    assert (envelope.encrypted, envelope.args[:1], orjson.loads(b'{"v":2' + envelope.meta)) == (
        True,
        b"\x01",
        {"v": 2, "encrypted": 1},
    )
    assert route_of(envelope) == "#2"
    message = delivered(envelope).read()
    assert orjson.loads(message.args) == {"card": CARD}
    assert CARD not in repr(message)
    again = message.failed(None, now_ms=NOW_MS).meta()
    assert again.startswith(b'{"v":2,"at":')
    assert parse(b"q.1", b"Charge", envelope.args, again, queue="q").extra["encrypted"] == 1


async def test_version_and_route_stand_beside_each_other() -> None:
    sent = Sent()
    assert route_of(await sent.envelope(wait=1, priority=-3)) == "-3+1000#2"
    assert route_of(await sent.envelope(priority=7)) == "7#2"


@pytest.mark.parametrize(
    ("said", "setting", "sealed"),
    [(None, None, False), (None, "true", True), (False, "true", False), (True, None, True), (True, "false", True)],
)
async def test_the_class_says_so_or_else_the_setting(
    said: bool | None, setting: str | None, sealed: bool, environment: pytest.MonkeyPatch
) -> None:
    if setting is not None:
        environment.setenv("AIOJOBS_RT_ENCRYPTED", setting)
    envelope = await Sent(said).envelope()
    assert envelope.encrypted == sealed
    assert (envelope.args == b'{"card":"hunter2"}') != sealed


def test_the_option_is_inherited_and_checked() -> None:
    class Base(Job):
        encrypted = True

    class Derived(Base):
        async def perform(self) -> None: ...

    assert Derived.options().encrypted is True
    with pytest.raises(InvalidJob, match="Odd: encrypted must be True, False or None, got 1"):
        type("Odd", (Job,), {"encrypted": 1})


async def test_keys_come_from_the_setting(environment: pytest.MonkeyPatch) -> None:
    use_cipher(None)
    other = AesGcmCipher.generate_key()
    environment.setenv("AIOJOBS_RT_ENCRYPTION_KEYS", f"{KEY}, {other}")
    envelope = await Sent().envelope()
    use_cipher(AesGcmCipher([KEY]))
    assert orjson.loads(delivered(envelope).read().args) == {"card": CARD}


async def test_a_wrong_setting_is_named_and_not_told(environment: pytest.MonkeyPatch) -> None:
    use_cipher(None)
    environment.setenv("AIOJOBS_RT_ENCRYPTION_KEYS", "hunter2")
    with pytest.raises(ConfigurationError, match=r"^AIOJOBS_RT_ENCRYPTION_KEYS: key 1 of 1 is no key") as raised:
        await Sent().envelope()
    assert CARD not in str(raised.value)


async def test_without_a_key_nothing_is_sent() -> None:
    use_cipher(None)
    sent = Sent()
    for enqueue in (
        lambda: sent.job.perform_later(CARD),
        lambda: perform_all_later([sent.job.bind(CARD)]),
    ):
        with pytest.raises(
            ConfigurationError, match="ChargesCard are to be encrypted, and this process has no key: set AIOJOBS"
        ):
            await enqueue()
    with pytest.raises(ConfigurationError):
        sent.job.bind(CARD).identified()  # for after a commit: not only then
    assert sent.carried.envelopes == []


async def test_a_worker_without_the_key_leaves_it_to_others() -> None:
    envelope = await Sent().envelope()
    for cipher, why in (
        (None, "this process has no key: set AIOJOBS_RT"),
        (AesGcmCipher([AesGcmCipher.generate_key()]), "its key"),
    ):
        use_cipher(cipher)
        with pytest.raises(MissingKey, match=f"its arguments can't be decrypted here: {why}"):
            delivered(envelope).read()


async def test_what_a_cipher_of_ones_own_raises_loses_nothing() -> None:
    class Remote:
        def encrypt(self, data: bytes, associated: bytes, /) -> bytes:
            return data[::-1]

        def decrypt(self, data: bytes, associated: bytes, /) -> bytes:
            raise OSError("the vault is away")

    use_cipher(Remote())
    envelope = await Sent().envelope()
    with pytest.raises(MissingKey, match="can't be decrypted here: OSError: the vault is away"):
        delivered(envelope).read()


async def test_arguments_do_not_open_in_another_job() -> None:
    sent = Sent()
    envelope, other = await sent.envelope(), await sent.envelope()
    for changed in (delivered(envelope, job_id=other.id), delivered(envelope, job="Refund")):
        with pytest.raises(DecryptionError, match="can't be decrypted: changed since, or another job's") as raised:
            changed.read()
        assert not isinstance(raised.value, MissingKey)
    plain = replace(envelope, args=b'{"card":"mine"}')
    with pytest.raises(DecryptionError, match="they are not encrypted, though the message says so"):
        delivered(plain).read()


def test_a_shard_given_on_the_way_changes_nothing_and_results_are_bound_too() -> None:
    sealed = seal_arguments("bulk.abc", "Charge", b"{}")
    assert open_arguments("bulk~3.abc", "Charge", sealed) == b"{}"
    kept = seal_result("bulk~3.abc", b'"x"')
    assert open_result("bulk.abc", kept) == b'"x"'
    with pytest.raises(DecryptionError, match=r"the result of job bulk.abd can't be decrypted"):
        open_result("bulk.abd", kept)
    with pytest.raises(DecryptionError):
        open_result("bulk.abc", sealed)


async def test_sizes_are_looked_at_before_anything_is_decrypted(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AIOJOBS_RT_MAX_PAYLOAD", "100")
    sent = Sent()
    with pytest.raises(PayloadTooLarge):
        sent.job.bind("x" * 100)
    envelope = await sent.envelope()
    opened: list[bytes] = []

    class Watching:
        def encrypt(self, data: bytes, associated: bytes, /) -> bytes:
            return data

        def decrypt(self, data: bytes, associated: bytes, /) -> bytes:
            opened.append(data)
            return data

    use_cipher(Watching())
    with pytest.raises(MalformedMessage, match="more than this worker reads"):
        delivered(replace(envelope, args=b"\x01" + b"x" * 1000)).read()
    assert opened == []


async def test_a_worker_of_before_leaves_it_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiojobs_rt.core.message.ENCRYPTED_VERSION", 1)
    with pytest.raises(NewerMessage):
        delivered(await Sent().envelope()).read()


async def test_plain_jobs_are_read_as_before() -> None:
    envelope = await Sent(encrypted=False).envelope()
    assert (envelope.meta, envelope.encrypted, route_of(envelope)) == (b"}", False, "")
    use_cipher(None)
    assert orjson.loads(delivered(envelope, version=1).read().args) == {"card": CARD}


async def test_nothing_of_it_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Logged(Job):
        encrypted = True
        log_arguments = True

        async def perform(self, card: str) -> None: ...

    with caplog.at_level(logging.DEBUG), recording_jobs() as jobs:
        await Logged.perform_now(CARD)
        await Logged.perform_later(CARD)
        await jobs.perform_enqueued()
    assert sum(message.endswith("begins with [encrypted]") for message in caplog.messages) == 2
    assert CARD not in caplog.text


async def test_what_stays_in_the_process_needs_no_key() -> None:
    use_cipher(None)

    class Stays(Job):
        encrypted = True
        keep_result = 7200

        @after_enqueue
        def note(self) -> None:
            seen.append(self.arguments["card"])

        async def perform(self, card: str) -> str:
            if self.executions == 1:
                raise ValueError
            return card

    seen: list[str] = []
    with recording_jobs() as jobs:
        handle = await Stays.perform_later(CARD)
        jobs.assert_enqueued(Stays, args=(CARD,))
        Stays.bind(CARD).identified()
        with pytest.raises(ConfigurationError):
            Stays.bind(CARD).envelope(leaves=True)
        await jobs.advance(hours=1)
        assert await handle.result(timeout=0) == CARD
    assert set(seen) == {CARD}
