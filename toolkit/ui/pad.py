"""A square to draw a digit on, with the mouse, a pen or a finger."""

from pathlib import Path

import gradio as gr

SCRIPT = Path(__file__).with_name("pad.js")
TEMPLATE = """
<canvas width="280" height="280" tabindex="0" role="img"
  aria-label="Drawing area: draw a digit with the mouse or a finger"></canvas>
<button type="button">Clear</button>
"""


class DrawingPad(gr.HTML):
    """The value is the drawing, white on black, as a PNG data URL; "" after Clear. `input` fires while it grows."""

    def __init__(self) -> None:
        script = SCRIPT.read_text(encoding="utf-8")
        super().__init__("", html_template=TEMPLATE, js_on_load=script, apply_default_css=False, elem_id="pad")

    def get_block_name(self) -> str:
        """The browser knows it as plain HTML."""
        return "html"
