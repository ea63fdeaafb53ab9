import os

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"generation {os.environ['HOTINIT_GENERATION']}\n".encode()]
