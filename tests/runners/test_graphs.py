"""Graph rows against a stand-in for torch's graphs: what is captured is replayed, and a graph of nothing is found out."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest

from chipassay.kernels.kernel import Kernel, cases, kernels
from chipassay.runners import measure_kernel
from chipassay.runners.devices import graphs
from chipassay.runners.devices.discover import Device
from chipassay.runners.devices.facts import DeviceFacts
from chipassay.runners.devices.graphs import CaptureFailed, captured
from chipassay.runners.measure_kernel import KernelMeasurer

from .fakes import FakeChip, steady

FACTS = DeviceFacts("cuda", "X", "x", 1, 10**9, 1000, "d", native_dtypes=frozenset({"fp32"}))


class Gpu:
    """Runs what is issued at once, or keeps it while a graph is being captured. Ending a capture that something forbidden has broken fails
    too, and then the capture's stream stays the current one, as in torch.cuda.graph.
    """

    def __init__(self):
        self.graph = None
        self.current = self.default = SimpleNamespace(wait_stream=lambda other: None)

    def set_stream(self, stream):
        self.current = stream

    def issue(self, work):
        (work() if self.graph is None else self.graph.append(work))

    def synchronize(self):
        if self.graph is not None:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore lines")

    @contextlib.contextmanager
    def capture(self, graph, capture_error_mode):
        self.graph, self.current = graph, SimpleNamespace()
        try:
            yield
        except RuntimeError as error:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture") from error
        finally:
            self.graph = None
        self.current = self.default


class Graph(list):
    def replay(self):
        for work in self:
            work()


@pytest.fixture
def gpu(monkeypatch):
    torch = pytest.importorskip("torch")
    made = Gpu()
    for name, value in {
        "Stream": lambda: SimpleNamespace(wait_stream=lambda other: None),
        "current_stream": lambda: made.current,
        "set_stream": made.set_stream,
        "stream": lambda _: contextlib.nullcontext(),
        "CUDAGraph": Graph,
        "graph": made.capture,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    return made


@pytest.fixture
def measure(monkeypatch, gpu):
    def go(prepare, op="copy", launch="graph", chip=None, case=None):
        kernel = Kernel(op=op, backend="torch", name="test", prepare=prepare, refuses=lambda case, target: None)
        monkeypatch.setattr(measure_kernel, "kernels", lambda op, backend=None: [kernel])
        monkeypatch.setattr(measure_kernel, "why_not", lambda backend, target: None)
        monkeypatch.setattr(measure_kernel, "free_bytes", lambda facts: None)
        measurer = KernelMeasurer(Device(FACTS, chip or FakeChip(steady(1e-3)), "cpu"))
        wish = {"cache": "cold", "launch": launch, "seed": 1, "min_time_s": 0.01, "time_cap_s": 1.0}
        return measurer.measure(op=op, case=case or {"elements": 8, "dtype": "fp32"}, backend="torch", kernel="test", **wish)

    return go


def test_a_replay_does_what_was_captured(gpu, measure):
    issued = []

    def prepare(case, arrays, inputs, output):
        def call():
            gpu.issue(lambda: (issued.append("copy"), output.copy_(inputs[0])))
            return output

        return call

    row = measure(prepare)
    assert (row["status"], row["launch"], row["error"]) == ("ok", "graph", 0.0)
    # Warm-ups issued by themselves, then one for each replay: the check, warm-up, samples.
    assert len(issued) == graphs.WARMUPS + 1 + row["warmup_count"] + row["sample_count"]


def test_a_call_that_issues_nothing_to_the_graph_is_incorrect(measure):
    def prepare(case, arrays, inputs, output):
        def call():
            output.copy_(inputs[0])  # by the host, or on a stream that is not captured
            return output

        return call

    row = measure(prepare)
    assert row["status"] == "incorrect"
    assert "time_median_s" not in row


@pytest.mark.parametrize(("issued", "status"), [(True, "ok"), (False, "incorrect")])
def test_a_step_made_in_place_is_replayed_from_its_first_state(gpu, measure, issued, status):
    (kernel, *_) = [k for k in kernels("adam", "torch") if k.refuses(cases()["adam"](elements=8, dtype="fp32"), FACTS.target) is None]

    def prepare(case, arrays, inputs, output):
        step = kernel.prepare(case, arrays, inputs, output)

        def call():
            if issued:
                gpu.issue(step)
            else:
                step()
            return output

        return call

    assert measure(prepare, op="adam")["status"] == status


def test_memory_that_the_capture_allocated_is_spoilt_too(measure):
    def prepare(case, arrays, inputs, output):
        return lambda: inputs[0].clone()

    assert measure(prepare)["status"] == "incorrect"


def test_a_call_that_cannot_be_captured_is_skipped_with_the_librarys_words(gpu, measure):
    def prepare(case, arrays, inputs, output):
        def call():
            output.copy_(inputs[0])
            gpu.synchronize()
            return output

        return call

    row = measure(prepare)
    assert row["status"] == "skipped"
    assert row["reason"] == ("the call cannot be captured as a graph: CUDA error: operation failed due to a previous error during capture")
    # What follows runs on the stream that was current before, where CuPy's kernels and the events of the timer are too.
    assert gpu.current is gpu.default
    assert measure(prepare, launch="stream")["status"] == "ok"


@pytest.mark.parametrize(
    ("error", "status"), [(RuntimeError("CUDA error: an illegal memory access"), "error"), (MemoryError("no room"), "out_of_memory")]
)
def test_a_call_that_fails_before_the_capture_is_broken_and_not_skipped(measure, error, status):
    def prepare(case, arrays, inputs, output):
        def call():
            raise error

        return call

    assert measure(prepare)["status"] == status


def test_what_a_captured_call_owns_lives_as_long_as_its_graph(gpu):
    import gc
    import weakref

    torch = pytest.importorskip("torch")

    def prepare():
        workspace = torch.ones(4)
        return (lambda: (gpu.issue(lambda: None), workspace)[1:0]), weakref.ref(workspace)

    call, workspace = prepare()
    replay = captured(call, "torch")
    del call
    gc.collect()
    assert workspace() is not None
    del replay
    gc.collect()
    assert workspace() is None


@pytest.mark.parametrize(("launch", "held"), [("graph", True), ("stream", False)])
def test_a_chain_of_launches_is_queued_ahead_as_a_graph_only(gpu, measure, launch, held):
    def prepare(case, arrays, inputs, output):
        def call():
            gpu.issue(lambda: output.copy_(arrays.xp.arange(len(output))))
            return output

        return call

    chip = FakeChip(steady(1e-3))
    assert measure(prepare, op="launch", launch=launch, chip=chip, case={"dtype": "fp32"})["status"] == "ok"
    assert ("call" in chip.log, "call unheld" in chip.log) == (held, not held)


def test_the_tuned_choice_of_a_captured_call_is_kept(gpu):
    def call():
        return ()

    call.config = "BLOCK=4"
    assert captured(call, "torch").config == "BLOCK=4"


def test_outputs_of_another_shape_and_several_of_them_are_spoilt():
    torch = pytest.importorskip("torch")
    outputs = torch.ones(3), torch.ones(2, dtype=torch.int8)
    graphs.Replay(lambda: None, outputs, None).spoil((torch.full((3,), 7.0), torch.zeros(0, dtype=torch.int8)))
    assert [out.tolist() for out in outputs] == [[7.0] * 3, [0, 0]]


@pytest.mark.parametrize("kind", ["cpu", "xpu", "mps"])
def test_devices_without_graphs_say_so_before_anything_runs(kind, monkeypatch):
    facts = DeviceFacts(kind, "X", "x", 1, 10**9, 1000, "d")
    measurer = KernelMeasurer(Device(facts, FakeChip(steady(1e-3)), "cpu"))
    monkeypatch.setattr(measure_kernel, "why_not", lambda backend, target: None)
    found = measurer.runnable(op="copy", case={"elements": 8, "dtype": "fp32"}, backend="torch", cache="cold", launch="graph")
    ((_, reason),) = found["kernels"]
    assert (found["launch"], reason) == ("graph", graphs.refuses_graph(kind, "torch"))
    assert "graphs are captured on CUDA and ROCm" in reason


def test_the_row_of_a_missing_graph_names_a_kernel_that_could_do_the_case(monkeypatch):
    def no_int8(case, target):
        return "int8 only"

    found = [Kernel("copy", "torch", name, lambda *_: None, refuses) for name, refuses in (("a", no_int8), ("b", lambda *_: None))]
    monkeypatch.setattr(measure_kernel, "kernels", lambda op, backend: found)
    monkeypatch.setattr(measure_kernel, "why_not", lambda backend, target: None)
    measurer = KernelMeasurer(Device(DeviceFacts("cpu", "X", "x", 1, 1, 1000, "d"), FakeChip(steady(1e-3)), "cpu"))
    case = {"elements": 8, "dtype": "fp32"}
    ((name, _),) = measurer.runnable(op="copy", case=case, backend="torch", cache="cold", launch="graph")["kernels"]
    assert name == "b"
    assert measurer.runnable(op="copy", case=case, backend="torch", cache="cold")["kernels"] == [("b", None)]


def test_a_capture_by_cupy_is_ended_even_when_the_call_fails(monkeypatch):
    import sys

    ended = []

    class Side:
        def __init__(self, non_blocking):
            self.calls = 0

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def synchronize(self):
            pass

        def begin_capture(self):
            self.capturing = True

        def end_capture(self):
            ended.append(True)
            return SimpleNamespace(launch=lambda: None)

    cuda = SimpleNamespace(Device=lambda: SimpleNamespace(synchronize=lambda: None), Stream=Side)
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=cuda))
    calls = iter(range(100))

    def fails_in_capture():
        if next(calls) == graphs.WARMUPS:
            raise RuntimeError("cudaErrorStreamCaptureUnsupported")

    with pytest.raises(CaptureFailed, match="cudaErrorStreamCaptureUnsupported"):
        captured(fails_in_capture, "cupy")
    assert ended == [True]
