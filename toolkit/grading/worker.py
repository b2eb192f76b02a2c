"""The process that runs a student's code: it reads requests, runs what they ask for and answers.

It knows nothing but the student's file and the arguments of each call.
"""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from os import _exit
from os import getpid as _getpid
from types import ModuleType, SimpleNamespace
from typing import Any

from toolkit.grading.protocol import EndedError, ProtocolError, encode, receive, send, send_bytes
from toolkit.grading.rebuilding import computed
from toolkit.grading.running import NotASubmissionError, Program, load_adapter, own_builtins, sentence

PRINTED_CHARACTERS = 4000
Request = dict[str, Any]


class _Printed(io.BufferedIOBase):
    """Keeps the beginning of what is printed and drops the rest."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        size = len(data)
        room = PRINTED_CHARACTERS - len(self._kept)
        if room > 0:
            self._kept += bytes(data[:room])
        return size

    def take(self) -> str:
        """What was kept since the last call."""
        text = bytes(self._kept).decode("utf-8", "replace")
        self._kept.clear()
        return text


class Worker:
    """Answers requests until the line ends. A copy of this process (a fork) must not answer: it ends instead."""

    def __init__(self, inbox: int, outbox: int) -> None:
        self._inbox, self._outbox = inbox, outbox
        self._process = _getpid()
        self._printed = _Printed()
        self._program: Program | None = None
        self._answers: dict[str, Callable[[Request], Iterator[Any]]] = {
            "load": self._load,
            "run": self._run,
            "call": self._call,
            "module": self._module,
            "apply": self._apply,
            "rebuild": self._rebuild,
        }

    def serve(self) -> None:
        """Read requests and answer them; returns when the grader is gone."""
        self._quiet()
        while True:
            try:
                request = receive(self._inbox)
            except EndedError:
                return
            for answer in self._answers[request["do"]](request):
                self._answer(request["nonce"], answer)

    def _quiet(self) -> None:
        """What is printed is caught, what is asked for is at its end, and warnings are nobody's business."""
        stream = io.TextIOWrapper(self._printed, "utf-8", "replace", write_through=True)  # type: ignore[type-var]
        for name in ("stdout", "stderr", "__stdout__", "__stderr__"):
            setattr(sys, name, stream)
        sys.stdin = io.StringIO()
        warnings.simplefilter("ignore")
        own_builtins()

    def _answer(self, nonce: str, answer: Any) -> None:
        if _getpid() != self._process:
            _exit(1)
        printed = self._printed.take()
        try:
            send_bytes(self._outbox, encode({"nonce": nonce, "printed": printed, **answer}))
        except EndedError:
            raise
        except BaseException as error:
            told = str(error) if isinstance(error, ProtocolError) else sentence(error)
            send(self._outbox, {"nonce": nonce, "printed": printed, "error": told})

    def _load(self, request: Request) -> Iterator[Any]:
        try:
            self._program = Program(request["name"], request["source"])
        except NotASubmissionError as error:
            yield {"problem": str(error)}
        else:
            yield {"statements": [statement.where for statement in self._program.statements]}

    def _run(self, request: Request) -> Iterator[Any]:
        """Run statements, one answer for each."""
        assert self._program is not None  # noqa: S101 - the grader loads first
        for number in request["numbers"]:
            yield {"error": self._program.run(number)}

    def _call(self, request: Request) -> Iterator[Any]:
        """Call a function with one list of arguments after the other, one answer for each."""
        for arguments in request["cases"]:
            yield self._called(request["name"], request["call"], arguments)

    def _called(self, name: str, adapter: str, arguments: Sequence[Any]) -> Any:
        assert self._program is not None  # noqa: S101
        if name not in self._program.module.__dict__:
            return {"missing": True}
        try:
            if adapter:
                student = SimpleNamespace(**self._program.module.__dict__)
                return {"value": _as_data(load_adapter(adapter)(student, *arguments))}
            return {"value": _as_data(self._program.get(name)(*arguments))}
        except BaseException as error:  # SystemExit and KeyboardInterrupt, too
            return {"error": self._program.explain(error), "kind": type(error).__name__}

    # For processes that run no student's code: references, and models that are built again.

    def _module(self, request: Request) -> Iterator[Any]:
        """Import one of our modules from its text; what it cannot import here, its functions do without."""
        program = Program(request["name"], request["source"], request["module"])
        package, _, name = request["module"].rpartition(".")
        if package:
            parent = sys.modules.setdefault(package, ModuleType(package))
            setattr(parent, name, program.module)
        yield {"errors": [program.run(number) for number in range(len(program.statements))]}

    def _apply(self, request: Request) -> Iterator[Any]:
        function = getattr(sys.modules[request["module"]], request["name"])
        for arguments in request["cases"]:
            try:
                yield {"value": _as_data(function(*arguments))}
            except Exception as error:
                yield {"raised": {"kind": type(error).__name__, "text": sentence(error)}}

    def _rebuild(self, request: Request) -> Iterator[Any]:
        """Build models from their descriptions, and compute what they make of images."""
        for case in request["cases"]:
            try:
                yield {"value": computed(case["model"], case["inputs"])}
            except Exception as error:
                yield {"error": sentence(error)}


def _as_data(value: Any) -> Any:
    """A Keras model as its description; anything else as it is."""
    keras = sys.modules.get("keras")
    if keras is not None and isinstance(value, keras.Model):
        return {"keras_model": value.to_json()}
    return value
