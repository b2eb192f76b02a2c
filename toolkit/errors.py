"""The one error that people see. It is defined in `arithmetic`, which has to run alone in a browser."""

from toolkit.arithmetic import InputError

__all__ = ["InputError"]
