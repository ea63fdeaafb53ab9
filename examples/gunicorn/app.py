import os

body = f"generation {os.environ['HOTINIT_GENERATION']}\n".encode()


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
