"""The page as a whole, and how it is served."""

import signal
import sys

import gradio as gr

from toolkit.jobs import Jobs, Limits
from toolkit.measurements import Measurements
from toolkit.pictures import Shelf
from toolkit.processes import warm_up
from toolkit.ui.api import add_endpoints
from toolkit.ui.calculator import Calculator
from toolkit.ui.comparer import Comparer
from toolkit.ui.components import area, at_once
from toolkit.ui.finetuner import Finetuner
from toolkit.ui.markup import join, tag
from toolkit.ui.planner import Planner
from toolkit.ui.predictor import Predictor
from toolkit.ui.segmenter import Segmenter
from toolkit.ui.theme import STYLE, theme
from toolkit.ui.trainer import Trainer

TITLE = "Convolutional networks: what they cost and how they learn"

SUBTITLE = "Price a network before you build it, train two side by side, and look at what they get wrong."


def build_page(jobs: Jobs | None = None) -> gr.Blocks:
    """The page with its tabs, ready to be launched."""
    jobs = jobs or Jobs(Limits.here())
    page = gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, 3600))
    with page:
        area(join([tag("h1", TITLE), tag("p", SUBTITLE)]), elem_classes="title")
        with gr.Tabs() as tabs:
            with gr.Tab("Calculator"):
                calculator = Calculator(Measurements(jobs.limits, jobs.folder))
            with gr.Tab("Batch planner") as planner_tab:
                Planner(calculator, planner_tab)
            with gr.Tab("Train two", id="train") as tab:
                trainer = Trainer(jobs, calculator, tab)
            with gr.Tab("Predict"):
                predictor = Predictor(jobs, Shelf(jobs.folder / "datasets"), trainer.job)
            with gr.Tab("Compare") as compare_tab:
                Comparer(compare_tab)
            with gr.Tab("Your photos") as photos_tab:
                finetuner = Finetuner(jobs, photos_tab)
            with gr.Tab("Label pixels") as pixels_tab:
                segmenter = Segmenter(jobs, pixels_tab)
        add_endpoints(jobs)
        calculator.wire_page(page)
        at_once(predictor.train.click, lambda: gr.Tabs(selected="train"), None, tabs)
        ends = (trainer.begin_with(trainer.train), trainer.begin_with(predictor.train), trainer.wire_page(page))
        for ended in ends:
            predictor.open_after(ended)
        finetuner.wire_page(page)
        segmenter.wire_page(page)
    return page


def serve() -> None:
    """Serve the page until it is interrupted; Keras warms up behind it, in a process of its own."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that trainings end and their folders go
    limits = Limits.here()
    page = build_page(Jobs(limits))
    page.launch(
        theme=theme(),
        css_paths=STYLE,
        ssr_mode=False,
        run_history=False,
        footer_links=["api", "settings"],
        state_session_capacity=1000,
        max_file_size=limits.upload_bytes,
        show_error=False,
        prevent_thread_lock=True,
    )
    warm_up()
    page.block_thread()
