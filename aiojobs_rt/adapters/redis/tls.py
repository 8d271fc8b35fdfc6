"""TLS: what to do about a handshake that failed, for the text of its error."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_BY_REASON = {
    "mismatch": "name the host in the URL as its certificate does",
    "has expired": "the server needs a new one",
    "not yet valid": "compare the clocks of both machines",
    "certificate verify failed": "name the file of its authority in the URL: ?ssl_ca_certs=PATH",
    "certificate required": "give it one of yours in the URL: ?ssl_certfile=PATH&ssl_keyfile=PATH",
    "unknown ca": "the server does not know the authority of your certificate (ssl_certfile)",
    "wrong version number": "is that port one for TLS? redis:// is without",
    "record layer failure": "is that port one for TLS? redis:// is without",
}
"""What is in the lower-case text of the error, the special before the general."""


def advice(error: BaseException, arguments: Mapping[str, object]) -> str:
    """What to do, as the end of a sentence; empty when it was no failure of TLS.

    Args:
        error: of making the connection.
        arguments: those of the connection, whose files are looked at; no value of another one is told.
    """
    for name in FILES:
        path = arguments.get(name)
        if isinstance(path, str) and not os.access(path, os.R_OK):
            return f"{name} names {path!r}, which can't be read"
    text = str(error).lower()
    return next((told for reason, told in _BY_REASON.items() if reason in text), "") if "ssl" in text else ""
