"""Two processes share the tests, file by file."""

import os

# Threads that wait do not spin: each core has more to do than one process.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
