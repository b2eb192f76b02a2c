"""Right answers as people write them: each style turns a reference solution into another file that is as right.

A style gets the text of a solution and the names of its functions; it returns the name's ending and the file's text.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Sequence

from toolkit.grading.building import Cell, notebook, split_cells

Style = Callable[[str, Sequence[str]], tuple[str, str]]

CONVERT = '''
import numpy as np


def converted(value, number, array):
    """A value with its numbers and its arrays in another form."""
    if isinstance(value, (list, tuple)):
        return type(value)(converted(each, number, array) for each in value)
    if isinstance(value, np.ndarray):
        return array(value)
    return number(value) if isinstance(value, (int, float, np.number)) else value
'''


def wrapping(source: str) -> Style:
    """The function `wrap` of this source goes around every function of the solution."""

    def style(solution: str, names: Sequence[str]) -> tuple[str, str]:
        loop = f"for _name in {list(names)}:\n    globals()[_name] = wrap(globals()[_name])\n"
        return ".py", f"{solution}\n\n# %%\n{source}\n\n{loop}"

    return style


def converting(number: str, array: str, sequence: str = "list") -> Style:
    """Numbers and arrays come in another form."""
    return wrapping(
        f"{CONVERT}\n\ndef wrap(inner):\n    return lambda *given: converted(inner(*given), {number}, {array})\n"
    )


def cells_turned_around(solution: str, names: Sequence[str]) -> tuple[str, str]:
    """The imports first, then the last question, and the first one last."""
    code = [cell.source for cell in split_cells(solution) if cell.kind == "code"]
    imports = [source for source in code if source.startswith(("import", "from"))]
    return ".py", "\n\n".join([*imports, *reversed([source for source in code if source not in imports])])


def imports_inside(solution: str, names: Sequence[str]) -> tuple[str, str]:
    """Every function imports what it needs; comments and layout are gone."""
    tree = ast.parse(solution)
    imports = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    tree.body = [node for node in tree.body if node not in imports]
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.body = [*imports, *node.body]
    return ".py", "from __future__ import annotations\n" + ast.unparse(tree)


def lines_of_windows(solution: str, names: Sequence[str]) -> tuple[str, str]:
    """A byte order mark, carriage returns and tabs, as some editors write them."""
    return ".py", "\ufeff" + solution.replace("    ", "\t").replace("\n", "\r\n")


def notebook_of_somebody(solution: str, names: Sequence[str]) -> tuple[str, str]:
    """A notebook with magics, a question in another order, outputs and a cell that fails."""
    first, *rest = split_cells(solution)
    magics = Cell("code", "%matplotlib inline\n!pip install numpy\nimport math\n%time number = 1")
    broken = [Cell("code", "this is no Python"), Cell("code", "1 / 0"), Cell("markdown", "My notes"), Cell("code", "")]
    imports = [cell for cell in rest if cell.source.startswith(("import", "from"))]
    data = notebook([first, magics, *broken, *imports, *reversed([cell for cell in rest if cell not in imports])])
    for cell in data["cells"]:
        if cell["cell_type"] == "code":
            cell |= {"execution_count": 7, "outputs": [{"name": "stdout", "output_type": "stream", "text": ["7\n"]}]}
    return ".ipynb", json.dumps(data)


def left_overs(solution: str, names: Sequence[str]) -> tuple[str, str]:
    """What people leave in a file: tries, prints, a guard, an error at the end, wrong answers that come first."""
    wrong = "\n".join(f"def {name}(*given):\n    return None\n" for name in names)
    after = (
        'print("done")\nassert True\nif __name__ == "__main__":\n    print(undefined)\nraise ValueError("stop here")\n'
    )
    return ".py", f'"""My homework."""\n{wrong}\nprint("Grüße", [1, 2])\n{solution}\n{after}'


STYLES: dict[str, Style] = {
    "as it is": lambda solution, names: (".py", solution),
    "prints": wrapping("""
def wrap(inner):
    def answer(*given):
        print("called with", *given)
        result = inner(*given)
        print("gives", result, "✓" * 10_000)
        return result
    return answer
"""),
    "warns": wrapping("""
import sys, warnings
def wrap(inner):
    def answer(*given):
        warnings.warn("old habits", DeprecationWarning)
        print("careful", file=sys.stderr)
        return inner(*given)
    return answer
"""),
    "NumPy's numbers": converting("lambda n: np.array(n)[()]", "lambda a: a"),
    "arrays without axes": converting("np.array", "lambda a: a"),
    "whole numbers as floats": converting("float", "lambda a: a.astype(float)"),
    "float32": converting(
        "lambda n: n if isinstance(n, (bool, int)) else np.float32(n)", "lambda a: a.astype(np.float32)"
    ),
    "lists for arrays": converting("lambda n: n", "lambda a: a.tolist()"),
    "arrays in another order": converting("lambda n: n", "lambda a: np.asfortranarray(a)[..., :]"),
    "lists for tuples": wrapping("""
def wrap(inner):
    def answer(*given):
        result = inner(*given)
        return list(result) if isinstance(result, tuple) else tuple(result) if isinstance(result, list) else result
    return answer
"""),
    "lambdas": wrapping("wrap = lambda inner: lambda *given: (lambda result: result)(inner(*given))"),
    "objects that can be called": wrapping("""
class wrap:
    __slots__ = ("inner",)
    def __init__(self, inner):
        self.inner = inner
    def __call__(self, *given, verbose=False):
        return self.inner(*given)
"""),
    "methods": wrapping("""
class Homework:
    def __init__(self, inner):
        self.inner, self.calls = inner, 0
    def answer(self, *given):
        self.calls += 1
        return self.inner(*given)
def wrap(inner):
    return Homework(inner).answer
"""),
    "recursion": wrapping("""
def wrap(inner):
    def answer(*given, depth=200):
        return answer(*given, depth=depth - 1) if depth else inner(*given)
    return answer
"""),
    "decorated helpers": wrapping("""
import functools, contextlib, time
def timed(inner):
    @functools.wraps(inner)
    def answer(*given, **named):
        started = time.perf_counter()
        with contextlib.suppress(KeyError):
            return inner(*given, **named)
    return answer
def wrap(inner):
    return functools.partial(timed(inner))
"""),
    "works on its arguments": wrapping("""
import copy
import numpy as np
def wrap(inner):
    def answer(*given):
        result = inner(*(copy.deepcopy(each) if isinstance(each, (list, np.ndarray)) else each for each in given))
        for each in given:
            if isinstance(each, np.ndarray):
                each.fill(0)
            elif isinstance(each, list):
                each.clear()
        return result
    return answer
"""),
    "in a thread": wrapping("""
from concurrent.futures import ThreadPoolExecutor
def wrap(inner):
    def answer(*given):
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(inner, *given).result()
    return answer
"""),
    "catches everything": wrapping("""
def wrap(inner):
    def answer(*given):
        try:
            return inner(*given)
        except:
            return None
        finally:
            pass
    return answer
"""),
    "cells turned around": cells_turned_around,
    "imports inside": imports_inside,
    "lines of Windows": lines_of_windows,
    "a notebook of somebody": notebook_of_somebody,
    "left-overs": left_overs,
}


# Keras models are data: these pairs replace a part of the solution's text by another way to say the same.
# Each list is one file, so that a question meets several of them.
RESHAPED: dict[str, list[list[tuple[str, str]]]] = {
    "ch05_architectures": [
        [  # residual: operators and names; Inception: kernel pairs; SE: activation layers
            ("layers.Add()([x, short])", "short + x"),
            ("layers.BatchNormalization()(x)", "keras.layers.BatchNormalization(name=f'norm_{id(x)}')(x)"),
            (
                "layers.Conv2D(filters, window, padding=",
                "layers.Conv2D(filters, (window, window), strides=(1, 1), padding=",
            ),
            (
                'layers.Dense(channels, activation="sigmoid")(gate)',
                'layers.Activation("sigmoid")(layers.Dense(channels)(gate))',
            ),
        ],
        [  # activations as functions, functions for layers, other orders, compiled, printed
            ("layers.Add()([x, short])", "layers.add([short, x])"),
            ("x = layers.ReLU()(x)", 'x = layers.Activation("relu")(x)'),
            ('activation="relu")(x)', "activation=keras.activations.relu)(x)"),
            ("layers.Concatenate()(branches)", "layers.concatenate(branches, axis=-1)"),
            ("layers.Multiply()([image, gate])", "layers.multiply([gate, image])"),
            ("return keras.Model(", "return finished("),
            (
                "# %% [markdown]\n# ## 1.",
                "def finished(before, after):\n    import keras\n"
                "    model = keras.Model(inputs=before, outputs=after, name='mine')\n"
                "    model.compile('adam', 'mse')\n    model.summary()\n    return model\n\n# %% [markdown]\n# ## 1.",
            ),
        ],
        [  # parts as models of their own; other imports; a gate that is reshaped
            (
                "    from keras import layers\n",
                "    import tensorflow as tf\n    layers = tf.keras.layers\n    keras = tf.keras\n",
            ),
            ("layers.MaxPooling2D(3, strides=1, padding=", "layers.MaxPool2D((3, 3), (1, 1), padding="),
            (
                "conv(threes[1], 3, conv(threes[0], 1, image))",
                'keras.Sequential([layers.Conv2D(threes[0], 1, activation="relu"), '
                'layers.Conv2D(threes[1], 3, padding="same", activation="relu")])(image)',
            ),
            (
                "layers.GlobalAveragePooling2D(keepdims=True)(image)",
                "layers.Reshape((1, 1, channels))(layers.GlobalAveragePooling2D()(image))",
            ),
        ],
    ],
    "ch08_transfer": [
        [  # every layer frozen by itself, the base called for prediction
            ("base.trainable = False", "for layer in base.layers:\n        layer.trainable = False"),
            ("(base(image))", "(base(image, training=False))"),
        ],
        [  # one chain of layers
            (
                "    image = keras.Input((height, width, 3))\n    x = layers.GlobalAveragePooling2D()(base(image))\n"
                '    return keras.Model(image, layers.Dense(classes, activation="softmax")(x))',
                "    return keras.Sequential([keras.Input((height, width, 3)), base, layers.GlobalAveragePooling2D(), "
                'layers.Dense(classes, activation="softmax")])',
            ),
        ],
        [  # frozen afterwards, trained for a moment, softmax as a layer
            ("    base.trainable = False\n", ""),
            (
                '    return keras.Model(image, layers.Dense(classes, activation="softmax")(x))',
                "    model = keras.Model(image, layers.Softmax()(layers.Dense(classes)(x)))\n"
                "    if all(each.trainable for each in base.layers):\n        model.layers[1].trainable = False\n"
                '    model.compile("sgd", "sparse_categorical_crossentropy")\n    return model',
            ),
        ],
    ],
}


def reshaped(stem: str, solution: str) -> list[str]:
    """The solution of an exercise with Keras, written in other ways."""
    texts = []
    for pairs in RESHAPED[stem]:
        text = solution
        for old, new in pairs:
            assert old in text, old
            text = text.replace(old, new)
        texts.append(text)
    return texts
