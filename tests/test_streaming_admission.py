"""Who may go next: checked with real event loops and, for the window, with a simulated server and its clock."""

import asyncio
import random
import threading
import time
from collections.abc import Callable
from heapq import heappop, heappush

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.streaming.admission import Budget, HostSlots, Slots, Ticket, Turn, Window
from toolkit.streaming.threads import DaemonPool

SIZES = st.lists(st.integers(1, 50), min_size=1, max_size=30)


@given(SIZES, st.integers(1, 60), st.randoms(use_true_random=False))
def test_every_ticket_gets_its_bytes_and_the_budget_is_kept(
    sizes: list[int], total: int, chance: random.Random
) -> None:
    budget = Budget(total)
    most = 0

    async def one(ticket: Ticket, size: int) -> None:
        nonlocal most
        with ticket:
            for part in (size // 2, size - size // 2):
                await ticket.take(part)
                most = max(most, budget.used)
                for _ in range(chance.randrange(3)):
                    await asyncio.sleep(0)

    async def all_of_them() -> None:
        async with asyncio.timeout(5):
            await asyncio.gather(*(one(budget.ticket(), size) for size in sizes))

    asyncio.run(all_of_them())
    assert budget.used == 0
    assert most <= total + max(sizes)


def test_older_tickets_go_first_and_giving_back_twice_is_once() -> None:
    async def run() -> list[int]:
        budget = Budget(10)
        order: list[int] = []
        first, second, third = (budget.ticket() for _ in range(3))
        await first.take(10)

        async def take(ticket: Ticket) -> None:
            await ticket.take(6)
            order.append(ticket.number)

        tasks = [asyncio.create_task(take(third)), asyncio.create_task(take(second))]
        await asyncio.sleep(0)
        assert not third.take_now(1)  # though it fits, as an older one waits
        first.release()
        first.release()
        await asyncio.sleep(0.01)
        assert order == [second.number]
        assert budget.used == 6
        second.keep(4)
        await asyncio.gather(*tasks)
        assert budget.used == 10
        third.release()
        second.release()
        assert budget.used == 0
        return order

    assert asyncio.run(run()) == [2, 3]


def test_the_oldest_gets_more_than_the_budget() -> None:
    async def run() -> None:
        budget = Budget(10)
        oldest, other = budget.ticket(), budget.ticket()
        await other.take(10)
        await asyncio.wait_for(oldest.take(100), 1)
        assert budget.used == 110

    asyncio.run(run())


def test_who_gives_up_waiting_takes_nothing() -> None:
    async def run() -> None:
        budget, slots = Budget(10), Slots(1)
        with budget.ticket() as holder, budget.ticket() as waiter, budget.ticket() as last:
            await holder.take(10)
            await slots.take(0)
            waits = [asyncio.create_task(waiter.take(10)), asyncio.create_task(slots.take(1))]
            await asyncio.sleep(0)
            for task in waits:
                task.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
            holder.keep(0)
            slots.give()
            await asyncio.wait_for(last.take(10), 1)
            await asyncio.wait_for(slots.take(2), 1)
            assert (budget.used, slots.taken) == (10, 1)

    asyncio.run(run())


def test_a_slot_that_was_given_to_someone_who_left_goes_on() -> None:
    async def run() -> None:
        slots = Slots(1)
        await slots.take(0)
        leaving, staying = (asyncio.create_task(slots.take(number)) for number in (1, 2))
        await asyncio.sleep(0)
        slots.give()  # now it is `leaving`'s, who has not run since
        leaving.cancel()
        await asyncio.wait_for(staying, 1)
        assert slots.taken == 1

    asyncio.run(run())


def test_a_turn_that_waits_for_bytes_lets_others_have_its_slot() -> None:
    """The oldest image waits to be tried again; younger ones hold all the bytes and all the slots."""

    async def run() -> None:
        budget, slots = Budget(10), Slots(1)
        oldest, full, greedy = (budget.ticket() for _ in range(3))
        await full.take(10)
        waiting, late = Turn(60, greedy), Turn(60, oldest)

        async def young() -> None:
            await waiting.begin((slots,))
            async with waiting.start(asyncio.get_running_loop().time()):
                await waiting.take(5)
            waiting.end()

        task = asyncio.create_task(young())
        await asyncio.sleep(0.01)
        await asyncio.wait_for(late.begin((slots,)), 1)
        await asyncio.wait_for(late.take(7), 1)
        late.end()
        for ticket in (oldest, full):
            ticket.release()
        await asyncio.wait_for(task, 1)
        assert (slots.taken, budget.used) == (0, 5)
        assert waiting.left == pytest.approx(60, abs=0.5)

    asyncio.run(run())


def test_the_time_of_a_turn_counts_only_while_it_runs() -> None:
    async def run() -> None:
        budget = Budget(1)
        first, second = budget.ticket(), budget.ticket()
        await first.take(1)
        turn = Turn(0.2, second)
        await turn.begin((Slots(1),))
        asyncio.get_running_loop().call_later(0.4, first.release)
        async with turn.start(asyncio.get_running_loop().time()):
            await turn.take(1)
        with pytest.raises(TimeoutError):
            async with turn.start(asyncio.get_running_loop().time()):
                await asyncio.sleep(5)
        turn.end()

    begun = time.monotonic()
    asyncio.run(run())
    assert 0.55 < time.monotonic() - begun < 3


def test_requests_to_one_host_keep_their_distance() -> None:
    async def run() -> float:
        host = HostSlots(10, delay=0.05)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await asyncio.gather(*map(host.take, range(5)))
        return loop.time() - begun

    assert 0.19 < asyncio.run(run()) < 1.5


def test_a_host_that_is_asked_too_much_is_asked_less_once_and_then_slowly_more() -> None:
    async def run() -> None:
        host = HostSlots(64)
        for number in range(32):
            await host.take(number)
        for _ in range(16):  # what was in flight says the same
            host.finished(congested=True)
        assert host.limit == 16
        for _ in range(30):
            host.finished(congested=False)
        assert host.limit == 17
        for _ in range(10_000):
            host.finished(congested=False)
        assert host.limit == 64

    asyncio.run(run())


def simulated(seconds: Callable[[int], float], downloads: int = 4000, window: Window | None = None) -> Window:
    """A window after downloads that each take seconds(in flight), on a clock of their own."""
    window, flying, chance = window or Window(16, 128), list[tuple[float, int]](), random.Random(3)
    now, ends = 0.0, dict[int, asyncio.Future[None]]()

    async def download(number: int) -> None:
        await window.take(number)
        end = now + seconds(window.taken) * chance.uniform(0.9, 1.1)
        heappush(flying, (end, number))
        ends[number] = asyncio.get_running_loop().create_future()
        await ends[number]
        window.finished(now)
        window.give()

    async def run() -> None:
        nonlocal now
        tasks = [asyncio.create_task(download(number)) for number in range(downloads)]
        for _ in range(downloads):
            for _ in range(4):
                await asyncio.sleep(0)
            now, number = heappop(flying)
            ends[number].set_result(None)
        await asyncio.gather(*tasks)

    asyncio.run(run())
    return window


def test_the_window_opens_where_the_way_is_long() -> None:
    assert simulated(lambda flying: 0.1).limit in {96, 128}, "at most a step below, which is tried now and then"


def test_the_window_stays_small_where_more_bring_nothing() -> None:
    assert simulated(lambda flying: 0.001 * flying).limit <= 36


def test_a_window_that_chance_has_opened_closes_again() -> None:
    window = Window(16, 128)
    window.limit = 128
    assert simulated(lambda flying: 0.001 * flying, 20_000, window).limit <= 64


def test_the_window_stays_where_it_is_while_nobody_waits() -> None:
    window = Window(16, 128)
    for number in range(1000):
        window.finished(number * 0.01)
    assert window.limit == 16


def test_the_pool_runs_everything_and_its_threads_are_daemons() -> None:
    names = set()

    def work(number: int) -> int:
        names.add(threading.current_thread().name)
        assert threading.current_thread().daemon
        return number * number

    with DaemonPool(3, "worker") as pool:
        assert [future.result() for future in [pool.submit(work, n) for n in range(50)]] == [n * n for n in range(50)]
        with pytest.raises(ZeroDivisionError):
            pool.submit(lambda: 1 // 0).result()
    assert names <= {"worker-0", "worker-1", "worker-2"}
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit(len, "")


def test_a_pool_is_left_at_once_though_a_thread_hangs() -> None:
    release = threading.Event()
    pool = DaemonPool(1)
    hanging, never = pool.submit(release.wait, 30), pool.submit(len, "")
    begun = time.monotonic()
    pool.shutdown(wait=False, cancel_futures=True)
    assert time.monotonic() - begun < 1
    assert never.cancelled()
    release.set()
    assert hanging.result(5)
