"""How a tab follows a job: its id lives in the browser's tab, and what is shown of it follows the registry."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, TypeVar

from toolkit.errors import InputError
from toolkit.jobs import Jobs, JobView, TaskView
from toolkit.ui.components import Updates
from toolkit.ui.markup import message

V = TypeVar("V", bound=TaskView)
SECONDS_BETWEEN_VIEWS = 0.5


# The job lives in the tab, not in the browser: two tabs are two visitors, and a reload finds its own work again.
def remember(key: str) -> str:
    """JavaScript that keeps a job's id for this tab."""
    return f"(job) => {{ try {{ sessionStorage.setItem({json.dumps(key)}, job); }} catch (error) {{}} }}"


def recall(*keys: str) -> str:
    """JavaScript that gives the ids that were kept, "" for those that were not."""
    empty = json.dumps([""] * len(keys))
    get = f"{json.dumps(keys)}.map(key => sessionStorage.getItem(key) || '')"
    return f"() => {{ try {{ return {get}; }} catch (error) {{ return {empty}; }} }}"


def recalled(jobs: Jobs, job: str, kind: type[TaskView], viewer: str) -> str:
    """The id, where such a job of this kind is still there, which `viewer` then looks at; "" elsewhere."""
    if not jobs.knows(job, kind):
        return ""
    jobs.watch(job, viewer)
    return job


def stopped(jobs: Jobs, job: str, run: int | None = None) -> str:
    """Stop a job, or one of its runs; the message of what is wrong with that, "" where nothing is."""
    try:
        jobs.stop(job, run)
        return ""
    except InputError as error:
        return message(str(error))


async def followed(
    jobs: Jobs, job: str, kind: type[V], shown: Callable[[JobView[V]], Updates], otherwise: Updates
) -> AsyncIterator[Updates]:
    """What is `shown` of a job whenever it has changed, until it has ended; `otherwise` where there is none.

    A view costs a coroutine, no thread, so there may be as many as visitors.
    """
    last: JobView[V] | None = None
    while last is None or last.state != "finished":
        try:
            view = jobs.view(job, kind)
        except InputError:  # forgotten meanwhile
            break
        if last is None or replace(view, seconds=last.seconds) != last:
            yield await asyncio.to_thread(shown, view)
        last = view
        await asyncio.sleep(SECONDS_BETWEEN_VIEWS)
    if last is None:  # a generator has to say something
        yield otherwise


def follow(event: Any, watch: Callable[..., Any], job: Any, outputs: Any) -> Any:
    """Let `watch`, a generator over a job's id, show the job after an event; returns the event of its end."""
    return event.then(watch, job, outputs, show_progress="hidden", api_visibility="private", concurrency_limit=None)
