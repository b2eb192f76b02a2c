"""Settings that all tests share."""

import pytest
from hypothesis import settings

# The machine may be busy: how long an example takes says nothing about the code.
settings.register_profile("house", deadline=None)
settings.load_profile("house")

# Files whose tests take minutes. They come first, so that several processes end together.
LONGEST = {
    *("test_app_browser", "test_readme", "test_training", "test_app_client", "test_app_process", "test_finetuning"),
    *("test_finetune_command", "test_segment_command", "test_memory", "test_grading_attacks", "test_exercises"),
}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.stem not in LONGEST)
