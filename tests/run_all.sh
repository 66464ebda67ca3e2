#!/usr/bin/env bash
# Run every test, in two parts at the same time: the tests that mostly wait leave the cores to the other tests,
# and get a core at once when they need one (nice). Prints the output of the waiting tests after the end of both.
# Arguments: the path of pytest, and the number of cores. The exit status is 0 when both parts pass.
set -u
pytest=$1 cores=$2

waiting_output=$(mktemp)
trap 'rm -f "$waiting_output"' EXIT
trap : INT  # Ctrl-C reaches both parts, and each part ends by itself
trap 'kill "$waiting" "$others"' TERM

# A shell lets its background commands ignore Ctrl-C: env undoes that.
env --default-signal=INT "$pytest" -n $((3 * cores)) --dist loadscope --no-loadscope-reorder -m waiting \
    >"$waiting_output" 2>&1 &
waiting=$!
# Of these tests, too, some wait for a process or a connection: one worker more than cores has something to do.
env --default-signal=INT nice -n 5 "$pytest" -n $((cores + 1)) --dist worksteal -m 'not waiting' &
others=$!

# Waits for the end of process $1, also when a signal interrupts `wait`, and returns the exit status of the process.
wait_for() {
    local status
    wait "$1"
    status=$?
    while kill -0 "$1" 2>/dev/null; do
        wait "$1"
        status=$?
    done
    return $status
}

status=0
wait_for "$others" || status=$?
wait_for "$waiting" || status=$?
cat "$waiting_output"
exit $status
