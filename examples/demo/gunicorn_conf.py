"""How the demonstration runs the Flask shop: one process, and threads that keep connections open."""

from __future__ import annotations

workers = 1
worker_class = "gthread"
threads = 8
keepalive = 75
graceful_timeout = 2
loglevel = "warning"
# Newer versions open a control socket in the home directory, one for all that run.
control_socket_disable = True
