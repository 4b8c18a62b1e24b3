"""Suites: data in, wanted measurements out, and words for what is wrong with the data."""

from __future__ import annotations

import pytest

from chipassay.collectives.pattern import patterns
from chipassay.kernels.kernel import cases
from chipassay.results.errors import FileError, InputError, UnknownName
from chipassay.runners.collective.tasks import Job, collective_tasks
from chipassay.runners.commands.measuring import duration_s
from chipassay.runners.suites import load_suite, names, select, with_states
from chipassay.runners.tasks import kernel_questions, kernel_tasks


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
@pytest.mark.parametrize("name", names())
def test_every_case_of_every_suite_that_ships_is_valid_and_wanted_once(name, kind):
    suite = load_suite(name, kind)
    # There is one CPU: nothing to hold it against; and the tables are of GPUs.
    assert suite.wanted or (kind == "cpu" and name in ("siblings", "sustained", "tables"))
    for wanted in suite.wanted:
        if wanted.ranks is None:
            assert cases()[wanted.op](**wanted.axes).bytes >= 0
        else:
            assert wanted.op in patterns()
    keys = [repr(wanted) for wanted in suite.wanted]
    assert len(keys) == len(set(keys))


def test_a_block_is_the_product_of_its_axes(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text('[[block]]\nop = ["copy", "triad"]\ndtype = ["fp32", "fp64"]\nelements = [1, 2, 3]\n')
    assert len(load_suite(str(path), "cpu").wanted) == 12


@pytest.mark.parametrize(("native", "half"), [(None, "bf16"), ({"fp16", "bf16"}, "bf16"), ({"fp64", "fp32", "fp16"}, "fp16")])
def test_half_is_the_16_bit_dtype_that_the_chip_trains_in(tmp_path, native, half):
    path = tmp_path / "s.toml"
    path.write_text('[[block]]\nop = "copy"\ndtype = ["fp32", "half"]\nelements = [1]\n')
    assert [wanted.axes["dtype"] for wanted in load_suite(str(path), "cuda", native).wanted] == ["fp32", half]


def test_a_block_for_gpus_is_not_for_cpus(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text('[[block]]\nop = "copy"\non = "gpu"\ndtype = ["fp32"]\nelements = [1]\n')
    assert load_suite(str(path), "cpu").wanted == ()
    assert len(load_suite(str(path), "rocm").wanted) == 1


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[block]\n", "not TOML"),
        ('[[block]]\ndtype = ["fp32"]\n', "block 1: 'op'"),
        ('[[block]]\nop = "copy"\ndtype = "fp32"\n', "axis 'dtype' must be a list"),
        ('[[block]]\nop = "copy"\ndtype = []\n', "axis 'dtype' must be a list that is not empty"),
        ('[block]\nop = "copy"\n', r"write \[\[block\]\]"),
        ('[[block]]\nop = "copy"\ncache = "warm"\n', "cache is 'warm'; write a list"),
        ('[[block]]\nop = "copy"\ncache = ["hot"]\n', "write a list of cold and warm"),
        ('[[block]]\nop = "all_reduce"\nranks = "all"\ndtype = ["int4"]\n', "a collective takes fp64, fp32, fp16, bf16"),
        ('[[block]]\nop = "all_reduce"\nranks = 1\n', "ranks is 1; write all, pairs, or how many"),
        ('[[block]]\nop = "all_reduce"\nranks = "some"\n', "ranks is 'some'; write all, pairs"),
        ('[[block]]\nop = "all_reduce"\nranks = 2\nplacement = "near"\n', "placement is 'near'; write inside or across"),
        ('[[block]]\nop = "all_reduce"\nranks = 2\nin_place = 1\n', "in_place is 1; write true, false"),
        ('[[block]]\nop = "all_reduce"\nranks = 2\nbeside = "matmul"\n', "beside is 'matmul'; write {mnk"),
        ('[[block]]\nop = "copy"\nlaunch = "graph"\n', "launch is 'graph'; write a list"),
        ('[[block]]\nop = "copy"\nlaunch = ["call"]\n', "write a list of stream and graph"),
        ('min_time_s = "x"\n', "min_time_s is 'x'; write a number of seconds"),
        ("time_cap_s = -1\n", "time_cap_s is -1; write a number of seconds"),
    ],
)
def test_a_broken_suite_is_told_by_block(tmp_path, text, complaint):
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(FileError, match=complaint):
        load_suite(str(tmp_path / "s.toml"), "cpu")


def test_a_missing_suite_file_is_told():
    with pytest.raises(FileError, match="cannot be read"):
        load_suite("nowhere.toml", "cpu")


def test_only_keeps_the_named_operations():
    suite = select(load_suite("quick", "cpu"), ["copy"], ["copy"])
    assert {wanted.op for wanted in suite.wanted} == {"copy"}
    with pytest.raises(UnknownName, match="did you mean copy"):
        select(suite, ["coppy"], ["copy"])
    with pytest.raises(InputError, match="has no triad"):
        select(suite, ["triad"], ["triad"])


def test_asking_for_a_cache_state_measures_each_case_once():
    suite = load_suite("quick", "cpu")
    warm = with_states(suite, caches=["warm"])
    assert {wanted.cache for wanted in warm.wanted} == {"warm"}
    assert len(warm.wanted) == len({(w.op, tuple(w.axes.items()), w.backends) for w in suite.wanted})
    assert with_states(suite) == suite


def test_a_block_may_want_stream_and_graph_launch(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text('[[block]]\nop = "copy"\ndtype = ["fp32"]\nelements = [1, 2]\nlaunch = ["stream", "graph"]\n')
    assert [(w.axes["elements"], w.launch) for w in load_suite(str(path), "cuda").wanted] == [
        (1, "stream"),
        (1, "graph"),
        (2, "stream"),
        (2, "graph"),
    ]


def test_asking_for_a_way_to_launch_holds_for_all_but_what_runs_beside_something():
    suite = load_suite("standard", "cuda")
    both = with_states(suite, launches=["stream", "graph"])
    for collective in (False, True):
        assert {w.launch for w in both.wanted if (w.ranks is not None) is collective and w.beside is None} == {"stream", "graph"}
    beside = [w for w in both.wanted if w.beside is not None]
    assert beside == [w for w in suite.wanted if w.beside is not None]
    assert beside


def test_the_tasks_of_a_graph_are_rows_of_their_own():
    suite = with_states(load_suite("quick", "cuda"), launches=["stream", "graph"])
    questions = kernel_questions(suite, ["torch"])
    answers = [{"kernels": [("k", None)], "columns": {"op": q["op"], **q["case"]}, "launch": q["launch"]} for q in questions]
    tasks = kernel_tasks(suite, questions, answers)
    assert len({task.key for task in tasks}) == len(tasks)
    assert {task.request["launch"] for task in tasks} == {"stream", "graph"}
    assert {task.title.endswith(" graph") for task in tasks if task.columns["launch"] == "graph"} == {True}


def test_a_collective_on_one_gpu_says_why_it_is_not_measured():
    tasks = collective_tasks(load_suite("quick", "cuda"), Job("cuda", (0,)))
    assert tasks
    assert all(task.reason == "one rank only: a collective needs at least 2" for task in tasks)


def test_a_collective_on_a_device_without_a_transport_says_so():
    tasks = collective_tasks(load_suite("quick", "xpu"), Job("xpu", (0,) * 8))
    assert {task.reason for task in tasks} == {"collectives over xpu devices are not measured yet"}


def test_a_collective_on_a_cpu_takes_two_ranks():
    tasks = collective_tasks(load_suite("quick", "cpu"), Job("cpu", (0, 0)))
    assert {(task.ranks, task.reason, task.columns["backend"]) for task in tasks} == {(2, None, "gloo")}


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200)])
def test_durations_are_read(text, seconds):
    assert duration_s(text) == seconds
