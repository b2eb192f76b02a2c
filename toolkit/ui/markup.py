"""Markup from plain data. Text is escaped by itself, so what a visitor typed can never become markup."""

from collections.abc import Iterable, Sequence
from html import escape


class Html(str):
    """Text that is markup already and is not escaped again."""

    __slots__ = ()


def tag(name: str, *children: str, **attributes: object) -> Html:
    """One element. `class_` gives class, `aria_label` gives aria-label; an attribute that is None or False is left out.

    >>> tag("p", "2 < 3", class_="note")
    '<p class="note">2 &lt; 3</p>'
    """
    inside = "".join(safe(child) for child in children)
    return Html(f"<{name}{_attributes(attributes)}>{inside}</{name}>")


def safe(text: str) -> Html:
    """The text as markup, escaped unless it is markup."""
    return text if isinstance(text, Html) else Html(escape(text))


def join(parts: Iterable[str], between: str = "") -> Html:
    """Pieces one after the other.

    >>> join(["a & b", Html("<br>")])
    'a &amp; b<br>'
    """
    return Html(safe(between).join(safe(part) for part in parts))


def _attributes(attributes: dict[str, object]) -> str:
    given = {key: value for key, value in attributes.items() if value is not None and value is not False}
    return "".join(f' {_attribute_name(key)}="{escape(str(value))}"' for key, value in given.items())


def _attribute_name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def table(head: Sequence[str], body: Sequence[Sequence[str]], *, caption: str, class_: str = "") -> Html:
    """A table that scrolls inside its own box. The first column names its row; style aligns the others right."""
    rows = (tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:])) for row in body)
    headings = tag("tr", *(tag("th", text, scope="col") for text in head))
    inside = tag("table", tag("caption", caption), tag("thead", headings), tag("tbody", *rows))
    return tag("div", inside, class_=f"scroll {class_}".strip(), tabindex=0, role="region", aria_label=caption)


def message(text: str, kind: str = "problem") -> Html:
    """A sentence that screen readers announce; nothing where there is no text.

    >>> message("")
    ''
    """
    return tag("p", text, class_=f"message {kind}", role="alert") if text else Html("")


def cards(figures: Sequence[tuple[str, str, str]]) -> Html:
    """Large figures: (what, value, convention in one sentence)."""
    return tag("dl", *(_card(*figure) for figure in figures), class_="cards")


def _card(what: str, value: str, convention: str) -> Html:
    return tag("div", tag("dt", what), tag("dd", value, class_="figure"), tag("dd", convention, class_="convention"))


def bar(share: float, *, label: str, class_: str = "") -> Html:
    """A horizontal bar filled to `share` (0 to 1)."""
    width = f"width:{100 * min(max(share, 0.0), 1.0):.1f}%"
    return tag(
        "div", tag("div", class_="fill", style=width), class_=f"bar {class_}".strip(), role="img", aria_label=label
    )
