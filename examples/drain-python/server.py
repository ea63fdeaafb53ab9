import os, signal, socket, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

draining = threading.Event()

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept
    timeout = 5                    # and end when nothing comes for so long
    wbufsize = -1                  # the answer goes out in one piece
    def do_GET(self):
        body = f"generation {os.environ['HOTINIT_GENERATION']}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        if draining.is_set():
            self.send_header("Connection", "close")  # Python closes it, too
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass

server = ThreadingHTTPServer(("", 0), Handler, bind_and_activate=False)
server.socket = socket.socket(fileno=3)
server.socket.setblocking(False)  # another generation may be faster to accept
server.daemon_threads = False  # server_close waits for each connection's thread

def drain(*_):
    draining.set()
    threading.Thread(target=server.shutdown).start()

signal.signal(signal.SIGTERM, drain)
server.serve_forever(poll_interval=0.1)  # so long may pass before it stops accepting
server.server_close()
