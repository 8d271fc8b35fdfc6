"""A stub of an outside service that says what is on a photo, and has no time now and then."""

from __future__ import annotations

import hashlib
import random
from typing import Protocol

WORDS = ("boat", "cat", "cloud", "dog", "house", "lake", "lamp", "mountain", "road", "tree")


class RecogniserBusy(Exception):
    """The service has no time for us at the moment."""


class Recogniser(Protocol):
    """What the jobs need of such a service."""

    async def labels_of(self, image: bytes) -> list[str]:
        """What is on the image.

        Raises:
            RecogniserBusy: ask again later.
        """
        ...


class StubRecogniser:
    """Fails by chance; else the labels depend on nothing but the image.

    Args:
        failures: how often it fails, from 0 to 1.
    """

    def __init__(self, failures: float = 0.4) -> None:
        self._failures = failures

    async def labels_of(self, image: bytes) -> list[str]:
        """Three words, right or wrong."""
        if random.random() < self._failures:  # noqa: S311 - bad luck, not a secret
            raise RecogniserBusy("the recogniser has no time, ask again later")
        digest = hashlib.sha256(image).digest()
        return sorted({WORDS[byte % len(WORDS)] for byte in digest[:3]})
