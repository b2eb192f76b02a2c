"""Numbers in prose: {eval}`expression` is computed in the page's own kernel, by a last cell that no reader sees.

MyST-NB can evaluate expressions only while it runs a page without its cache. Here they become part of what is run, and
of what is cached; Jupyter Book 2 knows the same role. Figures of the toolkit become images with their description.
"""

from __future__ import annotations

import base64
import json
import re
from html import unescape
from typing import Any

from myst_nb.core.execute.base import EvalNameError, NotebookClientBase
from myst_nb.core.render import MimeData, NbElementRenderer
from nbformat.v4 import new_output

MIME = "application/vnd.cnn-toolkit.values+json"
_ROLE = re.compile(r"\{eval\}`([^`]+)`")
_CELL = """

```{{code-cell}} python
:tags: [remove-cell]

import json as _json

from IPython.display import publish_display_data as _publish

_publish({{"{mime}": {{_text: str(eval(_text)) for _text in _json.loads({expressions})}}}})
```
"""
_IMAGE = re.compile(r'<img alt="([^"]*)" src="data:image/png;base64,([^"]+)">\s*')


def with_values(text: str) -> str:
    """The source of a page with a cell at its end that computes the expressions in its prose."""
    expressions = list(dict.fromkeys(_ROLE.findall(text)))
    if not expressions or "\nkernelspec:" not in text.partition("\n---\n")[0]:
        return text
    return text + _CELL.format(mime=MIME, expressions=repr(json.dumps(expressions)))


def values_of(notebook: Any) -> dict[str, str]:
    """The values that the last cell of a run page has published."""
    outputs = notebook.cells[-1].get("outputs", []) if notebook.cells else []
    return next((output["data"][MIME] for output in outputs if MIME in output.get("data", {})), {})


def eval_variable(self: NotebookClientBase, name: str) -> list[Any]:
    """What MyST-NB's role asks for: the value of an expression as an output."""
    values = values_of(self.notebook)
    if name not in values:
        raise EvalNameError(name)
    return [new_output("display_data", {"text/plain": values[name]})]


_render_html = NbElementRenderer.render_text_html


def render_text_html(self: NbElementRenderer, data: MimeData) -> list[Any]:
    """HTML that is one picture becomes an image file with its alternative text; all other HTML stays."""
    image = _IMAGE.fullmatch(str(data.content))
    if image is None:
        return _render_html(self, data)
    picture = MimeData("image/png", image[2], cell_metadata=data.cell_metadata, line=data.line)
    nodes = self.render_image(picture)
    nodes[0]["alt"] = unescape(image[1])
    return nodes


def replaced(text: str, values: dict[str, str]) -> str:
    """The source of a page with the values in the place of the expressions: for the notebook that readers download."""
    return _ROLE.sub(lambda found: values.get(found[1], found[0]), text)


def decoded(content: str) -> bytes:
    """The bytes of a picture in HTML."""
    return base64.b64decode(content)


def install() -> None:
    """Teach MyST-NB both."""
    NotebookClientBase.eval_variable = eval_variable  # type: ignore[method-assign]
    NbElementRenderer.render_text_html = render_text_html  # type: ignore[method-assign]
