/*
 * helper plays every small program that a measurement needs: the stage that
 * sets a namespace up, and the commands that run beneath an init. It is C and
 * static so that its own start-up is small and steady: what is measured is the
 * init's, not the command's.
 *
 * Each role reads its numbers from the command line, is bounded by them, and
 * speaks in 8-byte clock readings or single bytes on standard output.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *doing)
{
	fprintf(stderr, "helper: %s: %s\n", doing, strerror(errno));
	_exit(125);
}

/* CLOCK_MONOTONIC counts alike in every process, clock_gettime(2). */
static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void put(int fd, const void *bytes, size_t len)
{
	if (write(fd, bytes, len) != (ssize_t)len)
		fail("cannot write to the measuring process");
}

static void stamp(int fd)
{
	uint64_t t = now();

	put(fd, &t, sizeof t);
}

/* wait_byte blocks until the measuring process says to go on, or is gone. */
static void wait_byte(void)
{
	char c;

	if (read(0, &c, 1) != 1)
		_exit(124);
}

static pid_t must_fork(void)
{
	pid_t pid = fork();

	if (pid < 0)
		fail("cannot fork");
	return pid;
}

/* pin keeps the caller and all that it starts on one processor. */
static void pin(int cpu)
{
	cpu_set_t set;

	if (cpu < 0)
		return;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof set, &set) < 0)
		fail("cannot pin to one processor");
}

/*
 * stage CPU COMMAND...: PID 1 of a fresh namespace before it becomes the init.
 * It mounts the namespace's own /proc, notes the time on descriptor 3 at the
 * last moment, and executes.
 */
static void stage(char **argv)
{
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		fail("cannot make the mounts private");
	if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		fail("cannot mount /proc");
	pin(atoi(argv[0]));
	fcntl(3, F_SETFD, FD_CLOEXEC);
	stamp(3);
	execv(argv[1], argv + 1);
	fail(argv[1]);
}

/* orphan_batch makes the caller's next parent adopt n short-lived processes. */
static void orphan_batch(int n, volatile pid_t *pids)
{
	pid_t middle = must_fork();

	if (middle == 0) {
		for (int i = 0; i < n; i++) {
			pid_t pid = must_fork();
			if (pid == 0)
				_exit(0);
			if (pids)
				pids[i] = pid;
		}
		_exit(0);
	}
	if (waitpid(middle, NULL, 0) < 0)
		fail("cannot wait for the process in the middle");
}

/*
 * orphans COUNT BATCH: says when it begins, orphans COUNT processes, and says
 * when the last has been collected. kill(2) finds a zombie but not a process
 * that was waited for, which is how it knows.
 */
static void orphans(int count, int batch)
{
	volatile pid_t *pids = mmap(NULL, sizeof(pid_t) * (size_t)count, PROT_READ | PROT_WRITE,
				    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (pids == MAP_FAILED)
		fail("cannot map the table of processes");
	put(1, "R", 1);
	wait_byte();
	stamp(1);
	for (int made = 0; made < count; made += batch)
		orphan_batch(count - made < batch ? count - made : batch, pids + made);
	for (int i = 0; i < count; i++)
		while (kill(pids[i], 0) == 0)
			usleep(100);
	stamp(1);
	wait_byte();
	_exit(0);
}

/*
 * end CODE|-SIGNAL: ends so, in the middle of orphans that end too. The
 * churning process is bounded, and ends with the namespace at the latest.
 */
static void end(int how)
{
	struct rlimit none = { 0, 0 };

	if (must_fork() == 0) {
		for (int i = 0; i < 500; i++)
			orphan_batch(4, NULL);
		_exit(0);
	}
	for (int i = 0; i < 4; i++)
		orphan_batch(4, NULL);
	if (how >= 0)
		_exit(how);

	setrlimit(RLIMIT_CORE, &none);
	/* The C library hides two real-time signals from signal(3) and
	 * sigprocmask(3): the kernel's own calls reach all 64. */
	uint64_t all = ~0ull;
	struct { void *handler; unsigned long flags; void *restorer; uint64_t mask; } dfl = { 0 };
	syscall(SYS_rt_sigaction, -how, &dfl, NULL, sizeof all);
	syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, &all, NULL, sizeof all);
	syscall(SYS_kill, getpid(), -how);
	_exit(99);
}

static void answer(int sig)
{
	(void)sig;
	if (write(1, "A", 1) != 1)
		_exit(124);
}

static void on_term(int sig)
{
	(void)sig;
	_exit(0);
}

static void handle(int sig, void (*handler)(int))
{
	struct sigaction act = { .sa_handler = handler, .sa_flags = SA_RESTART };

	if (sigaction(sig, &act, NULL) < 0)
		fail("cannot handle a signal");
}

/* rest says that it is up, answers each USR1 with a byte, and ends at TERM. */
static void rest(void)
{
	handle(SIGUSR1, answer);
	handle(SIGTERM, on_term);
	put(1, "R", 1);
	for (;;)
		pause();
}

/*
 * ping CPU PID COUNT WARM: signals the init and waits for the app's answer on
 * standard input; prints how long each round trip took, the first WARM left out.
 */
static void ping(int cpu, pid_t pid, int count, int warm)
{
	uint64_t *took = calloc((size_t)count, sizeof *took);

	if (!took)
		fail("cannot allocate");
	pin(cpu);
	for (int i = -warm; i < count; i++) {
		uint64_t sent = now();
		if (kill(pid, SIGUSR1) < 0)
			fail("cannot signal the init");
		wait_byte();
		if (i >= 0)
			took[i] = now() - sent;
	}
	for (int i = 0; i < count; i++)
		put(1, &took[i], sizeof *took);
	_exit(0);
}

/* notify says READY=1 the way sd_notify(3) describes. */
static void notify(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	size_t len = path ? strlen(path) : 0;
	int fd;

	if (len == 0 || len >= sizeof to.sun_path)
		return;
	memcpy(to.sun_path, path, len);
	if (path[0] == '@')
		to.sun_path[0] = 0;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || sendto(fd, "READY=1", 7, 0, (struct sockaddr *)&to,
			     offsetof(struct sockaddr_un, sun_path) + len) != 7)
		fail("cannot say that it is ready");
	close(fd);
}

/* generation notes the time of its first instruction, is ready, and ends at TERM. */
static void generation(void)
{
	stamp(1);
	handle(SIGTERM, on_term);
	notify();
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	const char *role = argc > 1 ? argv[1] : "";
	int n = argc - 2;

	if (!strcmp(role, "stage") && n >= 2)
		stage(argv + 2);
	if (!strcmp(role, "stamp")) {
		stamp(1);
		_exit(0);
	}
	if (!strcmp(role, "rest"))
		rest();
	if (!strcmp(role, "end") && n == 1)
		end(atoi(argv[2]));
	if (!strcmp(role, "orphans") && n == 2)
		orphans(atoi(argv[2]), atoi(argv[3]));
	if (!strcmp(role, "ping") && n == 4)
		ping(atoi(argv[2]), atoi(argv[3]), atoi(argv[4]), atoi(argv[5]));
	if (!strcmp(role, "generation"))
		generation();
	fprintf(stderr, "helper: no role %s with %d arguments\n", role, n);
	return 125;
}
