"""A run: every task of a suite measured once, each row on the disk before the next begins."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from chipassay.results.errors import ChipassayError, FileError, InputError, NothingMeasured, UnknownName
from chipassay.results.schema import Row, case_key
from chipassay.results.table import TableWriter, keep_latest, read_rows

from .budget import Budget, compiles
from .collective.tasks import backend_names, collective_tasks, joins_others_only
from .compile_ahead import BUDGET_SHARE, compile_ahead, processes, to_compile
from .crew import MPI_ONCE, START_TIMEOUT_S, Crew, LocalCrew
from .devices.facts import DeviceFacts, host_hash
from .devices.host import usable_cores
from .options import Outcome, RunOptions, already_exists, default_path
from .rounds import pooled
from .row import row_of
from .suites import Suite, load_suite, select, with_states
from .tasks import Task, kernel_questions, kernel_tasks
from .workers.client import WorkerDied, WorkerTimeout

BUDGET_SPENT = "the time budget was spent"
RANK_LOST = "a rank was lost before"
RESUMABLE = (BUDGET_SPENT, RANK_LOST, MPI_ONCE)
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
        crew: Crew | None = None,
    ) -> None:
        """``crew``: who measures; None: children on this machine."""
        self.options, self.announce, self.report, self.tell = options, announce, report, tell
        self._begin_s = time.monotonic()
        self._budget = Budget(options.budget_s, self._begin_s, options.sustain_s)
        self._measuring_s = 0.0
        self._overheads_s: list[float] = []
        self._fresh: set[tuple[Any, ...]] = set()
        self._crew = crew

    def execute(self) -> Outcome:
        """Measure. Ctrl-C ends it early with what there is.

        Raises InputError for bad options, NothingMeasured when no device can be used or it went away, FileError when the
        table cannot be written. Whatever was measured before is in the file in every case.
        """
        code, words = NothingMeasured.exit_code, None
        try:
            crew = self._crew = self._crew or LocalCrew(self.options)
            outcome = self._execute(crew)
            code = outcome.exit_code
            return outcome
        except ChipassayError as error:
            code, words = error.exit_code, str(error)
            raise
        finally:
            if self._crew is not None:
                self._crew.stop(code, words)

    def _execute(self, crew: Crew) -> Outcome:
        facts = crew.facts
        tasks = self._tasks(crew)
        path = self.options.out or default_path(facts.chip_id)
        before = self._before(path)
        earlier = self._earlier(path, before, facts)
        rows = {case_key(row): row for row in earlier}
        visits = self._visits(tasks, rows)
        run_id = before[0].run_id if before else uuid.uuid4().hex[:12]
        interrupted = False
        with TableWriter(path) as table:
            self.announce(facts, len({task.key for task in visits}), path)
            try:
                self._compile_ahead([task for task in visits if task.key in self._fresh], crew)
            except KeyboardInterrupt:
                interrupted, visits = True, []
            for position, task in enumerate(visits):
                self.report(position, len(visits), task, None)
                try:
                    row, lost = self._visit(task, rows.get(task.key), crew, run_id, len(visits) - position)
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
            if row is None or row.status in NOT_FINAL or (row.reason or "").startswith(RESUMABLE):
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

    def _visit(self, task: Task, before: Row | None, crew: Crew, run_id: str | None, remaining: int) -> tuple[Row | None, str | None]:
        """The row that the case has after one more visit (None: it stays as it is), and what the device says if it is lost."""
        again = before is not None and task.key not in self._fresh
        self._fresh.discard(task.key)
        if again and before is not None and before.status != "ok":
            return None, None
        begin_s = time.monotonic()
        columns, lost = self._measure(task, crew, remaining, again)
        measuring_s = columns.get("measuring_s") or 0.0
        self._measuring_s += measuring_s
        if measuring_s:
            self._overheads_s.append(time.monotonic() - begin_s - measuring_s)
        row = row_of(
            task, columns, crew.facts, crew.job(), run_id, share_gpu=self.options.share_gpu, device_index=self.options.device_index
        )
        if not again or before is None:
            return row, lost
        if row.status == "ok":
            return pooled(before, row), lost
        if (row.reason or "").startswith(RESUMABLE):
            return None, None
        return replace(before, reason=f"a later visit ended as {row.status}: {row.reason}"), lost

    def _tasks(self, crew: Crew) -> list[Task]:
        facts, reasons = crew.facts, crew.backends
        for backend in self.options.backends:
            if backend not in {*reasons, *backend_names(facts.kind)}:
                if words := joins_others_only(backend, facts.kind):
                    raise InputError(words)
                raise UnknownName("backend", backend, {*reasons, *backend_names(facts.kind)})
        from chipassay.collectives.pattern import patterns
        from chipassay.kernels.kernel import cases

        suite = load_suite(self.options.suite, facts.kind, facts.native_dtypes)
        if not suite.wanted:
            raise InputError(f"suite {suite.name} has nothing for a {facts.kind}; what is measured here is {facts.name}")
        suite = select(suite, self.options.only, [*cases(), *patterns()])
        suite = with_states(suite, caches=self.options.cache, launches=self.options.launch)
        for wanted in suite.wanted:
            known = cases() if wanted.ranks is None else patterns()
            if wanted.op not in known:
                raise UnknownName("op" if wanted.ranks is None else "collective", wanted.op, known)
        chosen = tuple(b for b in self.options.backends if b in reasons) or tuple(b for b, reason in reasons.items() if reason is None)
        with_kernels = crew.kernels and not (self.options.backends and not set(self.options.backends) & set(reasons))
        tasks = self._kernel_tasks(suite, chosen, crew) if with_kernels else []
        if not crew.kernels and any(wanted.ranks is None for wanted in suite.wanted):
            self.tell("kernels are left out: they are measured by `chipassay run` on one chip")
        alone = self.options.device_index is not None
        for task in [] if alone else collective_tasks(suite, crew.job(), self.options.backends):
            refusal = crew.refusal(task.request.get("transport", ""))
            tasks.append(replace(task, reason=refusal) if refusal and task.reason is None else task)
        tasks = list({task.key: task for task in tasks}.values())  # where `half` is fp16, two blocks may want the same case
        if not tasks:
            asked = f" with backend {', '.join(self.options.backends or chosen)}" if self.options.backends or chosen else ""
            what = "to measure" if crew.kernels else "for several ranks"
            raise InputError(f"nothing {what}{asked} in suite {suite.name}")
        return tasks

    def _kernel_tasks(self, suite: Suite, backends: Sequence[str], crew: Crew) -> list[Task]:
        questions = kernel_questions(suite, backends)
        answers = crew.kernel_answers(questions)
        try:
            return kernel_tasks(suite, questions, answers)
        except ValueError as error:
            raise InputError(f"suite {suite.name}: {error}") from error

    def _before(self, path: Path) -> list[Row]:
        """What the file to go on with holds."""
        if not path.exists():
            return []
        if not self.options.resume:
            raise already_exists(path)
        if path.is_file() and b"\n" not in path.read_bytes():
            return []  # cut short before the header was whole: nothing was measured yet
        return read_rows(path)

    def _earlier(self, path: Path, before: Sequence[Row], facts: DeviceFacts) -> list[Row]:
        """Those of ``before`` that are of this chip. Raises FileError where the file is of another one."""
        rows = [row for row in before if row.device_index == self.options.device_index]
        if rows and rows[0].chip_id != facts.chip_id:
            raise FileError(
                path, f"was measured on {rows[0].chip_id}, this is {facts.chip_id}", mend="resume on the same chip, or name another file"
            )
        if before and before[0].host_hash not in (None, host_hash()):
            raise FileError(path, "was measured on another machine of this kind", mend="name another file: two machines are two runs")
        return rows

    def _measure(self, task: Task, crew: Crew, remaining: int, again: bool) -> tuple[dict[str, Any], str | None]:
        """The columns of the task's row, and what the device says if it is lost."""
        if task.reason is not None:
            return {"status": "skipped", "reason": task.reason}, None
        if over := crew.over():
            return {"status": "skipped", "reason": f"{RANK_LOST}: {over}"}, None
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
            answer = crew.workers_for(task.ranks).ask(request, self._budget.timeout_s(cap_s, compiles(task.columns), not again, begin_s))
            if answer["device_lost"] is not None:
                # A kernel's bad access poisons its process, not the chip: only a fresh process can tell that the chip is gone.
                crew.again()
            return answer["row"], None
        except WorkerTimeout as error:
            crew.forget()
            if compiles(task.columns) and not again and self._budget.left_s(time.monotonic()) <= 0:
                return {"status": "skipped", "reason": f"{BUDGET_SPENT} while it was tuned"}, None
            failure = {"status": "timeout", "reason": str(error)}
        except WorkerDied as error:
            crew.forget()
            failure = {"status": "out_of_memory" if "out of memory" in str(error) else "error", "reason": str(error)}
        except NothingMeasured as error:
            lost = answer.get("device_lost") or str(error)
            return answer.get("row", {"status": "error", "reason": lost}), lost
        return {**failure, "wall_s": time.monotonic() - begin_s}, None

    def _compile_ahead(self, tasks: Sequence[Task], crew: Crew) -> None:
        requests = to_compile(tasks)
        gpu = crew.facts.kind in ("cuda", "rocm")
        if not gpu or not isinstance(crew, LocalCrew) or not (count := processes(len(requests), usable_cores())):
            return
        begin_s = time.monotonic()
        self.tell(f"compiling {len(requests)} kernels in {count} processes first")
        until_s = begin_s + BUDGET_SHARE * self._budget.left_s(begin_s)
        made = compile_ahead(requests, count, crew.compiler, START_TIMEOUT_S, until_s)
        self.tell(f"compiled {made} of them in {time.monotonic() - begin_s:.0f} s")
