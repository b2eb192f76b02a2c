"""How the page asks its questions."""

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

Trigger = Callable[..., Any]


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
