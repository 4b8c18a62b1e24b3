"""A run: every task of a suite measured once, each row on the disk before the next begins."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from chipassay.results.errors import FileError, InputError, NothingMeasured, UnknownName
from chipassay.results.schema import SCHEMA_VERSION, Row, case_key
from chipassay.results.table import TableWriter, keep_latest, read_rows

from .budget import PATIENCE_S, Budget, compiles
from .collective.tasks import Job, backend_names, collective_tasks
from .compile_ahead import BUDGET_SHARE, compile_ahead, processes, to_compile
from .devices.facts import DeviceFacts, host_hash
from .devices.host import usable_cores
from .options import RESULTS, Outcome, RunOptions, default_path
from .rounds import pooled
from .suites import Suite, load_suite, select, with_states
from .tasks import Task, kernel_questions, kernel_tasks
from .workers.client import WorkerDied, Workers, WorkerTimeout, start_ranks, start_worker

START_TIMEOUT_S = 180.0
"""Importing torch from a cold network disk takes up to minutes on rented machines."""
BUDGET_SPENT = "the time budget was spent"
"""How reasons begin that --resume takes as no reason."""
NOT_FINAL = ("error", "timeout")
"""Statuses that --resume tries again."""

Report = Callable[[int, int, Task, Row | None], None]
"""Told (done, all, task, row): before a task with no row, after it with its row."""


class Run:
    """One call of ``chipassay run``. ``announce`` is told the facts once; ``report`` of each task; ``tell`` what else takes time."""

    def __init__(
        self,
        options: RunOptions,
        announce: Callable[[DeviceFacts, int, Path], None],
        report: Report,
        tell: Callable[[str], None] = lambda words: None,
    ) -> None:
        self.options, self.announce, self.report, self.tell = options, announce, report, tell
        self._begin_s = time.monotonic()
        self._budget = Budget(options.budget_s, self._begin_s, options.sustain_s)
        self._measuring_s = 0.0
        self._overheads_s: list[float] = []
        self._fresh: set[tuple[Any, ...]] = set()
        self._workers: Workers | None = None
        self._workers_ranks = 0
        self._ready: dict[str, Any] = {}

    def execute(self) -> Outcome:
        """Measure. Ctrl-C ends it early with what there is.

        Raises InputError for bad options, NothingMeasured when no device can be used or it went away, FileError when the
        table cannot be written. Whatever was measured before is in the file in every case.
        """
        try:
            return self._execute()
        finally:
            if self._workers is not None:
                self._workers.stop()

    def _execute(self) -> Outcome:
        facts = self._start_kernels()
        reasons: dict[str, str | None] = self._ready["backends"]
        tasks = self._tasks(facts, reasons)
        path = self.options.out or default_path(facts.chip_id)
        earlier = self._earlier(path, facts)
        rows = {case_key(row): row for row in earlier}
        visits = self._visits(tasks, rows)
        run_id = earlier[0].run_id if earlier else uuid.uuid4().hex[:12]
        interrupted = False
        with TableWriter(path) as table:
            self.announce(facts, len({task.key for task in visits}), path)
            try:
                self._compile_ahead([task for task in visits if task.key in self._fresh], facts)
            except KeyboardInterrupt:
                interrupted, visits = True, []
            for position, task in enumerate(visits):
                self.report(position, len(visits), task, None)
                try:
                    row, lost = self._visit(task, rows.get(task.key), facts, run_id, len(visits) - position)
                except KeyboardInterrupt:
                    interrupted = True
                    break
                if row is None:
                    continue
                table.append(row)
                rows[task.key] = row
                self.report(position + 1, len(visits), task, row)
                if lost is not None:
                    raise NothingMeasured(
                        f"{facts.name} went away ({lost}) after {len(rows)} rows; they are safe in {path}; "
                        f"when it is back, go on with: chipassay run --out {path} --resume"
                    )
        keep_latest(path)
        return Outcome(
            path=path,
            rows=tuple(rows.values()),
            facts=facts,
            wall_s=time.monotonic() - self._begin_s,
            measuring_s=self._measuring_s,
            interrupted=interrupted,
        )

    def _visits(self, tasks: Sequence[Task], rows: Mapping[tuple[Any, ...], Row]) -> list[Task]:
        """Tasks in the order they are measured: all of them once, then again, as often as each still needs."""

        def missing(task: Task) -> int:
            row = rows.get(task.key)
            if row is None or row.status in NOT_FINAL or (row.reason or "").startswith(BUDGET_SPENT):
                return self.options.rounds
            return self.options.rounds - (row.round_count or 1) if row.status == "ok" else 0

        needed = [(task, missing(task)) for task in tasks]
        self._fresh = {task.key for task, count in needed if count == self.options.rounds}
        sustained = [task for task, _ in needed if task.reason is None and task.ranks == 1 and task.key in self._fresh]
        if reason := self._budget.too_short_for(len(sustained)):
            raise InputError(reason)
        if self.options.budget_s is not None:
            # Tuning takes what it takes: with a budget it comes last, so that it is at its own expense.
            needed.sort(key=lambda pair: compiles(pair[0].columns))
        return [task for turn in range(self.options.rounds) for task, count in needed if count > turn]

    def _visit(
        self, task: Task, before: Row | None, facts: DeviceFacts, run_id: str | None, remaining: int
    ) -> tuple[Row | None, str | None]:
        """The row that the case has after one more visit (None: it stays as it is), and what the device says if it is lost."""
        again = before is not None and task.key not in self._fresh
        self._fresh.discard(task.key)
        if again and before is not None and before.status != "ok":
            return None, None
        begin_s = time.monotonic()
        columns, lost = self._measure(task, facts, remaining, again)
        measuring_s = columns.get("measuring_s") or 0.0
        self._measuring_s += measuring_s
        if measuring_s:
            self._overheads_s.append(time.monotonic() - begin_s - measuring_s)
        row = self._row(task, columns, facts, run_id)
        if not again or before is None:
            return row, lost
        if row.status == "ok":
            return pooled(before, row), lost
        if (row.reason or "").startswith(BUDGET_SPENT):
            return None, None
        return replace(before, reason=f"a later visit ended as {row.status}: {row.reason}"), lost

    def _tasks(self, facts: DeviceFacts, reasons: dict[str, str | None]) -> list[Task]:
        for backend in self.options.backends:
            if backend not in {*reasons, *backend_names(facts.kind)}:
                raise UnknownName("backend", backend, {*reasons, *backend_names(facts.kind)})
        from chipassay.collectives.pattern import patterns
        from chipassay.kernels.kernel import cases

        suite = select(load_suite(self.options.suite, facts.kind, facts.native_dtypes), self.options.only, [*cases(), *patterns()])
        suite = with_states(suite, caches=self.options.cache, launches=self.options.launch)
        for wanted in suite.wanted:
            known = cases() if wanted.ranks is None else patterns()
            if wanted.op not in known:
                raise UnknownName("op" if wanted.ranks is None else "collective", wanted.op, known)
        chosen = tuple(b for b in self.options.backends if b in reasons) or tuple(b for b, reason in reasons.items() if reason is None)
        tasks = [] if self.options.backends and not set(self.options.backends) & set(reasons) else self._kernel_tasks(suite, chosen)
        tasks += collective_tasks(suite, self._job(facts, reasons["torch"]), self.options.backends)
        tasks = list({task.key: task for task in tasks}.values())  # where `half` is fp16, two blocks may want the same case
        if not tasks:
            raise InputError(f"nothing to measure with backend {', '.join(chosen)} in suite {suite.name}")
        return tasks

    def _job(self, facts: DeviceFacts, missing: str | None) -> Job:
        """All chips here; on a CPU 2 ranks, which stand for nothing but themselves."""
        return Job(facts.kind, (0,) * (self.options.ranks or (2 if facts.kind == "cpu" else facts.count)), missing)

    def _kernel_tasks(self, suite: Suite, backends: Sequence[str]) -> list[Task]:
        assert self._workers is not None
        questions = kernel_questions(suite, backends)
        answers = self._workers.ask({"questions": questions}, START_TIMEOUT_S)["answers"]
        try:
            return kernel_tasks(suite, questions, answers)
        except ValueError as error:
            raise InputError(f"suite {suite.name}: {error}") from error

    def _earlier(self, path: Path, facts: DeviceFacts) -> list[Row]:
        if not path.exists():
            return []
        if not self.options.resume:
            raise FileError(path, "already exists", mend="go on with it by --resume, or name another file with --out")
        if path.is_file() and b"\n" not in path.read_bytes():
            return []  # cut short before the header was whole: nothing was measured yet
        rows = read_rows(path)
        if rows and rows[0].chip_id != facts.chip_id:
            raise FileError(
                path, f"was measured on {rows[0].chip_id}, this is {facts.chip_id}", mend="resume on the same chip, or name another file"
            )
        if rows and rows[0].host_hash not in (None, host_hash()):
            raise FileError(path, "was measured on another machine of this kind", mend="name another file: two machines are two runs")
        return rows

    def _measure(self, task: Task, facts: DeviceFacts, remaining: int, again: bool) -> tuple[dict[str, Any], str | None]:
        """The columns of the task's row, and what the device says if it is lost."""
        if task.reason is not None:
            return {"status": "skipped", "reason": task.reason}, None
        first_visits = len(self._fresh) + (0 if again else 1)
        overhead_s = sum(self._overheads_s) / max(1, len(self._overheads_s))
        cap_s = self._budget.cap_s(time.monotonic(), remaining, first_visits, overhead_s)
        if cap_s is None:
            return {"status": "skipped", "reason": f"{BUDGET_SPENT} before its turn"}, None
        cap_s = min(cap_s, task.time_cap_s)
        request = {
            **task.request,
            "seed": self.options.seed,
            "min_time_s": min(task.request["min_time_s"] / self.options.rounds, 0.6 * cap_s),
            "checked": again,
            "time_cap_s": cap_s,
        }
        if task.ranks == 1:
            request["sustain_s"] = self.options.sustain_s
        begin_s = time.monotonic()
        answer: dict[str, Any] = {}
        try:
            workers = self._workers_for(task.ranks, facts)
            answer = workers.ask(request, self._budget.timeout_s(cap_s, compiles(task.columns), not again, begin_s))
            if answer["device_lost"] is not None:
                # A kernel's bad access poisons its process, not the chip: only a fresh process can tell that the chip is gone.
                workers.stop()
                self._workers = None
                self._workers_for(1, facts)
            return answer["row"], None
        except WorkerTimeout as error:
            self._workers = None
            if compiles(task.columns) and not again and self._budget.left_s(time.monotonic()) <= 0:
                return {"status": "skipped", "reason": f"{BUDGET_SPENT} while it was tuned"}, None
            failure = {"status": "timeout", "reason": str(error)}
        except WorkerDied as error:
            self._workers = None
            failure = {"status": "out_of_memory" if "out of memory" in str(error) else "error", "reason": str(error)}
        except NothingMeasured as error:
            lost = answer.get("device_lost") or str(error)
            return answer.get("row", {"status": "error", "reason": lost}), lost
        return {**failure, "wall_s": time.monotonic() - begin_s}, None

    def _workers_for(self, ranks: int, facts: DeviceFacts) -> Workers:
        if self._workers is not None and self._workers_ranks == ranks:
            return self._workers
        if self._workers is not None:
            self._workers.stop()
            self._workers = None
        if ranks == 1:
            found = self._start_kernels()
            if found.chip_id != facts.chip_id:
                raise NothingMeasured(f"a fresh process finds {found.name} instead")
        else:
            workers = start_ranks(ranks, facts.kind, PATIENCE_S)
            workers.ask(None, START_TIMEOUT_S)
            self._workers, self._workers_ranks = workers, ranks
        assert self._workers is not None
        return self._workers

    def _compile_ahead(self, tasks: Sequence[Task], facts: DeviceFacts) -> None:
        requests = to_compile(tasks)
        count = processes(len(requests), usable_cores()) if facts.kind in ("cuda", "rocm") else 0
        if not count:
            return
        begin_s = time.monotonic()
        self.tell(f"compiling {len(requests)} kernels in {count} processes first")
        tuning = "compile" if self.options.tune else "as it is"
        until_s = begin_s + BUDGET_SHARE * self._budget.left_s(begin_s)
        made = compile_ahead(requests, count, lambda: self._start(tuning), START_TIMEOUT_S, until_s)
        self.tell(f"compiled {made} of them in {time.monotonic() - begin_s:.0f} s")

    def _start(self, tuning: str) -> Workers:
        folder = self.options.out.parent if self.options.out else RESULTS
        return start_worker(self.options.device_kind, folder / "tuned", tuning)

    def _start_kernels(self) -> DeviceFacts:
        workers = self._start("search" if self.options.tune else "as it is")
        try:
            self._ready = workers.ask(None, START_TIMEOUT_S)
        except (WorkerDied, WorkerTimeout) as error:
            raise NothingMeasured(f"no device could be opened: {error}; see `chipassay doctor`") from error
        self._workers, self._workers_ranks = workers, 1
        return DeviceFacts.from_dict(self._ready["facts"])

    def _row(self, task: Task, columns: dict[str, Any], facts: DeviceFacts, run_id: str | None) -> Row:
        identity = {
            "schema_version": SCHEMA_VERSION,
            "run_id": run_id,
            "measured_at_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "host_hash": host_hash(),
            "chip_id": facts.chip_id,
            "device_name": facts.name,
            "device_kind": facts.kind,
            "device_memory_bytes": facts.memory_bytes,
            "last_level_cache_bytes": facts.cache_bytes,
            "chip_count": 1 if task.ranks == 1 or facts.kind == "cpu" else task.ranks,
            "node_count": 1,
            "fabric": "single" if task.ranks == 1 else facts.fabric,
            "driver": facts.driver,
        }
        # The task's key columns win: they are what --resume looks for.
        row = Row(**{**identity, **columns, **task.columns})
        return replace(
            row, samples_s=None if row.samples_s is None else tuple(row.samples_s), round_count=1 if row.status == "ok" else None
        )
