"""Whether the Hub answers."""

from __future__ import annotations

import socket
import threading
from urllib.parse import urlsplit


def hub_answers(seconds: float = 1.0) -> bool:
    """Whether the Hub may be asked and answers soon; name resolution has no time limit, hence the thread."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    reached = threading.Event()
    address = urlsplit(constants.ENDPOINT)

    def connect() -> None:
        try:
            socket.create_connection((address.hostname or "", address.port or 443), timeout=seconds).close()
            reached.set()
        except OSError:
            pass

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(seconds)
    return reached.is_set()
