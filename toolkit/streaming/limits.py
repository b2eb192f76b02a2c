"""How far a fetch may go, as plain data: nothing here imports the network."""

from __future__ import annotations

from dataclasses import dataclass, fields

from toolkit.errors import InputError

USER_AGENT = "cnn-toolkit/0.1 (reads images to train networks; honours X-Robots-Tag: noai)"
_POSITIVE = frozenset(
    {"connections", "start", "per_host", "max_bytes", "connect_seconds", "read_seconds", "total_seconds"}
)


@dataclass(frozen=True)
class FetchLimits:
    """How far a fetch may go. Times are seconds, sizes bytes.

    connections: downloads in flight at most; their number begins at `start` and grows while that brings speed.
    per_host: of these, to one host. politeness_delay: least time between two requests to one host.
    connect_seconds: to find a name and connect. read_seconds: of silence.
    total_seconds: for one image, all attempts together, without the time that it waits for its turn.
    least_bytes_per_second: of a body, judged after `grace_seconds`. max_bytes: of an image as it comes, and unpacked.
    retries: after a failure that may pass (5xx, 429, a lost connection, silence), each after a random time that
    grows from `backoff_seconds`, or after the server's Retry-After, up to `max_wait_seconds`.
    honour_noai: refuse images whose X-Robots-Tag opts out of machine learning.
    allow_private: fetch from addresses that are not public (this machine, its network) and from fsspec's stores.
    local_files: read paths.
    Raises InputError for a number that cannot be.

    >>> FetchLimits(retries=0).max_bytes
    20000000
    """

    connections: int = 128
    start: int = 16
    per_host: int = 128
    politeness_delay: float = 0.0
    connect_seconds: float = 10.0
    read_seconds: float = 10.0
    total_seconds: float = 60.0
    least_bytes_per_second: int = 1_000
    grace_seconds: float = 5.0
    max_bytes: int = 20_000_000
    max_redirects: int = 5
    retries: int = 3
    backoff_seconds: float = 0.5
    max_wait_seconds: float = 30.0
    user_agent: str = USER_AGENT
    honour_noai: bool = True
    allow_private: bool = False
    local_files: bool = True

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, str) and not value >= 0:
                raise InputError(f"{field.name} must not be negative; {value} came")
            if field.name in _POSITIVE and not value:
                raise InputError(f"{field.name} must be more than 0, or nothing could be fetched; {value} came")
        if not (self.user_agent.isascii() and self.user_agent.isprintable()):
            raise InputError(f"user_agent must be one line of ASCII; {self.user_agent!r} came")
