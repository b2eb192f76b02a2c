"""What the built book promises, checked in a browser: `make book-check`, or this file with the folder of the site.

Every page loads without a foreign request or a console error, in light and dark and on a phone; axe-core finds nothing
to complain about; every picture has a description; every calculator answers within a second what Python answers; no
internal link is broken. Exit status 1 where something is not so.
"""

from __future__ import annotations

import functools
import http.server
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import prepare
from playwright.sync_api import Browser, Page, sync_playwright

sys.path.insert(0, str(prepare.BOOK / "_static"))
import calculators

VIEWS = tuple((width, scheme) for width in (1280, 400) for scheme in ("light", "dark"))
# Within this time after a click a calculator has answered.
ANSWER_SECONDS = 1.0
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}


class Handler(http.server.SimpleHTTPRequestHandler):
    """A quiet server that knows modules and WebAssembly."""

    extensions_map = {  # noqa: RUF012 - the library's interface
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def handle(self) -> None:
        """Answer; a browser that has gone is no error."""
        with suppress(ConnectionResetError, BrokenPipeError):
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a site while it is served."""
    handler = functools.partial(Handler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


def axe_source() -> str:
    """The text of axe-core, fetched once; raises SystemExit without a network."""
    content = prepare.archive(prepare.AXE)
    if content is None:
        raise SystemExit("axe-core cannot be fetched now; run this once with a network")
    folder = prepare.BUILD / "book-check"
    prepare.unpack(prepare.AXE, content, folder)
    return (folder / "axe.min.js").read_text("utf-8")


def opened(browser: Browser, address: str, name: str, width: int, scheme: str, found: list[str]) -> Page:
    """A page that writes what goes wrong into `found`."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()

    def routed(route: Any) -> None:
        if route.request.url.startswith((address, "data:", "blob:")):
            route.continue_()
        else:
            found.append(f"asks {route.request.url}")
            route.abort()

    page.route("**/*", routed)
    page.on("console", lambda said: found.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: found.append(str(error)))
    page.goto(address + name)
    page.wait_for_load_state("networkidle")
    return page


def accessible(page: Page, axe: str) -> Iterator[str]:
    """What axe-core finds, each rule with its first place."""
    page.evaluate(axe)
    for violation in page.evaluate("rules => axe.run(document, rules)", RULES)["violations"]:
        yield f"axe {violation['id']}: {violation['nodes'][0]['html'][:160]} ({len(violation['nodes'])} places)"


def described(page: Page) -> Iterator[str]:
    """Pictures without a description."""
    for image in page.locator("main img").all():
        if len((image.get_attribute("alt") or "").split()) < 4:
            yield f"no description: {image.get_attribute('src')}"


def answers(page: Page) -> Iterator[str]:
    """Calculators that do not answer in time, or not what Python answers."""
    for box in page.locator(".calculator").all():
        name = next(word[11:] for word in (box.get_attribute("class") or "").split() if word.startswith("calculator-"))
        box.locator("output dd").first.wait_for(timeout=10_000)
        number = box.locator("input[type=number]").first
        least = int(number.get_attribute("min") or 0)
        begun = time.perf_counter()
        number.fill(str(least + 8))
        values = {field["name"]: field["value"] for field in json.loads(calculators.ask(name))}
        values[number.get_attribute("name") or ""] = least + 8
        wanted = [str(value) for _, value, _ in json.loads(calculators.answer(name, json.dumps(values)))]
        shown = [told.get_attribute("data-value") for told in box.locator("output dd").all()]
        if shown != wanted:
            yield f"calculator {name}: {shown} in the page, {wanted} in Python"
        if time.perf_counter() - begun > ANSWER_SECONDS:
            yield f"calculator {name} took more than {ANSWER_SECONDS:g} s"


def checked(folder: Path, chromium: str | None) -> list[str]:
    """Everything that is wrong with a built site, one sentence each."""
    calculators.load((prepare.STATIC / "planner.json").read_text("utf-8"))
    axe, wrong = axe_source(), []
    pages = sorted(path.name for path in folder.glob("*.html"))
    with served(folder) as address, sync_playwright() as player:
        browser = player.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name in pages:
            for width, scheme in VIEWS:
                found: list[str] = []
                page = opened(browser, address, name, width, scheme, found)
                found += accessible(page, axe)
                if (width, scheme) == VIEWS[0]:
                    found += [*described(page), *answers(page)]
                if page.evaluate("document.documentElement.scrollWidth") > width:
                    found.append("is wider than the window")
                wrong += [f"{name}, {width} {scheme}: {each}" for each in found]
                page.context.close()
        linked = subprocess.run(  # noqa: S603
            [str(Path(sys.executable).with_name("linkchecker")), "--no-status", address],
            capture_output=True,
            text=True,
            check=False,
        )
    if linked.returncode:
        wrong.append(linked.stdout[-2000:])
    return wrong


if __name__ == "__main__":
    complaints = checked(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
    sys.stdout.write("\n".join(complaints or ["every page keeps its promises"]) + "\n")
    sys.exit(bool(complaints))
