"""What ``munas-hil`` starts: how an interrupt ends the program is settled before anything else is loaded.

Loading the commands takes a second, in which Ctrl-C would end in a traceback. Nothing has been started by then, so that
the process may simply end.
"""

import os
import signal

INTERRUPTED = 130


def _leave(number: int, _frame: object) -> None:
    os.write(2, b"munas-hil: interrupted\n")
    os._exit(128 + number)


def main() -> None:
    """Entry point: load the command line and run it."""
    has_interrupt = signal.getsignal(signal.SIGINT) is not signal.SIG_IGN  # a shell's background jobs have not
    if has_interrupt:
        signal.signal(signal.SIGINT, _leave)
    try:
        from hil.cli.main import main as run
    except (MemoryError, ImportError, OSError) as error:
        _refuse_small_memory(error)
        raise
    try:
        if has_interrupt:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        run()
    except KeyboardInterrupt:
        _leave(signal.SIGINT, None)
    finally:
        if has_interrupt:
            signal.signal(signal.SIGINT, _leave)  # while the interpreter ends


def _refuse_small_memory(error: Exception) -> None:
    """End with a message when the limit on memory is why something cannot be loaded."""
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        what = " ".join(str(error).split())[:200] or type(error).__name__
        os.write(2, f"munas-hil: {limit >> 20} MB of memory (ulimit -v) are too few to start: {what!a}\n".encode())
        os._exit(3)


if __name__ == "__main__":
    main()
