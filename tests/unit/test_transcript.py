"""What is kept of a serial line, and what `-v` and `--log` show of it."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from hil.errors import LinkError, UsageError
from hil.link import transcript as module
from hil.link.device import Device, Timeouts
from hil.link.transcript import Transcript
from hil.logs import configure


class DeafPort:
    """Says half a line and never answers."""

    timeout: float | None = None

    def __init__(self) -> None:
        self.said = [b"m-re", b"ady\r\nm-\x1b[2J"]

    @property
    def in_waiting(self) -> int:
        return len(self.said[0]) if self.said else 0

    def read(self, size: int = 1, /) -> bytes:
        return self.said.pop(0) if self.said else b""

    def write(self, data: bytes, /) -> int:
        return len(data)

    def close(self) -> None: ...


def test_both_directions_are_kept_line_by_line_and_escaped() -> None:
    transcript = Transcript()
    device = Device(DeafPort(), Timeouts(boot_s=0.2, command_s=0.2), transcript)
    device.wait_ready()
    with pytest.raises(LinkError):
        device.command("name")
    head, *lines = transcript.text().splitlines()
    assert head.startswith("serial line since 20")
    assert [re.sub(r"^ *\d+\.\d{6} ", "", line) for line in lines] == [
        r"< m-ready\r\n", r"< m-\x1b[2J", "> name%",
    ]  # fmt: skip


def test_the_end_is_what_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 30)
    monkeypatch.setattr(module, "MAX_FILES", 2)
    transcript = Transcript()
    for number in range(10):
        transcript.received(b"line %d....\n" % number)
    assert "line 9" in transcript.text()
    assert "line 0" not in transcript.text()
    assert "bytes before these are not kept" in transcript.text()
    for name in ("../a b", "b", "c"):
        assert transcript.save(tmp_path / "kept", name) is not None
    assert len(list((tmp_path / "kept").iterdir())) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_another_process_may_remove_old_ones_meanwhile(tmp_path: Path) -> None:
    (tmp_path / f"removed{module.SUFFIX}").symlink_to("nowhere")
    assert Transcript().save(tmp_path, "model") is not None


def test_a_log_has_what_was_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MUNAS_HIL_LOG", "MUNAS_HIL_VERBOSE"):
        monkeypatch.setenv(name, "")
    logger = logging.getLogger("hil")
    try:
        configure(0, tmp_path / "hil.log")
        Transcript().sent(b"name%")
        logging.getLogger("hil.build").info("%s", "gcc\n::error::x")
    finally:
        for handler in [*logger.handlers]:
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(logging.NOTSET)
    first, second = (tmp_path / "hil.log").read_text(encoding="utf-8").splitlines()
    assert re.fullmatch(r"20\S+ \S+ \d+ hil\.link: > name%", first)
    assert second.endswith(r"hil.build: gcc\n::error::x")


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--log .* cannot be written"):
        configure(0, tmp_path / "missing" / "hil.log")
