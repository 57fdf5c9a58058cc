"""tasks: every task has an owner that awaits its end."""

import asyncio
import gc
import weakref

from service.tasks import Tasks


async def test_tasks_run_and_are_forgotten() -> None:
    """One that has ended is held no longer."""
    tasks = Tasks()
    done = asyncio.Event()
    task: list[weakref.ref[asyncio.Task[None]]] = []

    async def work() -> None:
        current = asyncio.current_task()
        assert current is not None
        task.append(weakref.ref(current))
        gc.collect()  # the owner's reference keeps it alive
        await asyncio.sleep(0)
        done.set()

    tasks.start(work())
    await done.wait()
    await asyncio.sleep(0)
    gc.collect()
    assert task[0]() is None


async def test_aclose_waits_for_the_end_of_all() -> None:
    """What still runs is cancelled, and its cleaning up is waited for."""
    tasks = Tasks()
    started, cleaned = asyncio.Event(), []

    async def work() -> None:
        try:
            started.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    tasks.start(work())
    tasks.start(work())
    await started.wait()
    await tasks.aclose()
    assert cleaned == [True, True]
    await tasks.aclose()
