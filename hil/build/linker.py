"""The linker without the compiler's driver around it, which only looks up what its command line stands for.

The driver (gcc, then collect2 with its plugin for link-time optimisation) takes a third of a link's time. It is asked
once, for the first link of a kind, what it would run; other links differ from that one by names of files alone.
"""

from __future__ import annotations

import functools
import logging
import os
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hil.build.toolchain import Toolchain
from hil.compilers import compiler_environment

_log = logging.getLogger("hil.build")

_TIMEOUT_S = 60.0
_DRIVER = "collect2"
_OF_THE_PLUGIN = "-plugin-opt="


@dataclass(slots=True)
class DirectLinker:
    """Command lines of one toolchain's linker."""

    toolchain: Toolchain
    _known: dict[tuple[str, ...], tuple[str, ...] | None] = field(default_factory=dict)

    def command(self, words: Sequence[str | Path], own: Sequence[str | Path]) -> list[str]:
        """What does the same as the driver's command line `words`; `own` are those of its words (whole, or behind -L)
        that only this link has. `words` themselves where the driver does not say what it would run."""
        given, names = [str(word) for word in words], [str(name) for name in own]
        places = {form: mark for number, name in enumerate(names) for form, mark in _marks(name, number)}
        key = tuple(places.get(word, word) for word in given)
        if key not in self._known:
            found = self._asked(given)
            self._known[key] = None if found is None else _marked(found, places, key)
        known = self._known[key]
        if known is None:
            return given
        forms = {mark: form for form, mark in places.items()}
        return [forms.get(word, word) for word in known]

    def _asked(self, words: Sequence[str]) -> list[str] | None:
        """The linker's command line, by the driver; None where it cannot be told from what the driver says."""
        try:
            said = _said([*words, "-###"])
            lines = [_split(line) for line in said.splitlines() if _DRIVER in line]
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            _log.info("links go through the compiler's driver: %s", error)
            return None
        found = [line for line in lines if line and Path(line[0]).name == _DRIVER]
        linker = _linker(str(self.toolchain.gcc), os.environ.get("PATH", ""))
        if len(found) != 1 or linker is None:
            _log.info("links go through the compiler's driver, which does not say what it runs")
            return None
        return [linker, *_without_plugin(found[0][1:])]


def _split(line: str) -> list[str]:
    """The words of a command line as the driver writes it: it escapes dollars, too, which `shlex` keeps as they are.

    Raises ValueError for quotes without an end.
    """
    return shlex.split(line.replace(r"\$", "$"))


def _marks(name: str, number: int) -> tuple[tuple[str, str], tuple[str, str]]:
    """The forms in which a name stands on a command line, and what stands for each meanwhile: no argument has it."""
    return (name, f"\0{number}"), (f"-L{name}", f"\0L{number}")


def _marked(words: Sequence[str], places: dict[str, str], key: Sequence[str]) -> tuple[str, ...] | None:
    """`words` with the marks of `key`; None when one is missing, or a name is part of another word: where no mark is
    seen, the next link would get the files of this one."""
    marked = tuple(places.get(word, word) for word in words)
    names = [form for form, mark in places.items() if "L" not in mark]
    missing = set(places.values()).intersection(key).difference(marked)
    return None if missing or any(name in word for word in marked for name in names) else marked


def _without_plugin(words: Sequence[str]) -> list[str]:
    """Nothing of ours is compiled for link-time optimisation."""
    kept, is_value = list[str](), False
    for word in words:
        if word == "-plugin":
            is_value = True
        elif is_value:
            is_value = False
        elif not word.startswith(_OF_THE_PLUGIN):
            kept.append(word)
    return kept


@functools.lru_cache(maxsize=8)
def _linker(gcc: str, path: str) -> str | None:
    """The program that the driver calls, which looks for it in `path`, too."""
    del path
    try:
        found = Path(_said([gcc, "-print-prog-name=ld"]).strip())
    except (OSError, subprocess.SubprocessError):
        return None
    return str(found) if found.is_absolute() and os.access(found, os.X_OK) else None


def _said(words: Sequence[str]) -> str:
    """Everything that a program says. Raises OSError, SubprocessError, also when it fails."""
    done = subprocess.run(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=_TIMEOUT_S,
        stdin=subprocess.DEVNULL, env=compiler_environment(), check=True,
    )  # fmt: skip
    return done.stdout
