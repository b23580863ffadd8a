"""`ray job submit --working-dir . -- rayft train jobs/quickstart.yaml`, and what can befall it."""

import hashlib
import importlib.util
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient
from ray.util.state import list_actors, list_placement_groups

from tests.clusters.cluster import RAY, RAYFT, ROOT, Cluster, started_cluster

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        importlib.util.find_spec("sklearn") is None, reason="pip install -e '.[demo]' brings it"
    ),
]

ROWS = '''
"""A module that only the job's working directory has."""

from itertools import islice

from rayft.data.digits import rows


def few():
    return islice(rows(), 500)
'''
KEPT_BY_RAY_DATA = ("_AutoscalingCoordinatorActor", "_StatsActor", "ActorLocationTracker")
"""One of each stays on a cluster, beside the first driver, for all drivers that come later."""
PHASES = "[{name: probe, train: [heads], for: 12 epochs, lr: 1e-2}]"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with started_cluster("--num-cpus=4") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def client(cluster: Cluster) -> JobSubmissionClient:
    return JobSubmissionClient(cluster.dashboard)


@pytest.fixture(scope="module")
def working_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "jobs", folder / "jobs")
    (folder / "rows.py").write_text(ROWS)
    return folder


def command(storage: Path, *more: str) -> list[str]:
    """Return the quickstart with a small network, and rows from the working directory."""
    return [
        *(RAYFT, "train", "jobs/quickstart.yaml", f"storage_path={storage}", f"phases={PHASES}"),
        *("model.backbone.name=test_efficientnet", "model.backbone.weights=none"),
        *("data.train.function=rows:few", "data.image_size=32", "precision=fp32"),
        *("scaling.resources_per_worker={CPU: 1}", "checkpoint.interval_s=0.05", *more),
    ]


@pytest.fixture(scope="module")
def submit(client: JobSubmissionClient, working_dir: Path) -> Callable[..., str]:
    """Return a function that submits a command; the variables given are the job's environment."""

    def submit(words: list[str], **variables: str) -> str:
        return client.submit_job(
            entrypoint=" ".join(f"'{word}'" for word in words),
            runtime_env={"working_dir": str(working_dir), "env_vars": variables},
        )

    return submit


def ended(client: JobSubmissionClient, job: str) -> JobDetails:
    deadline = time.monotonic() + 200
    while not (found := client.get_job_info(job)).status.is_terminal():
        assert time.monotonic() < deadline, client.get_job_logs(job)
        time.sleep(0.2)
    return found


def wait_for_steps(client: JobSubmissionClient, job: str, storage: Path, steps: int) -> None:
    journal = storage / "quickstart" / "journal.jsonl"
    deadline = time.monotonic() + 200
    while not journal.is_file() or journal.read_text().count('"progress"') < steps:
        assert not client.get_job_status(job).is_terminal(), client.get_job_logs(job)
        assert time.monotonic() < deadline
        time.sleep(0.02)


def digest(storage: Path) -> str:
    newest = sorted((storage / "quickstart" / "checkpoints").glob("step-*"))[-1]
    return hashlib.sha256((newest / "model.safetensors").read_bytes()).hexdigest()


def left_of_jobs(cluster: Cluster) -> list[Any]:
    """Return the actors, placement groups and processes of jobs that are still there."""
    options = {"address": cluster.dashboard, "timeout": 30}
    actors = list_actors(filters=[("state", "!=", "DEAD")], **options)
    actors = [one for one in actors if one.class_name not in KEPT_BY_RAY_DATA]
    groups = list_placement_groups(filters=[("state", "!=", "REMOVED")], **options)
    return [*actors, *groups, *processes_of_jobs(cluster, RAYFT, "ray::RayTrain")]


def processes_of_jobs(cluster: Cluster, *words: str) -> list[psutil.Process]:
    """Return the cluster's processes that have one of the words in their command line."""
    found = []
    for process in cluster.processes():
        with suppress(psutil.Error):
            if any(word in " ".join(process.cmdline()) for word in words):
                found.append(process)
    return found


def assert_nothing_left(cluster: Cluster) -> None:
    deadline = time.monotonic() + 30
    while left := left_of_jobs(cluster):
        assert time.monotonic() < deadline, left
        time.sleep(0.3)


@pytest.fixture(scope="module")
def whole(cluster: Cluster, working_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Submit the whole run as a user does; give where it lies and what was printed."""
    storage = tmp_path_factory.mktemp("whole")
    words = [RAY, "job", "submit", "--address", cluster.dashboard, "--working-dir", "."]
    found = cluster.run(*words, "--", *command(storage), cwd=working_dir, timeout=200)
    return storage, found


def test_a_submitted_run_succeeds_and_its_log_is_plain_lines(
    whole: Any, client: JobSubmissionClient
) -> None:
    storage, found = whole

    (job,) = [job for job in client.list_jobs() if str(storage) in job.entrypoint]
    log = client.get_job_logs(job.submission_id)
    lines = log.splitlines()
    assert found.returncode == 0, found.stdout
    assert job.status == JobStatus.SUCCEEDED
    assert not [letter for letter in log if not letter.isprintable() and letter not in "\n\t"]
    assert "starting workers ..." in lines
    assert [line for line in lines if line.startswith("probe epoch 12/12 done  train/loss ")]
    assert f"next: rayft evaluate {storage}/quickstart" in lines
    assert "Traceback" not in log


def test_a_bad_spec_fails_with_its_message_in_the_log(
    client: JobSubmissionClient, submit: Callable[..., str], tmp_path: Path
) -> None:
    job = submit(command(tmp_path, "global_batch_size=0"))

    found = ended(client, job)

    assert found.status == JobStatus.FAILED
    assert found.driver_exit_code == 2
    assert "error: " in client.get_job_logs(job)
    assert "global_batch_size" in found.message
    assert not list(tmp_path.iterdir())


def test_a_stopped_run_saves_leaves_nothing_and_goes_on_to_the_same_bits(
    whole: Any,
    cluster: Cluster,
    client: JobSubmissionClient,
    submit: Callable[..., str],
    tmp_path: Path,
) -> None:
    # The last two are also what rayft would set for its workers.
    variables = {
        "RAY_JOB_STOP_WAIT_TIME_S": "60",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
        "MALLOC_ARENA_MAX": "2",
    }
    first = submit(command(tmp_path), **variables)
    wait_for_steps(client, first, tmp_path, 20)
    workers = processes_of_jobs(cluster, "ray::RayTrainWorker")
    for worker in workers:
        worker.suspend()
    second = ended(client, submit(command(tmp_path), **variables))
    for worker in workers:
        worker.resume()
    client.stop_job(first)
    stopped = ended(client, first)
    log = client.get_job_logs(first)

    assert len(workers) == 2
    assert second.driver_exit_code == 2
    assert "the run is being trained by process" in second.message
    assert stopped.status == JobStatus.STOPPED
    assert "stopped as asked; the position is saved" in log
    # Nothing comes after it: no stack, and no crash on the way out.
    assert log.rstrip().endswith("fix: run the same command again to go on")
    assert "Traceback" not in log
    assert_nothing_left(cluster)
    assert ended(client, submit(command(tmp_path), **variables)).status == JobStatus.SUCCEEDED
    events = [json.loads(line) for line in (tmp_path / "quickstart/journal.jsonl").open()]
    (resumed,) = [event for event in events if event["kind"] == "resumed"]
    progress = [event for event in events if event["attempt"] == 1 and "steps_done" in event]
    assert resumed["steps_done"] >= progress[-1]["steps_done"]
    assert digest(tmp_path) == digest(whole[0])


def test_a_run_that_is_killed_at_once_leaves_nothing_behind(
    cluster: Cluster, client: JobSubmissionClient, submit: Callable[..., str], tmp_path: Path
) -> None:
    job = submit(command(tmp_path), RAY_JOB_STOP_WAIT_TIME_S="0")
    wait_for_steps(client, job, tmp_path, 2)

    client.stop_job(job)

    assert ended(client, job).status == JobStatus.STOPPED
    assert_nothing_left(cluster)


@pytest.mark.timeout(400)
def test_a_sweep_that_is_killed_leaves_nothing_and_goes_on_with_another_submit(
    cluster: Cluster,
    client: JobSubmissionClient,
    submit: Callable[..., str],
    working_dir: Path,
    tmp_path: Path,
) -> None:
    (working_dir / "sweep.yaml").write_text(
        "name: sweep\nrun: jobs/quickstart.yaml\n"
        "space: {phases.0.lr: 'choice([1e-2, 1e-3])'}\nsearch: {kind: grid}\nfuse: off\n"
    )
    (_, train, _, _, *settings) = command(tmp_path)
    assert train == "train"
    one = (*settings, "scaling.num_workers=1", "phases.0.for=60 epochs")
    words = [RAYFT, "tune", "sweep.yaml", f"storage_path={tmp_path}", *(f"run.{w}" for w in one)]
    killed = submit(words, RAY_JOB_STOP_WAIT_TIME_S="0")
    journal = tmp_path / "sweep" / "sweep.jsonl"
    deadline = time.monotonic() + 200
    while not journal.is_file() or journal.read_text().count('"reported"') < 3:
        assert not client.get_job_status(killed).is_terminal(), client.get_job_logs(killed)
        assert time.monotonic() < deadline
        time.sleep(0.02)

    client.stop_job(killed)

    assert ended(client, killed).status == JobStatus.STOPPED
    assert_nothing_left(cluster)
    again = submit(words)
    assert ended(client, again).status == JobStatus.SUCCEEDED, client.get_job_logs(again)
    result = json.loads((tmp_path / "sweep" / "result.json").read_bytes())
    assert [trial["status"] for trial in result["trials"]] == ["finished"] * 2
    assert_nothing_left(cluster)
