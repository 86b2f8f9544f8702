# Runs Python with these arguments, by the interpreter of this node's Ray workers: the PATH of a job may name another,
# or none. The parent of a job's shell is its supervisor, and its parent is the raylet, whose options name it.
raylet=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$PPID/status" 2>/dev/null)
python=$(tr '\0' '\n' 2>/dev/null <"/proc/$raylet/cmdline" | sed -n 's/^--python_worker_command=\([^ ]*\) .*/\1/p')
[ -x "$python" ] || python=$(command -v python || command -v python3)
exec "${python:-python}" "$@"
