# timed.py N PROGRAM [ARGUMENT ...]: runs it N times and prints for each run, as a line of JSON, the milliseconds from
# starting it until it was waited for, its CPU seconds and the peak of its resident memory in KiB. Both are those of it
# and its children, as wait4(2) tells them; the memory is at least this interpreter's, in whose place it starts.
import json
import os
import sys
import time

quiet = int(sys.argv[1]) > 1  # what the one run prints is wanted
actions = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)] if quiet else [(os.POSIX_SPAWN_DUP2, 2, 1)]
for _ in range(int(sys.argv[1])):
    began = time.perf_counter()
    pid = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ, file_actions=actions)
    _, status, used = os.wait4(pid, 0)
    took = (time.perf_counter() - began) * 1000
    print(json.dumps({
        "ms": took,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_kib": used.ru_maxrss,
        "exit": os.waitstatus_to_exitcode(status),
    }))
