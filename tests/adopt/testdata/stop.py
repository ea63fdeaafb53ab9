# Closes its socket at the first SIGTERM, and ends at the second.
import os, signal, socket

server = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))

def close(*_):
    server.close()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.write(1, b"closed\n")

signal.signal(signal.SIGTERM, close)
os.write(1, b"ready\n")
while True:
    signal.pause()
