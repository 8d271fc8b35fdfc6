"""`generate job`: what it writes works as it stands, and nothing that is there is touched."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.acceptance(37, 38)


def python(folder: Path, *arguments: str, url: str = "redis://127.0.0.1:1/0") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "AIOJOBS_RT_REDIS_URL": url}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=50, check=False)


def generate(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return python(folder, "aiojobs_rt", "generate", "job", *arguments)


@pytest.mark.parametrize(
    "name", ["process_image_data", "process_image_data_job", "ProcessImageData", "ProcessImageDataJob"]
)
def test_a_name_may_be_written_in_any_way(tmp_path: Path, name: str) -> None:
    done = generate(tmp_path, name)

    assert done.returncode == 0, done.stderr
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.py"))
    assert files == ["jobs/__init__.py", "jobs/process_image_data_job.py", "tests/test_process_image_data_job.py"]
    assert "class ProcessImageDataJob(Job):" in (tmp_path / files[1]).read_text()


def test_the_generated_test_passes_and_a_worker_finds_the_job(tmp_path: Path, redis_url: str) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "base.py").write_text(
        "from aiojobs_rt import Job\n\n\nclass ApplicationJob(Job):\n    queue = 'shop'\n"
    )

    done = generate(
        tmp_path,
        "send_HTTP2_digest",
        "--queue",
        "mailers",
        "--parent",
        "shop.base:ApplicationJob",
        "--package",
        "shop.jobs",
    )

    assert done.returncode == 0, done.stderr
    written = (tmp_path / "shop/jobs/send_http_2_digest_job.py").read_text()
    assert "class SendHttp2DigestJob(ApplicationJob):" in written
    assert 'queue = "mailers"' in written
    tested = python(tmp_path, "pytest", "-q", "-p", "no:cacheprovider", "tests")
    assert tested.returncode == 0, tested.stdout
    assert "1 passed" in tested.stdout
    enqueued = python(tmp_path, "aiojobs_rt", "enqueue", "-m", "shop.jobs", "SendHttp2DigestJob", url=redis_url)
    assert enqueued.stdout.startswith("mailers."), enqueued.stderr
    worked = python(tmp_path, "aiojobs_rt", "worker", "shop.jobs", "--burst", url=redis_url)
    assert worked.returncode == 0, worked.stderr
    assert "Send http 2 digest" in worked.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["process_images_jobs"], 2, "in the singular: process_images_job"),
        (["job"], 2, "says nothing of what the job does"),
        (["../evil"], 2, "is no name for a job"),
        (["pay", "--package", "../jobs"], 2, "is no package"),
        (["pay", "--queue", "a b"], 2, "is not a queue name"),
        (["pay", "--parent", "ApplicationJob"], 2, "write MODULE:CLASS"),
        (["pay", "--parent", "nowhere:ApplicationJob"], 1, "there is no module 'nowhere'"),
        (["pay", "--parent", "os:path"], 1, "is no job class"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_written(tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    done = generate(tmp_path, *arguments)

    assert done.returncode == code
    assert said in " ".join(done.stderr.replace("│", " ").split())
    assert list(tmp_path.rglob("*.py")) == []


def test_a_collision_is_refused(tmp_path: Path) -> None:
    assert generate(tmp_path, "pay").returncode == 0
    before = {path: path.read_text() for path in tmp_path.rglob("*.py")}

    again = generate(tmp_path, "PayJob")
    (tmp_path / "jobs/money.py").write_text("class RefundJob: ...\n")
    other = generate(tmp_path, "refund")

    assert (again.returncode, other.returncode) == (1, 1)
    assert "jobs/pay_job.py is there already; nothing was written" in again.stderr
    assert "jobs/money.py defines a class RefundJob already" in other.stderr
    assert {path: path.read_text() for path in before} == before
    assert not (tmp_path / "jobs/refund_job.py").exists()
