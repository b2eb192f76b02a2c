"""The book's Sphinx extension: what the pages need beyond what MyST-NB and the theme do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import computed
import jupytext
import prepare
from docutils import nodes
from docutils.parsers.rst import Directive, directives
from sphinx.application import Sphinx
from sphinx.domains.std import Glossary as StandardGlossary
from sphinx.util import logging

_SEARCH = re.compile(r"<button[^>]*search-button-field[^>]*>")
LOGGER = logging.getLogger(__name__)


class Div(Directive):
    """A group with a class, as Jupyter Book 2 reads it; scripts bring some of them to life."""

    has_content = True
    option_spec = {"class": directives.class_option}  # noqa: RUF012 - docutils' interface

    def run(self) -> list[nodes.Node]:
        group = nodes.container(classes=self.options.get("class", []), is_div=True)
        self.state.nested_parse(self.content, self.content_offset, group)
        return [group]


class Glossary(StandardGlossary):
    """A glossary written as a Markdown definition list, which Jupyter Book 2 wants; Sphinx wants it indented."""

    def run(self) -> list[nodes.Node]:
        for number in reversed(range(len(self.content))):
            line = self.content[number]
            if line.startswith(": "):
                self.content[number] = f"  {line[2:]}"
        return super().run()


def make(app: Sphinx) -> None:
    """Fetch and write what the pages include."""
    absent = prepare.main()
    for name in absent:
        LOGGER.warning("%s cannot be fetched now: formulae or calculators stay plain text", name, type="book")


def read_source(app: Sphinx, docname: str, source: list[str]) -> None:
    """Add the cell that computes the numbers in prose."""
    source[0] = computed.with_values(source[0])


def write_notebook(app: Sphinx, docname: str, target: Path) -> None:
    """The page as a notebook without outputs, its numbers in their places, its exercises left to the book."""
    text = Path(app.env.doc2path(docname)).read_text("utf-8")
    done = Path(app.outdir, "jupyter_execute", f"{docname}.ipynb")
    values = computed.values_of(jupytext.read(done)) if done.is_file() else {}
    book = jupytext.reads(computed.replaced(text, values), fmt="md:myst")
    target.parent.mkdir(parents=True, exist_ok=True)
    jupytext.write(book, target, fmt="ipynb")


def notebooks(app: Sphinx, error: Exception | None) -> None:
    """Write the notebooks that readers download."""
    if error is None and app.builder.name == "html":
        for docname, metadata in app.env.metadata.items():
            if "kernelspec" in metadata:
                write_notebook(app, docname, Path(app.outdir, "notebooks", f"{docname}.ipynb"))


def mended(text: str) -> str:
    """A page without what the theme and docutils say wrongly to readers of the screen."""
    text = text.replace('role="doc-biblioentry"', 'role="listitem"')
    return _SEARCH.sub(lambda button: button[0].replace('aria-label="Search"', ""), text)


def mend(app: Sphinx, error: Exception | None) -> None:
    """Mend all pages."""
    if error is None and app.builder.name == "html":
        for path in Path(app.outdir).rglob("*.html"):
            prepare.write(path, mended(path.read_text("utf-8")))


def page_context(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Offer the notebook for download, and in Colab where the book has a repository."""
    if "kernelspec" not in app.env.metadata.get(pagename, {}) or "header_buttons" not in context:
        return
    for button in context["header_buttons"]:
        if button.get("label") == "download-buttons":
            button["buttons"] = [
                {
                    "type": "link",
                    "url": context["pathto"](f"notebooks/{pagename}.ipynb", 1),
                    "text": ".ipynb",
                    "icon": "fas fa-code",
                    "tooltip": "Download the notebook",
                    "label": "download-notebook-button",
                },
                *button["buttons"],
            ]


def setup(app: Sphinx) -> dict[str, Any]:
    """What Sphinx calls."""
    computed.install()
    app.add_config_value("book_key", "", "env", [str])
    app.add_directive("div", Div, override=True)
    app.add_directive_to_domain("std", "glossary", Glossary, override=True)
    app.connect("builder-inited", make)
    app.connect("source-read", read_source)
    app.connect("html-page-context", page_context, priority=900)
    app.connect("build-finished", notebooks)
    app.connect("build-finished", mend)
    return {"version": json.dumps(1), "parallel_read_safe": False, "parallel_write_safe": True}
