"""What a location is: a path, or a URL of some scheme."""

from __future__ import annotations

import re

REFUSED = frozenset({"file", "local", "data", "javascript", "urn", "ftp"})
"""Schemes that are never read: files have paths, and the others are no places of images."""

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):(?=/)|(data|file|javascript|urn):", re.IGNORECASE)


def scheme(location: str) -> str:
    """The scheme of a URL in small letters, "" for a path.

    >>> scheme("HTTPS://a.org/b.jpg"), scheme("s3://bucket/key"), scheme("C:/photos/a.jpg"), scheme("cats/a.jpg")
    ('https', 's3', '', '')
    """
    found = _SCHEME.match(location)
    return (found[1] or found[2]).lower() if found else ""
