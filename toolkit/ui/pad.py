"""A square to draw a digit on, with the mouse, a pen or a finger."""

from pathlib import Path

import gradio as gr

SCRIPT = Path(__file__).with_name("pad.js")
TEMPLATE = """
<canvas width="280" height="280" tabindex="0" role="img"
  aria-label="Drawing area: draw a digit with the mouse or a finger"></canvas>
<button type="button">Clear</button>
"""


# A function and no subclass: Gradio would write a stub file beside the module of a subclass.
def drawing_pad() -> gr.HTML:
    """The pad. Its value is the drawing, white on black, as a PNG data URL; `input` fires while the drawing grows."""
    script = SCRIPT.read_text(encoding="utf-8")
    return gr.HTML("", html_template=TEMPLATE, js_on_load=script, apply_default_css=False, elem_id="pad")
