"""What is common to runners and flashing programs that start other programs."""

from __future__ import annotations

# Killed with us, even by kill -9. The shell closes the gap before the request: when the parent (its own pid is $0) is
# gone already, nobody will send the signal. Usage: [*GUARD, str(os.getpid()), program, *arguments].
GUARD = ("setpriv", "--pdeathsig", "KILL", "sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"')
GUARD_INSTALL = "sudo apt-get install util-linux"
