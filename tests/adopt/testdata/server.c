// A server that binds its own port, HOST PORT, in as few calls of its C library as
// serve: one connection after the other, one request each. On SIGTERM it closes its
// socket, and ends.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static volatile sig_atomic_t told;
static void tell(int sig) { told = sig; }

static void answer(int c) {
	char request[4096], body[128], head[256];
	size_t n = 0;
	for (ssize_t got; n < sizeof request - 1; n += got) {
		got = read(c, request + n, sizeof request - 1 - n);
		if (got <= 0)
			return;
		request[n + got] = 0;
		if (strstr(request, "\r\n\r\n"))
			break;
	}
	snprintf(body, sizeof body, "c generation %s\n", getenv("HOTINIT_GENERATION"));
	int length = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body);
	if (write(c, head, length) == length)
		shutdown(c, SHUT_WR);
	while (read(c, request, sizeof request) > 0) // up to the client's end
		;
}

int main(int argc, char **argv) {
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[2])) };
	struct sigaction action = { .sa_handler = tell };
	sigset_t term, none;
	int one = 1, s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	sigemptyset(&none);
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, NULL);
	sigaction(SIGTERM, &action, NULL);
	inet_pton(AF_INET, argv[1], &to.sin_addr);
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (argc != 3 || bind(s, (struct sockaddr *)&to, sizeof to) || listen(s, 512)) {
		perror("cannot listen");
		return 1;
	}
	while (!told) {
		struct pollfd p = { .fd = s, .events = POLLIN };
		if (ppoll(&p, 1, NULL, &none) < 0)
			continue;
		int c = accept(s, NULL, NULL);
		if (c >= 0) {
			answer(c);
			close(c);
		}
	}
	close(s);
	return 0;
}
