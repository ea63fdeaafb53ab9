# Closes its socket at the first SIGTERM, and ends at the second.
import os, signal, socket

server = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))

def close(*_):
    server.close()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    print("closed", flush=True)

signal.signal(signal.SIGTERM, close)
print("ready", flush=True)
while True:
    signal.pause()
