"""The zoo's experiments: a network, a recipe and a dataset each, in one short file with what it promises.

`EXPERIMENTS` has them by name, in the order in which they are run. A file here has one `EXPERIMENT`, or several
`EXPERIMENTS` that differ in one thing.
"""

from __future__ import annotations

import importlib
import pkgutil

from toolkit.benchmarks.experiment import Experiment


def _found() -> dict[str, Experiment]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    each = [one for module in modules for one in getattr(module, "EXPERIMENTS", None) or (module.EXPERIMENT,)]
    return {one.name: one for one in sorted(each, key=lambda one: one.order)}


EXPERIMENTS = _found()
