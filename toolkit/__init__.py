"""How convolutional networks work, what they cost, and how to train them on the machine you have.

`import toolkit` loads nothing; each name below loads its module when it is first used (PEP 562).
"""

from importlib import import_module

# module -> the public names that it lends to the package; none is called like a module, which would hide it
_PLACES = {
    "errors": ("InputError",),
    "layers": ("Architecture", "Branches"),
    "architectures": ("ARCHITECTURES", "architecture"),
    "costs": ("Costs", "Row", "trace"),
    "datasets": ("DATASETS",),
    "runtimes": ("MemoryEstimate", "predict_memory"),
    "export": ("keras_code",),
    "keras_files": ("read_keras_file",),
    "build": ("read_model",),
    "loading": ("Dataset", "load_dataset"),
    "memory": ("Measurement", "OutOfMemory", "estimate_memory", "measure_memory"),
    "batches": (
        *("BatchPlan", "plan_batches", "find_batch_by_trying", "largest_channels"),
        *("prepare_loaders", "calculate_max_batch_size", "closest_valid_batch_size"),
    ),
    "training": ("TrainConfig", "TrainResult", "train"),
}
_HOME = {name: module for module, names in _PLACES.items() for name in names}

__all__ = sorted(_HOME)  # noqa: PLE0605 - a list of str that is computed


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'toolkit' has no attribute {name!r}")
    return getattr(import_module(f"toolkit.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
