#!/bin/sh
# Four workers take connections from descriptor 3, one at a time each. SIGTERM
# must not end one that may just have accepted a connection. So it only sets a
# mark, and the worker ends when the connection has been served, or when none
# has come for 5 s.
here=$(dirname "$0")

worker() {
    over=
    trap 'over=1' TERM
    while [ -z "$over" ]; do
        "$here/accept.pl" socat -T 10 STDIO EXEC:"$here/answer.sh"
    done
}

workers=
for _ in 1 2 3 4; do
    worker &
    workers="$workers $!"
done
trap 'kill -TERM $workers' TERM
for pid in $workers; do
    # A trap interrupts wait: go back to it until the worker is gone.
    while kill -0 "$pid" 2>/dev/null; do wait "$pid"; done
done
