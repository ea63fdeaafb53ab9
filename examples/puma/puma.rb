# Serve the sockets that hotinit holds (LISTEN_FDS), and no others.
bind_to_activated_sockets 'only'

# SIGTERM is how each generation ends: not an error.
raise_exception_on_sigterm false

threads 4, 4
