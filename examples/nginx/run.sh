#!/bin/sh
# NGINX names the descriptors of sockets that nginx shall take over, as in an
# upgrade of its binary. Two generations run side by side for a while, so each
# has a pid file of its own.
export NGINX="${SERVER_STARTER_PORT##*=};"
exec nginx -c "$1" -g "daemon off; pid ${TMPDIR:-/tmp}/nginx.$HOTINIT_GENERATION.pid;"
