"""How the scripts beside this one take the time of several calls: in turns, so that a slow minute hits all of them."""

import statistics
import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

Name = TypeVar("Name", bound=Hashable)


def race(
    calls: dict[Name, Callable[[], Any]], rounds: int, *, warm_up: bool = False
) -> tuple[dict[Name, list[float]], dict[Name, Any]]:
    """Seconds of each call, round by round, and what each returned last; a warm-up is one round more, not counted."""
    seconds: dict[Name, list[float]] = {name: [] for name in calls}
    results = {}
    for _ in range(rounds + warm_up):
        for name, call in calls.items():
            time.sleep(0.2)  # threads of the library that ran before spin for a while
            start = time.perf_counter()
            results[name] = call()
            seconds[name].append(time.perf_counter() - start)
    return {name: values[warm_up:] for name, values in seconds.items()}, results


def medians(
    calls: dict[Name, Callable[[], Any]], rounds: int, *, warm_up: bool = False
) -> dict[Name, tuple[float, Any]]:
    """Median seconds of each call, and what it returned last."""
    seconds, results = race(calls, rounds, warm_up=warm_up)
    return {name: (statistics.median(seconds[name]), results[name]) for name in calls}
