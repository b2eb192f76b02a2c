"""The page as a whole, and how it is served."""

import gradio as gr

from toolkit.ui.calculator import Calculator
from toolkit.ui.theme import CSS, theme

TITLE = "Convolutional networks: what they cost and how they learn"


def build_page() -> gr.Blocks:
    """The page with its tabs, ready to be launched."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.HTML(f"<h1>{TITLE}</h1>", elem_classes="title")
        with gr.Tabs(), gr.Tab("Calculator", id="calculator"):
            calculator = Calculator()
        calculator.wire_page(page)
    return page


def serve() -> None:
    """Serve the page until it is interrupted."""
    build_page().launch(
        theme=theme(), css=CSS, ssr_mode=False, run_history=False, footer_links=["api", "settings"],
        state_session_capacity=1000, max_file_size="64mb", show_error=False,
    )  # fmt: skip
