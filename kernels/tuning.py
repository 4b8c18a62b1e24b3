"""Which configuration of a kernel is fastest on this chip: searched once, kept in one file per chip, reused by the next run.

The search (``search``) prunes early: candidates are ordered by a predicted cost and the hopeless ones are never compiled; those left
are timed by successive halving (Jamieson and Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization",
AISTATS 2016): all of them shortly, the better third longer, the last few longest. Choices (``Choices``) are kept as JSON by kernel,
key and Triton version: another version of the compiler makes other code, so it searches anew.

The search times and does not check: a configuration that the compiler got wrong may be the fastest for the work it leaves out. So who
checks the result (``runners/measure_kernel.py``) asks what was chosen (``taken``), and of a wrong one says so (``distrust``): the next
call of ``tuned`` searches among the others. Searches have run on an H200 with Triton 3.6; ``distrust`` has not.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

Config = Mapping[str, int]
Key = Mapping[str, "str | int | bool"]

FORMAT_VERSION = 1
COSTLIER = 2.5
"""Candidates predicted this many times slower than the best prediction are never compiled: predictions are rough, not that rough."""
MOST_CANDIDATES = 16
"""At most so many are compiled: a compilation takes seconds, and rented time is money."""
ROUND_MS = (2, 15, 60)
"""Milliseconds of samples in each round of halving: a look, a comparison, a decision."""
WAKE_MS = 30
"""Before the first look the chip works for so long: it idled while the candidates compiled. Without that, on an H200 the first of the list
won 0 of 23 searches, and where it came later, in another kernel's list, the same code took 18 % less than the winner."""
KEPT_SHARE = 3
"""After each round one in so many stays."""
FEWEST_KEPT = 2


class NothingRuns(RuntimeError):
    """No configuration of a kernel compiles and runs on this chip; the message tells why the first one does not."""


@dataclass(frozen=True)
class Choice:
    """The configuration chosen for one kernel and key, with its birth certificate."""

    config: dict[str, int]
    time_s: float
    """Median time of the winner in the last round of the search (cold cache)."""
    tried: int
    """Candidates that were timed."""
    failed: int
    """Candidates that did not compile or run."""
    triton: str
    searched_at_utc: str
    wrong: list[dict[str, int]] = field(default_factory=list)
    """Configurations that were faster, or were chosen before, and whose results were wrong."""


def name_of(kernel: str, key: Key) -> str:
    """How a choice is called in the file.

    >>> name_of("triton.matmul", {"dtype": "bf16", "m": 4096})
    'triton.matmul dtype=bf16 m=4096'
    """
    return " ".join([kernel, *(f"{name}={value}" for name, value in key.items())])


@dataclass
class Choices:
    """The choices known for one chip: those that ship, those of earlier runs, and those found now, written to ``path`` at once.

    A file that cannot be read or written costs a new search, never the run: ``problem`` says what was wrong.
    """

    path: Path | None = None
    known: dict[str, Choice] = field(default_factory=dict)
    searching: bool = True
    """False: what is not known is not searched; the candidate with the best prediction that runs is taken, and not kept."""
    compiling: bool = False
    """True: nothing is searched or kept, but every candidate is compiled, for another process that searches later."""
    problem: str | None = None
    wrong: dict[str, list[dict[str, int]]] = field(default_factory=dict)
    """By name, what ``distrust`` was told of: no candidates any more."""
    _own: dict[str, Choice] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, path: Path | None, shipped: Iterable[Path] = (), searching: bool = True) -> Choices:
        """Choices from ``shipped`` files, then from ``path``, which wins and is where new ones go (None: nowhere)."""
        made = cls(path=path, searching=searching)
        for file in shipped:
            made.known.update(made._read(file))
        if path is not None:
            made._own = made._read(path)
            made.known.update(made._own)
        return made

    def _read(self, path: Path) -> dict[str, Choice]:
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data["version"] != FORMAT_VERSION:
                raise ValueError(f"version {data['version']} where {FORMAT_VERSION} is read")
            return {name: Choice(**choice) for name, choice in data["choices"].items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            self.problem = f"{path}: not a file of tuned choices ({error}); it is made anew"
            return {}

    def find(self, name: str, candidates: Sequence[Config], triton: str) -> Choice | None:
        """The choice kept under ``name`` if it was made with this Triton and is still a candidate."""
        choice = self.known.get(name)
        fits = choice is not None and choice.triton == triton and any(dict(candidate) == choice.config for candidate in candidates)
        return choice if fits else None

    def right(self, name: str, candidates: Sequence[Config]) -> list[Config]:
        """The candidates that were not found to be wrong."""
        return [candidate for candidate in candidates if dict(candidate) not in self.wrong.get(name, [])]

    def keep(self, name: str, choice: Choice) -> None:
        """Remember the choice, and write the file whole or not at all."""
        self.known[name] = self._own[name] = choice
        self._write()

    def drop(self, name: str, config: Config) -> None:
        """Forget the choice, for this configuration of it computes something else."""
        self.wrong.setdefault(name, []).append(dict(config))
        self.known.pop(name, None)
        if self._own.pop(name, None) is not None:
            self._write()

    def _write(self) -> None:
        if self.path is None:
            return
        data = {"version": FORMAT_VERSION, "choices": {name: asdict(found) for name, found in sorted(self._own.items())}}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(
                "w", dir=self.path.parent, prefix=f".{self.path.name}.", delete=False, encoding="utf-8"
            ) as file:
                file.write(json.dumps(data, indent=1) + "\n")
            os.chmod(file.name, 0o644)
            os.replace(file.name, self.path)
        except OSError as error:
            self.problem = f"{self.path}: tuned choices cannot be written ({error.strerror}); the next run searches again"


_choices = Choices()


def use(choices: Choices) -> None:
    """Take and keep choices there from now on. Per process, as one process measures one chip."""
    global _choices
    _choices = choices


_taken: dict[str, dict[str, int]] = {}


@contextlib.contextmanager
def taken() -> Iterator[dict[str, dict[str, int]]]:
    """Collects what ``tuned`` gives inside: name of the choice -> configuration."""
    global _taken
    before, _taken = _taken, {}
    try:
        yield _taken
    finally:
        _taken = before


def distrust(choices: Mapping[str, Config]) -> None:
    """The result of a call with these choices (of ``taken``) was wrong: they are not taken again by this process, nor kept."""
    for name, config in choices.items():
        _choices.drop(name, config)


def tuned(
    kernel: str,
    key: Key,
    configs: Sequence[Config],
    run: Callable[[Config], object],
    cost: Callable[[Config], float] | None = None,
) -> dict[str, int]:
    """The configuration to run ``kernel`` with: the kept choice for this key, else the winner of a search.

    ``key`` names what decides the choice (dtype, layout, sizes or classes of sizes). ``run`` launches the kernel with a configuration
    on scratch outputs. ``cost`` predicts the time of one (any unit), for pruning; without it all count alike, in the order given.
    In Triton's interpreter the first configuration is taken. Raises NothingRuns when none works, ValueError when there is none.
    """
    from .backends import interpreting

    if not configs:
        raise ValueError(f"{kernel} has no configuration for {dict(key)}")
    if interpreting():
        return dict(configs[0])
    name = name_of(kernel, key)
    _taken[name] = _chosen(name, configs, run, cost)
    return dict(_taken[name])


def _chosen(
    name: str, configs: Sequence[Config], run: Callable[[Config], object], cost: Callable[[Config], float] | None
) -> dict[str, int]:
    import triton

    version = str(triton.__version__)
    right = _choices.right(name, configs)
    if not right:
        raise NothingRuns(f"{name}: every configuration gave wrong results: {'; '.join(map(str, _choices.wrong[name]))}"[:300])
    found = _choices.find(name, right, version)
    if found is None:
        candidates = prune(right, cost)
        if not _choices.searching:
            return _first_that_runs(candidates, run)
        compile_all(candidates, run)
        if _choices.compiling:
            return dict(candidates[0])
        time_s = functools.partial(_time_s, run)
        with contextlib.suppress(Exception):  # what fails here fails again in the search, which counts it
            time_s(candidates[0], WAKE_MS)
        found = search(candidates, time_s, triton=version)
        if found.failed:
            # A candidate that broke the device makes all later ones fail: the last one standing won nothing, and raises now.
            time_s(found.config, 1)
        _choices.keep(name, replace(found, wrong=_choices.wrong.get(name, [])))
    return dict(found.config)


def prune(configs: Sequence[Config], cost: Callable[[Config], float] | None) -> list[Config]:
    """The candidates worth compiling, cheapest prediction first.

    >>> prune([{"a": 1}, {"a": 2}, {"a": 9}], lambda config: config["a"])
    [{'a': 1}, {'a': 2}]
    """
    if cost is None:
        return list(configs)[:MOST_CANDIDATES]
    costs = [cost(config) for config in configs]
    best = min(costs)
    ordered = sorted(range(len(configs)), key=lambda i: (costs[i], i))
    return [configs[i] for i in ordered if costs[i] <= COSTLIER * best][:MOST_CANDIDATES]


def _first_that_runs(candidates: Sequence[Config], run: Callable[[Config], object]) -> dict[str, int]:
    failures: list[Exception] = []
    for config in candidates:
        try:
            run(config)
        except Exception as error:  # as in ``search``
            failures.append(error)
        else:
            return dict(config)
    raise NothingRuns(_none_runs(len(candidates), f"{dict(candidates[0])}: {type(failures[0]).__name__}: {failures[0]}"))


def _none_runs(count: int, first: str) -> str:
    return f"none of {count} configurations runs; the first: {first[:300]}"


def compile_all(candidates: Sequence[Config], run: Callable[[Config], object]) -> None:
    """Run each candidate once, in as many threads as there are cores: Triton compiles outside Python's lock.

    The first goes alone, for it sets up what the others share. What fails here fails again in the search, which counts it.
    A thread begins on the first device and without this thread's context variables (Triton keeps its allocator of scratch memory in
    one): it gets both, for a launch on a device that cannot read the arrays breaks the process.
    """
    here = _on_this_device()

    def attempt(config: Config) -> None:
        with contextlib.suppress(Exception), here():
            run(config)

    attempt(candidates[0])
    with ThreadPoolExecutor(max(1, min(len(candidates), os.cpu_count() or 1))) as threads:
        tried = [threads.submit(contextvars.copy_context().run, attempt, config) for config in candidates[1:]]
    for each in tried:
        each.result()


def _on_this_device() -> Callable[[], AbstractContextManager[Any]]:
    """Makes contexts in which the device is current that is current here, whatever the thread; without CUDA (or ROCm), nothing."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not (torch.cuda.is_available() and torch.cuda.is_initialized()):
        return contextlib.nullcontext
    return functools.partial(torch.cuda.device, torch.cuda.current_device())


def search(candidates: Sequence[Config], time_s: Callable[[Config, int], float], triton: str) -> Choice:
    """The fastest candidate by successive halving; ``time_s(config, milliseconds)`` measures one and raises if it does not work.

    Raises NothingRuns when no candidate works.
    """
    failures: list[str] = []
    alive, times = list(candidates), dict.fromkeys(range(len(candidates)), math.inf)
    indices = list(range(len(alive)))
    for milliseconds in ROUND_MS:
        for index in indices:
            try:
                times[index] = time_s(alive[index], milliseconds)
            except Exception as error:  # what a compiler or a launch raises is its own; a candidate that fails is no candidate
                failures.append(f"{dict(alive[index])}: {type(error).__name__}: {error}")
                times[index] = math.inf
        indices = sorted((i for i in indices if times[i] < math.inf), key=lambda i: times[i])
        if not indices:
            raise NothingRuns(_none_runs(len(candidates), failures[0]))
        if len(indices) == 1:
            break
        indices = indices[: max(FEWEST_KEPT, -(-len(indices) // KEPT_SHARE))]
    winner = indices[0]
    return Choice(
        config=dict(alive[winner]),
        time_s=times[winner],
        tried=len(candidates),
        failed=len(failures),
        triton=triton,
        searched_at_utc=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def _time_s(run: Callable[[Config], object], config: Config, milliseconds: int) -> float:
    """Median time of one call with cold cache, by Triton's own benchmark function."""
    import triton.testing

    call: Callable[[], Any] = functools.partial(run, config)
    return float(triton.testing.do_bench(call, warmup=max(1, milliseconds // 4), rep=milliseconds, return_mode="median")) * 1e-3
