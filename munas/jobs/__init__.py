"""Jobs: functions that run in other processes, here or on a cluster, each with a limit on time and memory.

In: factories of functions, and their arguments. Out: what became of each, as they finish. `base` is the interface that
all backends share, `local` the processes of this machine. Knows nothing of networks; imports only `munas.errors`.
"""
