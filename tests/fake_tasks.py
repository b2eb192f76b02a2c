"""Small tasks for workers; they import nothing heavy, so that a fresh Python can do them quickly."""

import os
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from toolkit.processes import Context, Ending


@dataclass(frozen=True)
class Task:
    """Runs the function of this module that it names."""

    name: str
    load: str = ""

    @property
    def work(self) -> str:
        return f"{__name__}:{self.name}"

    def ended(self, ending: Ending) -> object:
        return ending


def count(task: Task, context: Context) -> object:
    for number in range(3):
        context.send(number)
    return "last"


def surroundings(task: Task, context: Context) -> object:
    return {
        "pid": os.getpid(),
        "folder": str(Path.cwd()),
        "word": os.environ.get("CNN_TOOLKIT_TEST_WORD"),
        "path": list(sys.path),
        "threads": context.threads,
        "nice": os.nice(0),
        "session": os.getsid(0),
        "parent": os.getppid(),
        "load": len(task.load),
        "input": sys.stdin.read() if sys.stdin else "",
    }


def patient(task: Task, context: Context) -> object:
    """Works in pieces of 10 ms until it is stopped."""
    context.send("working")
    while not context.stop.is_set():
        time.sleep(0.01)
    return "kept"


def seamless(task: Task, context: Context) -> object:
    """One long piece of Python, which only an interrupt ends."""
    try:
        with context.stop.interrupting():
            context.send("working")
            while True:
                sum(range(1000))
    except KeyboardInterrupt:
        return "interrupted"


def deaf(task: Task, context: Context) -> object:
    """Never looks at the flag."""
    context.send("working")
    time.sleep(60)
    return "never"


def noisy(task: Task, context: Context) -> object:
    print("from Python")
    os.write(2, b"from C\n")
    return "last"


def error(task: Task, context: Context) -> object:
    print("before the error")
    raise ArithmeticError("seven is not eight")


def crash(task: Task, context: Context) -> object:
    context.send("working")
    os.abort()


def vanish(task: Task, context: Context) -> object:
    os._exit(3)


def start_thread() -> None:
    threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
