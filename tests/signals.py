"""Programs that are to be interrupted, whatever the tests were started from.

A shell's background job ignores SIGINT, and what nohup starts SIGHUP; children inherit that.
"""

INTERRUPTIBLE = ("env", "--default-signal=INT,HUP")
"""Before a command: becomes that command, with both signals as a terminal's foreground job has them."""
