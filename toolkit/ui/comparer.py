"""The tab that compares networks by stored results: it reads files, and trains nothing."""

from pathlib import Path

import gradio as gr

from toolkit.datasets import DATASETS
from toolkit.errors import InputError
from toolkit.records import STORED, read_records
from toolkit.ui.compare_views import NOTHING_YET, comparison
from toolkit.ui.components import Updates, area, at_once
from toolkit.ui.markup import Html, message
from toolkit.zoo_results import datasets_of, group_records


class Comparer:
    """The tab: the choice of a dataset, and the pictures and tables of its results in `folder`."""

    def __init__(self, tab: gr.Tab, folder: Path = STORED) -> None:
        self.folder = folder
        self.dataset = gr.Dropdown([], label="Dataset", elem_id="compare-dataset", visible=False)
        self.results = area(elem_id="compare-results")
        outputs = [self.dataset, self.results]
        at_once([tab.select, self.dataset.input], self._look, [self.dataset], outputs)

    def _look(self, dataset: str | None) -> Updates:
        """What is stored at this moment."""
        known, chosen, shown = stored(self.folder, dataset)
        choices = [(DATASETS[name].title if name in DATASETS else name, name) for name in known]
        return {self.dataset: gr.Dropdown(choices, value=chosen, visible=bool(known)), self.results: shown}


def stored(folder: Path, dataset: str | None) -> tuple[tuple[str, ...], str | None, Html]:
    """The datasets that a folder has results of, the one that is shown, and what is shown of it."""
    try:
        records = read_records(folder)
    except InputError as error:
        return (), None, message(str(error))
    known = datasets_of(records)
    if not known:
        return (), None, message(NOTHING_YET, "note")
    chosen = dataset if dataset in known else known[0]
    return known, chosen, comparison(group_records(record for record in records if record.dataset == chosen))
