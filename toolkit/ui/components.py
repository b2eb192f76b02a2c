"""Pieces that every tab uses: areas of markup, the message area, and how the page asks its questions."""

import secrets
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

Trigger = Callable[..., Any]
# What a handler changes: new values by component.
Updates = dict[Any, Any]


def at_once(triggers: Trigger | Sequence[Trigger], answer: Callable[..., Any], inputs: Any, outputs: Any) -> Any:
    """Ask without standing in the queue, for answers that take milliseconds.

    While one answer is on its way, further changes wait, and only the last of them is asked.
    """
    return gr.on(
        list(triggers) if isinstance(triggers, Sequence) else triggers,
        answer,
        inputs,
        outputs,
        queue=False,
        show_progress="hidden",
        api_visibility="private",
        trigger_mode="always_last",
    )


def visitor(request: gr.Request) -> str:
    """The tab or the program that asks; one that does not say who it is gets a name of its own."""
    return request.session_hash or secrets.token_urlsafe(16)


def typed_in(component: Any) -> Trigger:
    """The event that a visitor, and not the page itself, has changed the component."""
    trigger: Trigger = component.input
    return trigger


def area(value: str = "", **options: Any) -> gr.HTML:
    """A part of the page that shows markup, with our style sheet alone."""
    return gr.HTML(value, apply_default_css=False, **options)


def message_area(**options: Any) -> gr.HTML:
    """Where a sentence appears when something is wrong; it takes no room while there is none."""
    return area(elem_classes="message-area", **options)
