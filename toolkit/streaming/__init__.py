"""Images from anywhere as batches of arrays: from URLs, folders and tar shards, in bounded memory, whatever the
internet does.

    for images, labels in stream_images("photos.csv", image_size=96):
        ...

`import toolkit.streaming` loads nothing; each name below loads its module when it is first used (PEP 562).
"""

from importlib import import_module

# module -> the public names that it lends to the package
_PLACES = {
    "pipeline": ("ImageStream", "Progress", "stream_images"),
    "settings": ("StreamSettings",),
    "order": ("Position",),
    "failures": ("Cause", "Failure", "Report", "SampleError"),
    "limits": ("FetchLimits",),
    "decoding": ("DecodeLimits",),
    "samples": ("Source", "read_source"),
    "shards": ("ShardSource",),
    "progress": ("with_progress",),
}
_HOME = {name: module for module, names in _PLACES.items() for name in names}

__all__ = sorted(_HOME)  # noqa: PLE0605 - a list of str that is computed


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'toolkit.streaming' has no attribute {name!r}")
    return getattr(import_module(f"toolkit.streaming.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
