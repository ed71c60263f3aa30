"""Two real users on one cache, and real limits of the kernel: control groups for memory and processes. Needs root."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="another user, and control groups, take root"),
    pytest.mark.slow,
]

ROOT = Path(__file__).resolve().parents[2]
GROUPS = Path("/sys/fs/cgroup")
SOMEBODY, SOMEBODY_ELSE = 65534, 65533

USE = """
import os
import sys
import tempfile
from pathlib import Path
from munas.cache import damage_of
from hil.cache import cached_folder
from hil.errors import HilError
user, umask, content = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3].encode()
theirs = os.environ["MUNAS_HIL_CACHE"]
with tempfile.TemporaryDirectory() as warm:  # loads what is loaded when it is used
    os.environ["MUNAS_HIL_CACHE"] = warm + "/cache"
    made = cached_folder("library", "00", lambda folder: (folder / "libhil.a").write_bytes(content))
    (made / "libhil.a").read_text()
    damage_of(made)
os.environ["MUNAS_HIL_CACHE"] = theirs
os.umask(umask)
os.setgroups([])
os.setgid(user)
os.setuid(user)
try:
    made = cached_folder("library", "00", lambda folder: (folder / "libhil.a").write_bytes(content))
    print((made / "libhil.a").read_text())
except HilError as error:
    print(f"munas-hil: {error}", file=sys.stderr)
    raise SystemExit(error.exit_status)
"""


@pytest.fixture
def common() -> Iterator[Path]:
    """A folder that every user may write to, as /tmp is."""
    folder = Path(tempfile.mkdtemp(prefix="munas-hil-test-"))
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder)


def use(user: int, cache: Path, content: str, umask: int = 0o022) -> subprocess.CompletedProcess[str]:
    """The cache at `cache` used by `user`, who need not be able to read this checkout: modules are loaded before."""
    return subprocess.run(
        [sys.executable, "-c", USE, str(user), str(umask), content], cwd=ROOT, capture_output=True, text=True,
        check=False, timeout=120, env={**os.environ, "PYTHONPATH": str(ROOT), "MUNAS_HIL_CACHE": str(cache)},
    )  # fmt: skip


def test_a_cache_is_one_user_s(common: Path) -> None:
    cache = common / "cache"
    first = use(SOMEBODY, cache, "mine", umask=0)
    assert (first.returncode, first.stdout) == (0, "mine\n"), first.stderr
    assert cache.stat().st_uid == SOMEBODY
    assert {path.stat().st_mode & 0o077 for path in (cache, cache / "library")} == {0}
    for other in (SOMEBODY_ELSE, 0):
        refused = use(other, cache, "planted")
        assert refused.returncode == 3
        assert refused.stdout == ""
        assert "belongs to another user" in refused.stderr or "cannot write the cache folder" in refused.stderr
        assert "Traceback" not in refused.stderr
    assert use(SOMEBODY, cache, "again").stdout == "mine\n"


def test_a_folder_that_somebody_else_made_first_is_not_used(common: Path) -> None:
    """Who can write /tmp can make the folder, with a library in it, before its owner does."""
    cache = common / "cache"
    assert use(SOMEBODY_ELSE, cache, "planted").returncode == 0
    os.chmod(cache, 0o777)
    os.chmod(cache / "library", 0o777)
    refused = use(SOMEBODY, cache, "mine")
    assert refused.returncode == 3
    assert "belongs to another user" in refused.stderr


def test_a_folder_that_others_may_write_to_is_not_used(common: Path) -> None:
    cache = common / "cache"
    assert use(SOMEBODY, cache, "mine").returncode == 0
    os.chmod(cache / "library", 0o777)
    refused = use(SOMEBODY, cache, "mine")
    assert refused.returncode == 3
    assert "chmod go-w" in refused.stderr


@contextlib.contextmanager
def limited(kind: str, limit_file: str, limit: str) -> Iterator[Path]:
    """A control group of version 1; a process joins it by writing its id to the file that this gives."""
    group = GROUPS / kind / f"munas-hil-test-{uuid.uuid4().hex[:8]}"
    try:
        group.mkdir()
        (group / limit_file).write_text(limit)
    except OSError as error:
        with contextlib.suppress(OSError):
            group.rmdir()
        pytest.skip(f"no control group can be made here: {error.strerror}")
    try:
        yield group / "cgroup.procs"
    finally:
        group.rmdir()


def within(procs: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(procs), *words], cwd=ROOT, capture_output=True, text=True,
        check=False, timeout=200, env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


CAMPAIGN = """
import sys
from dataclasses import dataclass
from pathlib import Path
from hil.jobs.campaign import run_campaign
from hil.jobs.store import Result, Run, Store

@dataclass(frozen=True)
class Greedy:
    def __call__(self):
        return self._job

    def _job(self, sample):
        if sample == 1:
            bytes(bytearray(b"x" * (600 << 20)))
        return Result(sample, "ok", record={"done": sample})

if __name__ == "__main__":
    with Store(Path(sys.argv[1])) as store:
        run = store.run_id(Run("test", {}, 0, {}))
        summary = run_campaign(store, run, range(4), Greedy(), workers=1)
        print(summary.ok, summary.failed)
        print(*(result.error for result in store.results(run) if result.error))
"""


def test_a_memory_limit_of_a_control_group_costs_the_sample_that_needs_more(tmp_path: Path) -> None:
    """The kernel kills the worker; the campaign goes on, and says which signal it was."""
    program = tmp_path / "campaign.py"
    program.write_text(CAMPAIGN, encoding="utf-8")
    with limited("memory", "memory.limit_in_bytes", "400M") as procs:
        done = within(procs, sys.executable, str(program), str(tmp_path / "store.sqlite"))
    assert done.returncode == 0, done.stderr[-500:]
    counts, error = done.stdout.splitlines()
    assert counts == "3 1"
    assert "SIGKILL" in error


def test_a_limit_of_processes_is_a_message(tmp_path: Path) -> None:
    """`ulimit -u` does not bind root; the control group for processes does, and fails in the same way."""
    with limited("pids", "pids.max", "1") as procs:
        done = within(procs, sys.executable, "-m", "hil", "measure", str(tmp_path / "a.tflite"))
        assert "Traceback" not in done.stderr
        tools = within(procs, sys.executable, "-m", "hil", "doctor")
    assert "Traceback" not in tools.stderr
    assert tools.returncode in (1, 3), tools.stderr[-500:]
    assert tools.stderr.strip(), tools.stdout[-500:]
