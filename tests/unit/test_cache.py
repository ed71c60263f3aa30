"""The cache: what is linked and run from it is what was put there, by this user."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hil.cache import cached_folder
from hil.errors import InfrastructureError
from munas import cache
from munas.cache import MANIFEST, CacheError, damage_of, entries, filled_folder
from munas.scratch import PREFIX, replacing, scratch_folder, scratch_name, sweep_scratch

CONTENT = b"an archive"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MUNAS_HIL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def forget() -> None:
    """As in the next process."""
    cache._verified.clear()


def fill(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "libhil.a").write_bytes(CONTENT)
    (folder / "sub" / "more").write_bytes(b"more")


def planted(entry: Path) -> None:
    (entry / "more.so").write_bytes(b"mine")


def linked(entry: Path) -> None:
    (entry / "libhil.a").unlink()
    (entry / "libhil.a").symlink_to("/dev/zero")


def listed_otherwise(entry: Path) -> None:
    (entry / MANIFEST).write_text("[" * 100_000)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "emptied": lambda entry: (entry / "libhil.a").write_bytes(b""),
    "one bit": lambda entry: (entry / "libhil.a").write_bytes(b"an archivf"),
    "longer": lambda entry: (entry / "libhil.a").write_bytes(CONTENT + b"\0"),
    "missing": lambda entry: (entry / "libhil.a").unlink(),
    "planted": planted,
    "a link": linked,
    "a pipe": lambda entry: os.mkfifo(entry / "pipe"),
    "no manifest": lambda entry: (entry / MANIFEST).unlink(),
    "a manifest that is none": listed_otherwise,
    "empty": lambda entry: [shutil.rmtree(entry), entry.mkdir()],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_entry_is_made_again(damage: Callable[[Path], object]) -> None:
    entry = cached_folder("library", "00", fill)
    assert cached_folder("library", "00", fill) == entry
    damage(entry)
    forget()
    assert [item.damage != "" for item in entries()] == [True]
    forget()
    assert (cached_folder("library", "00", fill) / "libhil.a").read_bytes() == CONTENT
    forget()
    assert damage_of(entry) == ""
    assert [path.name for path in entry.parent.iterdir()] == ["00"]


def test_a_sound_entry_is_not_made_again() -> None:
    cached_folder("library", "00", fill)
    forget()
    cached_folder("library", "00", lambda _: pytest.fail("made again"))


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
@pytest.mark.parametrize("part", ["", "library"])
def test_a_folder_that_others_may_write_to_is_refused(folder: Path, mode: int, part: str) -> None:
    cached_folder("library", "00", fill)
    (folder / part).chmod(mode)
    with pytest.raises(InfrastructureError, match="others may write"):
        cached_folder("library", "00", fill)


def test_a_folder_of_another_user_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached_folder("library", "00", fill)
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(InfrastructureError, match="belongs to another user"):
        cached_folder("library", "00", fill)


def test_what_is_made_is_for_the_user_alone_whatever_the_umask(folder: Path) -> None:
    before = os.umask(0)
    try:
        cached_folder("library", "00", fill)
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (folder, folder / "library")] == [0o700, 0o700]


def test_what_killed_processes_left_is_swept(folder: Path) -> None:
    cached_folder("library", "00", fill)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        left = folder / "library" / f"{scratch_name('01')}x".replace(f"~{os.getpid()}-", f"~{other.pid}-")
        left.mkdir()
    ours = folder / "library" / f"{scratch_name('02')}x"
    ours.mkdir()
    cached_folder("library", "03", fill)
    assert not left.exists()
    assert ours.exists()


def test_scratch_folders_of_killed_processes_are_swept(tmp_path: Path) -> None:
    code = (
        "import sys, time; from munas.scratch import scratch_folder\n"
        "with scratch_folder('build') as folder: print(folder, flush=True); input()"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        made = Path(process.stdout.readline().strip())
        sweep_scratch(tmp_path, PREFIX)
        assert made.is_dir()  # it lives
        process.kill()
    assert made.is_dir()
    sweep_scratch(tmp_path, PREFIX)
    assert not made.exists()


def test_another_programs_folders_are_left_alone(tmp_path: Path) -> None:
    for name in ("munas-hil-report", "x~1-1-1~", f"{PREFIX}a~999999999-1-1~"):
        (tmp_path / name).mkdir()
    sweep_scratch(tmp_path, PREFIX)
    assert len(list(tmp_path.glob("*1*"))) == 2  # another container's processes are not ours to judge


@pytest.mark.parametrize("umask", [0o077, 0o027, 0o002])
def test_what_users_get_has_the_rights_of_their_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with replacing(tmp_path / "file") as file:
            file.write(b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_file_is_replaced_or_left(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    interrupted = replacing(path)
    interrupted.__enter__().write(b"half")
    assert not interrupted.__exit__(KeyError, KeyError(), None)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_scratch_folder_is_gone_at_the_end() -> None:
    with scratch_folder("test") as made:
        assert made.is_dir()
    assert not made.exists()


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "hil", "cache", *words], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_command_shows_verifies_and_clears(folder: Path) -> None:
    entry = filled_folder(folder / "library" / "00", fill)
    assert run("--verify").returncode == 0
    (entry / "libhil.a").write_bytes(b"")
    done = run("--verify", "--json")
    assert done.returncode == 1
    (row,) = json.loads(done.stdout)["entries"]
    assert row["entry"] == "library/00"
    assert "libhil.a" in row["damage"]
    assert run("--clear").returncode == 0
    assert not entry.exists()
    assert run("--verify", "--clear").returncode == 2


def test_a_disk_that_is_full_is_an_error(folder: Path) -> None:
    def fails(target: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(CacheError, match="No space left"):
        filled_folder(folder / "library" / "00", fails)
    assert not list((folder / "library").iterdir())


@pytest.mark.slow
def test_a_planted_plugin_is_not_loaded(folder: Path) -> None:
    from hil.cycle_model.native import build_library

    library = build_library()
    sound = library.read_bytes()
    library.write_bytes(sound[:-1] + b"x")
    forget()
    assert build_library().read_bytes() == sound


def test_a_cache_below_a_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUNAS_HIL_CACHE", "/proc/none/cache")
    with pytest.raises(InfrastructureError, match="MUNAS_HIL_CACHE"):
        cached_folder("library", "00", fill)
