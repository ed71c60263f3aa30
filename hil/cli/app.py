"""What all commands share: the application, options, the board of the options, output."""

from __future__ import annotations

import errno
import functools
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from hil.boards.board import Board, Via, load_board
from hil.boards.linked import linked, parse_link
from hil.boards.sizes import typed_size_bytes
from hil.errors import HilError, InfrastructureError, UsageError
from hil.logs import configure
from hil.measure.options import CLUSTER_HELP, DEVICE_HELP
from hil.terminal import SafeConsole, printable
from hil.version import VERSION

if TYPE_CHECKING:
    from hil.api.harness import Harness
    from hil.targets.place import Place
    from munas.cost.optimise import GivenUp


VerboseOption = Annotated[
    int, typer.Option("--verbose", "-v", count=True, help="Show what is run; twice: the serial line as well.")
]
LogOption = Annotated[
    Path | None, typer.Option("--log", metavar="FILE", help="Write what is run, and the serial line, into FILE.")
]

Command = TypeVar("Command", bound=Callable[..., Any])


class App(typer.Typer):
    """Commands that all take ``-v`` and ``--log``."""

    def command(self, *args: Any, **kwargs: Any) -> Callable[[Command], Command]:
        """See typer."""
        register = super().command(*args, **kwargs)

        def decorate(function: Command) -> Command:
            register(_logged(function))
            return function

        return decorate


def _logged(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with two more options, which are dealt with before it runs."""

    @functools.wraps(function)
    def run(*args: Any, verbose: int, log: Path | None, **kwargs: Any) -> Any:
        if verbose or log is not None:
            configure(verbose, log)
        return function(*args, **kwargs)

    signature = inspect.signature(function, eval_str=True)
    more = [
        inspect.Parameter("verbose", inspect.Parameter.KEYWORD_ONLY, default=0, annotation=VerboseOption),
        inspect.Parameter("log", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=LogOption),
    ]
    parameters = [*signature.parameters.values(), *more]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {item.name: item.annotation for item in parameters}
    return run


app = App(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Measure neural networks on (emulated) microcontrollers and calibrate µNAS's estimators with it.",
)


def show_help_alone(context: typer.Context) -> None:
    """Where no command follows the program or a group: its help, as standard error's, and status 2."""
    if context.invoked_subcommand is None:
        sys.stderr.write(f"{context.get_help()}\n")
        raise typer.Exit(UsageError.exit_status)


def _show_version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"munas-hil {VERSION}\n")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _options_of_all(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    show_help_alone(context)


LOG_COLUMNS = 160  # of a table in a log, which nobody can widen


def _console() -> SafeConsole:
    """Standard error."""
    is_log = sys.stderr is None or not sys.stderr.isatty()
    return SafeConsole(width=LOG_COLUMNS if is_log and "COLUMNS" not in os.environ else None)


console = _console()

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
BoardOption = Annotated[str, typer.Option("--board", "-b", help="Board name, or a board's .toml file.")]
ViaOption = Annotated[str, typer.Option("--backend", "--via", help="Where to run: auto, hardware, renode or qemu.")]
DeviceOption = Annotated[str | None, typer.Option("--device", metavar="ID", help=DEVICE_HELP)]
ClusterOption = Annotated[str | None, typer.Option("--cluster", help=CLUSTER_HELP)]
RuntimeOption = Annotated[str, typer.Option("--runtime", help="What executes the network: cmsis-nn or tflm.")]
FlashOption = Annotated[str | None, typer.Option("--flash", help="Flash budget, e.g. 64K or 1M.")]
SramOption = Annotated[str | None, typer.Option("--sram", help="SRAM budget, e.g. 64K or 1M.")]
TimerOption = Annotated[
    str | None, typer.Option("--timer", help="modelled-cycles (via qemu); default: the place's own timer.")
]
OptimiseOption = Annotated[
    str | None, typer.Option("--optimise", help="speed, balanced (default) or size: which kernels networks get.")
]
LinkOption = Annotated[str, typer.Option("--link", help="uart, or rtt: no UART, through the debugger's access to RAM.")]
ProfileOption = Annotated[
    str | None, typer.Option("--profile", metavar="ID", help="MLPerf model id of the firmware, e.g. kws01, ad01, ic01.")
]
ModelsArgument = Annotated[list[Path], typer.Argument(metavar="MODEL...", help="int8 .tflite files.")]

DEFAULT_RUNTIME = "cmsis-nn"


def chosen_board(
    name: str, flash: str | None = None, sram: str | None = None, link: str = "uart", optimise: str | None = None,
    runtime: str = "",
) -> Board:  # fmt: skip
    """The board with the budget, the link and the kernels of the options, and with the usual budget of the `runtime`
    where none is given. Raises BoardError or UsageError."""
    from hil.runtimes.registry import USUAL_BUDGETS

    board = load_board(name)
    usual = USUAL_BUDGETS.get(runtime)
    if usual is not None:
        board = board.with_budget(min(usual[0], board.most("flash")), min(usual[1], board.most("sram")))
    board = board.with_budget(_budget_bytes("--flash", flash), _budget_bytes("--sram", sram))
    return linked(board.optimised(optimise), parse_link(link))


def _budget_bytes(option: str, text: str | None) -> int | None:
    return None if text is None else typed_size_bytes(option, text)


def chosen_place(
    board: Board, via: str, device: str | None = None, *, several: bool = False, timer: str | None = None,
    cluster: str | None = None,
) -> Place:  # fmt: skip
    """Where firmware will run, for commands that run it; told on stderr. Raises what `choose_place` does.

    Via hardware with a `cluster`, boards are looked for on its nodes and not here.
    """
    from hil.targets.place import Place, choose_place

    if cluster is None or via != "hardware":
        place = choose_place(board, via, device, several=several, timer=timer)
    elif device is not None:
        raise UsageError("--device names a board of this machine; --cluster takes those of its nodes")
    else:
        board.target("hardware")
        place = Place("hardware", "boards of the cluster's nodes")
    kind = "simulated" if place.simulated else "hardware"
    console.print(f"running {board.name} via {place.via} ({kind}; {place.reason})", highlight=False, markup=False)
    return place


def chosen_harness(
    board: Board, via: str, device: str | None, *, several: bool = False, runtime: str, timer: str | None,
    cluster: str | None = None,
) -> Harness:  # fmt: skip
    """The harness of the options, its place told on stderr before anything is built. Raises what `hil.Harness` does."""
    from hil.api.harness import Harness

    place = chosen_place(board, via, device, several=several, timer=timer, cluster=cluster)
    return Harness(board, via=place, runtime=runtime, timer=timer)


def chosen_watch(board: Board, via: Via, asked: bool | None) -> Literal["off", "beside"]:
    """Whether modelled cycles stand beside the timer's figures: by default where the board has constants for them.

    Where they cannot be had, stderr says why, and the timer's figures are what is left. Raises UsageError for modelled
    cycles that are asked for where there is no model.
    """
    if asked and via != "qemu":
        raise UsageError(f"--timing needs --via qemu; --via {via} has a timer of its own")
    if via != "qemu" or not (board.timing is not None if asked is None else asked):
        return "off"
    from hil.cycle_model.plugin import unavailable_reason
    from hil.targets.runners.qemu import QEMU

    reason = unavailable_reason(QEMU)
    if reason is not None:
        console.print(f"no modelled cycles, instruction counts only: {reason}", highlight=False, soft_wrap=True)
    return "beside" if reason is None else "off"


def chosen_modelled(
    board: Board, via: Via, timer: str | None, timing: bool | None
) -> Literal["off", "beside", "timer"]:
    """What the cycle model does for `measure`: `--timer` puts it in the timer's place, `--timing` beside it."""
    from hil.api.harness import modelled_as

    if timer is None:
        return chosen_watch(board, via, timing)
    modelled = modelled_as(board, via, timer)
    if timing is not None and modelled == "timer":
        raise UsageError(f"--timer {timer} is the timing model: leave --timing and --no-timing out")
    return modelled if modelled == "timer" else chosen_watch(board, via, timing)


def failure_text(error: HilError) -> str:
    """The message of `error`, and where the serial transcript is."""
    return f"{error}; serial transcript: {error.transcript}" if error.transcript else str(error)


def say_what_was_given_up(model: str, given_up: Iterable[GivenUp], optimise: str) -> None:
    """Which faster kernels of a model gave way, for how many bytes, and what that costs."""
    for item in given_up:
        console.print(f"{printable(model)}: {item} (--optimise {optimise})", highlight=False, soft_wrap=True)


def emit_json(document: Any) -> None:
    """One JSON document on standard output. Raises InfrastructureError when that is closed or full."""
    text = json.dumps(document, indent=2, allow_nan=False)
    try:
        if sys.stdout is None:
            raise OSError(errno.EBADF, "it is closed")
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough: click ends quietly
        raise
    except OSError as error:
        sys.stdout = None  # what is still in its buffer would fail again at exit
        raise InfrastructureError(f"standard output cannot be written: {error.strerror}") from error
