#!/bin/sh
# Read the request up to the empty line, then answer.
cr=$(printf '\r')
while read -r line && [ "$line" != "$cr" ]; do :; done
body="generation $HOTINIT_GENERATION"
printf 'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s\n' $((${#body} + 1)) "$body"
