"""The page as a whole, and how it is served."""

import os

import gradio as gr

from toolkit.jobs import Jobs, Limits
from toolkit.ui.calculator import Calculator
from toolkit.ui.components import area
from toolkit.ui.markup import tag
from toolkit.ui.theme import CSS, theme
from toolkit.ui.trainer import Trainer

TITLE = "Convolutional networks: what they cost and how they learn"


def build_page(jobs: Jobs | None = None) -> gr.Blocks:
    """The page with its tabs, ready to be launched."""
    jobs = jobs or Jobs(Limits.for_visitors() if os.environ.get("SPACE_ID") else Limits())
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, 3600)) as page:
        area(tag("h1", TITLE), elem_classes="title")
        with gr.Tabs():
            with gr.Tab("Calculator"):
                calculator = Calculator()
            with gr.Tab("Train two models"):
                trainer = Trainer(jobs, calculator)
        calculator.wire_page(page)
        trainer.wire_page(page)
    return page


def serve() -> None:
    """Serve the page until it is interrupted."""
    build_page().launch(
        theme=theme(), css=CSS, ssr_mode=False, run_history=False, footer_links=["api", "settings"],
        state_session_capacity=1000, max_file_size="64mb", show_error=False,
    )  # fmt: skip
