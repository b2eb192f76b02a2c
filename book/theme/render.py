"""The book as plain HTML from Jupyter Book 2's parsed pages: what `build.render` runs. Standard library only.

Jupyter Book serves its pages as JSON at CONTENT_CDN while this runs, and wants HTML in BUILD_DIRECTORY. A kind of node
that has no rule here is an error, so that nothing of a page is lost unseen.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any

Node = Mapping[str, Any]

# Nodes that are one element around their children.
ELEMENTS = {
    "paragraph": "p",
    "strong": "strong",
    "emphasis": "em",
    "blockquote": "blockquote",
    "listItem": "li",
    "subscript": "sub",
    "superscript": "sup",
    "definitionList": "dl",
    "definitionTerm": "dt",
    "definitionDescription": "dd",
    "table": "table",
    "tableRow": "tr",
    "caption": "figcaption",
    "legend": "div",
    "summary": "summary",
    "admonitionTitle": "p",
    "abbreviation": "abbr",
}
# Nodes that are only their children.
TRANSPARENT = set(
    "root block outputs inlineExpression captionNumber cite citeGroup include glossary".split()  # noqa: SIM905
)
SILENT = {"comment", "mystTarget", "mystComment", "mystRole", "mystDirectiveOption", "toc"}


def children(node: Node) -> str:
    """The HTML of a node's children."""
    return "".join(html(child) for child in node.get("children", []))


def html(node: Node) -> str:
    """The HTML of a node; raises KeyError for a kind that has no rule."""
    kind = node["type"]
    if kind in SILENT:
        return ""
    if kind in TRANSPARENT:
        return children(node)
    if kind in ELEMENTS:
        return f"<{ELEMENTS[kind]}{anchor(node)}>{children(node)}</{ELEMENTS[kind]}>"
    return RULES[kind](node)


def anchor(node: Node) -> str:
    """The attributes that let others point at a node, and its class."""
    name = node.get("html_id") or node.get("identifier")
    classes = f' class="{escape(node["class"])}"' if node.get("class") else ""
    return (f' id="{escape(name)}"' if name else "") + classes


def code(node: Node) -> str:
    """A block of code; the keyboard can scroll it."""
    return f'<pre tabindex="0"{anchor(node)}><code>{escape(node.get("value", ""))}</code></pre>'


def heading(node: Node) -> str:
    """A heading; the page's title is the first."""
    level = min(int(node["depth"]) + 1, 6)
    return f"<h{level}{anchor(node)}>{children(node)}</h{level}>"


def link(node: Node) -> str:
    """A link or a reference: to a page, to a place in one, or outside."""
    target = node.get("url") or node.get("html_id") or node.get("identifier") or ""
    if node["type"] == "crossReference":
        page = node.get("url") or ""
        target = f"{local(page) if page else ''}#{node.get('html_id') or node.get('identifier') or ''}"
    elif target.startswith("/"):
        target = local(target)
    return f'<a href="{escape(target)}">{children(node) or escape(target)}</a>'


def local(path: str) -> str:
    """The file of a page."""
    return f"{path.strip('/') or 'index'}.html"


def picture(node: Node) -> str:
    """An image with its description."""
    return f'<img src="{escape(node["url"].lstrip("/"))}" alt="{escape(node.get("alt") or "")}">'


def output(node: Node) -> str:
    """What a cell gave: HTML where there is some, else text; errors have already stopped the build."""
    data = node.get("jupyter_data") or {}
    if node.get("children"):
        return f'<div class="output">{children(node)}</div>'
    if data.get("output_type") == "stream":
        text = data.get("text", "")
        return "" if data.get("name") == "stderr" else f'<pre tabindex="0">{escape(text)}</pre>'
    bundle = data.get("data", {})
    rich, plain = content(bundle.get("text/html", {})), content(bundle.get("text/plain", {}))
    return f'<div class="output">{rich}</div>' if rich else f'<pre tabindex="0">{escape(plain)}</pre>'


def content(part: Mapping[str, Any]) -> str:
    """The text of an output; a long one is a file of its own."""
    if "content" in part or "path" not in part:
        return str(part.get("content", ""))
    return fetched_bytes(part["path"]).decode("utf-8")


def folded(node: Node) -> str:
    """A question or a solution that opens."""
    return f"<details{anchor(node)}>{children(node) if node['type'] == 'details' else ''}</details>"


def exercise(node: Node) -> str:
    """An exercise, or its solution, which is folded away."""
    if node["type"] == "solution":
        return f"<details{anchor(node)}><summary>Solution</summary>{children(node)}</details>"
    return f"<section{anchor(node)}>{children(node)}</section>"


def formula(node: Node) -> str:
    """A formula, already HTML, or as it was written."""
    inner = node.get("html") or escape(node.get("value", ""))
    if node["type"] == "inlineMath":
        return f'<span class="math">{inner}</span>'
    number = f" ({node['enumerator']})" if node.get("enumerator") else ""
    return f'<div class="math" tabindex="0"{anchor(node)}>{inner}{number}</div>'


def cell(node: Node) -> str:
    """A cell of a table."""
    name = "th" if node.get("header") else "td"
    return f"<{name}>{children(node)}</{name}>"


def items(node: Node) -> str:
    """A list."""
    name = "ol" if node.get("ordered") else "ul"
    return f"<{name}>{children(node)}</{name}>"


RULES: dict[str, Callable[[Node], str]] = {
    "text": lambda node: escape(node["value"]),
    "inlineCode": lambda node: f"<code>{escape(node['value'])}</code>",
    "break": lambda node: "<br>",
    "thematicBreak": lambda node: "<hr>",
    "html": lambda node: escape(node.get("value", "")),
    "heading": heading,
    "code": code,
    "link": link,
    "crossReference": link,
    "image": picture,
    "output": output,
    "details": folded,
    "exercise": exercise,
    "solution": exercise,
    "math": formula,
    "inlineMath": formula,
    "mathGroup": children,
    "tableCell": cell,
    "list": items,
    "div": lambda node: f"<div{anchor(node)}>{children(node)}</div>",
    "span": lambda node: f"<span{anchor(node)}>{children(node)}</span>",
    "container": lambda node: f"<figure{anchor(node)}>{children(node)}</figure>",
    "admonition": lambda node: f"<aside{anchor(node)}>{children(node)}</aside>",
    "mystDirective": children,
    "definition": children,
    "bibliography": lambda node: "",  # each page ends with its own references
}

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ max-width: 46rem; margin: 0 auto; padding: 1rem; font: 1rem/1.6 system-ui, sans-serif; }}
pre {{ overflow-x: auto; border: 1px solid; padding: 0.5rem; }}
img {{ max-width: 100%; background: #fff; }}
.math {{ overflow-x: auto; }}
</style>
</head>
<body>
<nav aria-label="pages">{links}</nav>
<main>
<h1>{title}</h1>
{body}
</main>
</body>
</html>
"""


def fetched_bytes(path: str) -> bytes:
    """What Jupyter Book serves at a path."""
    with urllib.request.urlopen(f"{os.environ['CONTENT_CDN']}{path}", timeout=60) as answer:  # noqa: S310
        return bytes(answer.read())


def fetched(path: str) -> Any:
    """What Jupyter Book serves at a path, as data."""
    return json.loads(fetched_bytes(path))


def save_picture(url: str, folder: Path) -> None:
    """Fetch a picture that a page shows."""
    target = folder / url.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(fetched_bytes(url))


def pictures(node: Node) -> list[str]:
    """The addresses of all pictures below a node."""
    own = [node["url"]] if node["type"] == "image" and node["url"].startswith("/") else []
    return own + [url for child in node.get("children", []) for url in pictures(child)]


def references(page: Mapping[str, Any]) -> str:
    """What a page cites, as a list at its end."""
    cited = (page.get("references") or {}).get("cite") or {}
    entries = [f'<li id="cite-{escape(key)}">{cited["data"][key]["html"]}</li>' for key in cited.get("order", [])]
    return f"<h2>References</h2><ul>{''.join(entries)}</ul>" if entries else ""


def main() -> None:
    """Write every page."""
    folder = Path(os.environ["BUILD_DIRECTORY"])
    pages = fetched("/config.json")["projects"][0]
    slugs = [pages.get("index") or "index", *(page["slug"] for page in pages["pages"] if page.get("slug"))]
    links = " · ".join(f'<a href="{"index" if i == 0 else slug}.html">{slug}</a>' for i, slug in enumerate(slugs))
    for number, slug in enumerate(slugs):
        page = fetched(f"/content/{slug}.json")
        title = escape(page["frontmatter"].get("title", slug))
        tree = page["mdast"]
        for url in pictures(tree):
            save_picture(url, folder)
        text = PAGE.format(title=title, links=links, body=html(tree) + references(page))
        (folder / f"{'index' if number == 0 else slug}.html").write_text(text, encoding="utf-8")
    sys.stdout.write(f"{len(slugs)} pages\n")


if __name__ == "__main__":
    main()
