"""The firmware of bring-up: runtime and port as they are shipped, and a model that does what it is told."""

from __future__ import annotations

from pathlib import Path

from hil.boards.board import Board, Via
from hil.build.image import Image, build_library, compile_model, link
from hil.build.sources import find_cmsis, library
from hil.build.toolchain import Toolchain
from hil.codegen.render import Options, board_texts, write_project
from hil.errors import InfrastructureError
from hil.resources import firmware_dir


def build_bring_up(board: Board, via: Via, toolchain: Toolchain, folder: Path) -> Image:
    """The linked image, in `folder`. Raises ToolMissing, BuildError, BoardError, InfrastructureError."""
    options = Options(compiler=toolchain.version)
    linked = library(board, board.target(via), find_cmsis())
    try:
        model = (firmware_dir() / "bring_up" / "model.c").read_text(encoding="ascii")
        project = write_project(folder, {"model.c": model, **board_texts(board, via, options)}, linked, options)
    except OSError as error:
        raise InfrastructureError(f"cannot write the project into {folder}: {error.strerror or error}") from error
    return link(project, compile_model(project, toolchain), build_library(linked, toolchain), toolchain)
