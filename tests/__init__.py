"""The tests. Small matrices on one thread: the threads of numpy would wait for those of other processes."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy is imported
