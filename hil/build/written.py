"""Networks whose object file is written rather than compiled, for as long as that makes no difference.

For each toolchain and library, the first network is built both ways, and the long way is taken for good when the two
images differ (another compiler may order what it writes otherwise). After that one network in `CHECK_EVERY` is built
both ways, and a difference is an error.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from hil.build.image import Image, compile_model, link_objects
from hil.build.layouts import Layouts
from hil.build.linker import DirectLinker
from hil.build.sources import Library, Project
from hil.build.toolchain import Toolchain
from hil.cache import cached_folder, digest
from hil.errors import BuildError, ImagesDiffer
from munas.scratch import scratch_folder

CHECK_EVERY = 50
_VERDICT, _SAME = "verdict", "same"

_log = logging.getLogger("hil.build")


class WrittenObjects:
    """Writes the objects of projects that are linked with one library, and links them by `linker`."""

    def __init__(self, library: Library, archive: Path, toolchain: Toolchain, check_every: int = CHECK_EVERY) -> None:
        self._archive, self._toolchain, self._check_every = archive, toolchain, check_every
        self.linker = DirectLinker(toolchain)
        self._layouts = Layouts(library, toolchain)
        # Our own code decides what is written, too: a verdict on another version of it is none.
        self._key = digest([toolchain.version, library.digest(), *_own_sources()])
        self._is_trusted: bool | None = None
        self._written = 0

    def object_of(self, project: Project) -> Path | None:
        """The project's model.o, in its folder; None where it has to be compiled. Raises BuildError, BudgetError."""
        if project.network is None:
            return None
        if self._is_trusted is None:
            self._is_trusted = self._judged(project)
        return self._write(project) if self._is_trusted else None

    def check(self, project: Project, image: Image) -> None:
        """Build the first of each `check_every` networks the long way, too. Raises ImagesDiffer for another image."""
        self._written += 1
        if (self._written - 1) % self._check_every:
            return
        with scratch_folder("long-way") as folder:
            long_way = self._linked(project, compile_model(project, self._toolchain), folder, None)
        if long_way != image.sha256:
            raise ImagesDiffer(
                f"BUG: build {project.build_id} is the image {image.sha256} as we lay it out, and {long_way} as the "
                "compiler does; report this, and use --fresh meanwhile"
            )

    def _write(self, project: Project) -> Path:
        assert project.network is not None
        path = project.folder / "model.o"
        try:
            path.write_bytes(project.network(self._layouts))
        except (ValueError, OverflowError) as error:
            raise BuildError(f"BUG: a table cannot be laid out: {error}; report this") from error
        return path

    def _judged(self, project: Project) -> bool:
        """Whether written objects may be used: from the cache, or tried with this project."""

        def fill(verdict: Path) -> None:
            with scratch_folder("long-way") as folder:
                written = self._linked(project, self._write(project), folder, self.linker)
                compiled = self._linked(project, compile_model(project, self._toolchain), folder, None)
            (verdict / _VERDICT).write_text(_SAME if written == compiled else f"{written} {compiled}", encoding="ascii")

        verdict = (cached_folder("written", self._key, fill) / _VERDICT).read_text(encoding="ascii")
        if verdict != _SAME:
            _log.info("objects are compiled: those that we write make other images (%s)", verdict)
        return verdict == _SAME

    def _linked(self, project: Project, model_object: Path, folder: Path, direct: DirectLinker | None) -> str:
        """SHA-256 of the image with `model_object`."""
        elf = folder / "firmware.elf"
        link_objects(project, [model_object], project.folder, self._archive, self._toolchain, elf, direct)
        return hashlib.sha256(elf.read_bytes()).hexdigest()


def _own_sources() -> list[bytes]:
    package = Path(__file__).parent
    names = (
        package / "layouts.py",
        package / "object_file.py",
        package / "linker.py",
        package.parent / "codegen" / "network_object.py",
    )
    return [path.read_bytes() for path in names]
