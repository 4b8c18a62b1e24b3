"""The examples of runners/examples are run as they stand, on this machine and its CPU."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .launched import QUICK, Job, clean_environment, free_port, rows_of

EXAMPLES = Path(__file__).parents[2] / "runners" / "examples"
BASH = shutil.which("bash")
ON_THIS_MACHINE = "--device cpu --rounds 1 --suite {folder}/s.toml"

pytestmark = pytest.mark.skipif(BASH is None, reason="needs bash")

SRUN = """#!/bin/sh
# Two tasks on one node, with the variables that srun gives them.
shift
for task in 0 1; do
    SLURM_STEP_ID=0 SLURM_PROCID=$task SLURM_LOCALID=$task SLURM_STEP_NUM_TASKS=2 SLURM_STEP_NUM_NODES=1 \\
        SLURM_STEP_NODELIST=localhost "$@" &
done
wait
"""


@pytest.fixture
def started(tmp_path):
    pytest.importorskip("torch")
    (tmp_path / "s.toml").write_text(QUICK)
    # As after `source venv/bin/activate`.
    path = f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    jobs = []

    def go(commands, *, folder=tmp_path, **environment):
        per_command = [{name: value[index] for name, value in environment.items()} for index in range(len(commands))]
        jobs.append(Job(commands, [clean_environment(PATH=path, HOME=str(tmp_path), **more) for more in per_command], folder))
        return jobs[-1]

    yield go
    for job in jobs:
        job.kill()


def arguments(folder):
    return ON_THIS_MACHINE.format(folder=folder).split()


def statuses(folder):
    return [(row.op, row.status, row.group_size) for row in rows_of(folder)]


TWO_OK = [("all_reduce", "ok", 2), ("all_gather", "ok", 2)]


@pytest.mark.parametrize("name", ["torchrun.sh", "slurm.sbatch"])
def test_scripts_are_bash(name):
    checked = subprocess.run([BASH, "-n", str(EXAMPLES / name)], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_readme_names_every_example():
    named = set(re.findall(r"\]\((\S+)\)", (EXAMPLES / "README.md").read_text()))
    assert named == {path.name for path in EXAMPLES.iterdir()} - {"README.md"}


@pytest.mark.slow
def test_the_batch_script_runs_where_srun_starts_the_tasks(started, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "srun").write_text(SRUN)
    (tmp_path / "bin" / "srun").chmod(0o755)
    job = started([[BASH, str(EXAMPLES / "slurm.sbatch"), *arguments(tmp_path)]], SLURM_JOB_ID=["77"], MASTER_PORT=[str(free_port())])
    assert job.ends() == [0], job.output()
    (tmp_path / "chipassay-77.csv").rename(tmp_path / "out.csv")
    assert statuses(tmp_path) == TWO_OK


@pytest.mark.slow
def test_the_torchrun_script_runs_over_two_hosts_which_are_both_this_one(started, tmp_path):
    script = [BASH, str(EXAMPLES / "torchrun.sh"), "127.0.0.1", "2"]
    words = [*arguments(tmp_path), "--out", str(tmp_path / "out.csv")]
    port = str(free_port())
    job = started([[*script, "0", *words], [*script, "1", *words]], PORT=[port] * 2, RANKS_PER_HOST=["1"] * 2)
    assert job.ends() == [0, 0], job.output()
    assert statuses(tmp_path) == TWO_OK


@pytest.mark.slow
def test_the_two_shells_run_as_they_are_written(started, tmp_path):
    blocks = re.findall(r"```sh\n(.*?)```", (EXAMPLES / "two_shells.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    port = str(free_port())
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    # Nothing but the port, the device, the suite and where each shell stands is other than written.
    scripts = [
        f"cd {folder}\n" + block.replace("29500", port).replace("chipassay run", f"chipassay run {ON_THIS_MACHINE.format(folder=tmp_path)}")
        for folder, block in zip(folders, blocks, strict=True)
    ]
    job = started([[BASH, "-ec", script] for script in scripts])
    assert job.ends() == [0, 0], job.output()
    written = sorted((tmp_path / "first" / "results").glob("*.csv"))
    assert len(written) == 1
    assert not (tmp_path / "second" / "results").exists()
    written[0].rename(tmp_path / "out.csv")
    assert statuses(tmp_path) == TWO_OK[:1]


def skypilot_section(name):
    text = (EXAMPLES / "skypilot.yaml").read_text()
    block = re.search(rf"^{name}: \|\n((?:  .*\n?)+)", text, re.MULTILINE)
    return re.sub(r"^  ", "", block[1], flags=re.MULTILINE)


@pytest.mark.slow
def test_the_skypilot_task_starts_itself_under_torchrun_on_each_node(started, tmp_path):
    told = {
        "SKYPILOT_NUM_NODES": ["2", "2"],
        "SKYPILOT_NODE_RANK": ["0", "1"],
        "SKYPILOT_NODE_IPS": ["127.0.0.1\n127.0.0.1"] * 2,
        "SKYPILOT_NUM_GPUS_PER_NODE": ["0", "0"],
        "ARGUMENTS": [ON_THIS_MACHINE.format(folder=tmp_path)] * 2,
        "MASTER_PORT": [str(free_port())] * 2,
    }
    job = started([[BASH, "-ec", skypilot_section("run")]] * 2, **told)
    assert job.ends() == [0, 0], job.output()
    (tmp_path / "chipassay.csv").rename(tmp_path / "out.csv")
    assert statuses(tmp_path) == TWO_OK


def test_skypilot_itself_reads_the_task():
    sky = pytest.importorskip("sky", reason="needs SkyPilot: pip install skypilot")
    task = sky.Task.from_yaml(str(EXAMPLES / "skypilot.yaml"))
    assert (task.num_nodes, task.run) == (2, skypilot_section("run"))
    assert task.setup == skypilot_section("setup")
