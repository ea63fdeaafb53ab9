// probe is the plain C program that the tests of package inits run under an
// init, and around it. Go's runtime has handlers, and signals, of its own; this
// has nothing that it was not given.
//
//	probe signals [N]     print each signal that arrives; N ends it
//	probe state [N]       print signal mask, ignored signals, group, session, ...; with N then as signals
//	probe stop SIGNAL     stop itself, print when it goes on, and exit with 5
//	probe leave [stopped] leave two processes behind that handle TERM, and exit
//	probe deaf            leave one behind that ignores TERM, and exit
//	probe children        one child; all print their signals until TERM
//	probe family          three children, of which two left the group; all print their
//	                      signals, until TERM ends it and CONT the children
//	probe headless [N]    leave a process behind whose first thread has ended, and that
//	                      prints its signals until signal N; print own signals until TERM
//	probe rooted          become root altogether, if it may; then as signals
//	probe freeze PID      stop each handoff of an init as soon as there is one, until the
//	                      init is gone
//	probe traced HOW      ask to be traced, and get a signal that it handles (handled: it
//	                      exits with 7), that ends it (fatal), that execve(2) sends
//	                      (exec: it exits with 8), or wait for one (wait: exits with 9)
//	probe bomb            leave orphans behind until no process is to be had, and again
//	                      whenever one is; print other signals, and exit with 7 on TERM
//	probe begin MASK IGNORED COMMAND...  execute with this signal state (hex)
//	probe early A,B,... COMMAND...  the same with all blocked, and some pending
//	probe activate N NAMES COMMAND...  execute with N listening sockets
//	probe deny COMMAND... execute where newer system calls do not exist
//	probe old COMMAND...  the same, and where nothing else makes a pidfd or takes one
//	probe forbid N COMMAND...  the same, where each call newer than Linux 4.5 fails
//	                      with error N, of all that hotinit could use
//	probe twice COMMAND...  with two variables TWICE, one without a name, and one
//	                      without a value
//	probe fill COMMAND... execute with standard output full and error full
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

// The C library keeps 32 and 33 to itself, so the system calls are made here.
static uint64_t mask(int how, const uint64_t *set) {
	uint64_t old = 0;
	syscall(SYS_rt_sigprocmask, how, set, &old, sizeof old);
	return old;
}

static int next_signal(void) {
	uint64_t all = ~0ull;
	siginfo_t info;
	long n;
	do n = syscall(SYS_rt_sigtimedwait, &all, &info, NULL, sizeof all);
	while (n < 0 && errno == EINTR);
	return (int)n;
}

static void block_all(void) {
	uint64_t all = ~0ull;
	mask(SIG_SETMASK, &all);
}

static void set_disposition(int n, uintptr_t handler) {
	struct { uintptr_t handler, flags, restorer; uint64_t mask; } action = { handler, 0, 0, 0 };
	syscall(SYS_rt_sigaction, n, &action, NULL, 8);
}

static uintptr_t disposition(int n) {
	struct { uintptr_t handler, flags, restorer; uint64_t mask; } action = { 0 };
	syscall(SYS_rt_sigaction, n, NULL, &action, 8);
	return action.handler;
}

static int print_signals(const char *who, int end) {
	printf("%sready\n", who);
	for (;;) {
		int n = next_signal();
		if (n == SIGWINCH && isatty(0)) {
			struct winsize size;
			ioctl(0, TIOCGWINSZ, &size);
			printf("%sgot %d size %dx%d\n", who, n, size.ws_col, size.ws_row);
		} else {
			printf("%sgot %d\n", who, n);
		}
		if (n == end)
			return 0;
	}
}

static int is_socket(int fd) {
	struct stat s;
	return fstat(fd, &s) == 0 && S_ISSOCK(s.st_mode);
}

static void state(void) {
	uint64_t ignored = 0;
	for (int n = 1; n <= 64; n++)
		if (disposition(n) == (uintptr_t)SIG_IGN)
			ignored |= 1ull << (n - 1);
	char dir[4096];
	mode_t um = umask(0);
	printf("blocked=%llx ignored=%llx pid=%d group=%d session=%d foreground=%d umask=%o uid=%d gid=%d nnp=%d dir=%s",
		(unsigned long long)mask(SIG_BLOCK, NULL), (unsigned long long)ignored, getpid(), getpgrp(), getsid(0),
		tcgetpgrp(0), um, getuid(), getgid(), prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), getcwd(dir, sizeof dir));
	gid_t groups[64];
	int count = getgroups(64, groups);
	printf(" groups=");
	for (int i = 0; i < count; i++)
		printf("%s%d", i ? "," : "", groups[i]);
	printf(" descriptors=");
	for (int fd = 0, some = 0; fd < 1024; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			printf("%s%d%s", some++ ? "," : "", fd, is_socket(fd) ? "s" : "");
	for (int i = 0; i < 3; i++) {
		static const char *const names[] = { "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES" };
		const char *value = getenv(names[i]);
		if (value)
			printf(" %s=%s", names[i], value);
	}
	printf("\n");
}

static volatile sig_atomic_t told;
static void on_term(int n) { told = n; }

// A process that is told to end needs a moment to do so in order.
static int tidy(const char *name, int parent_pipe) {
	struct sigaction action = { .sa_handler = on_term };
	sigset_t term, before;
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, &before);
	sigaction(SIGTERM, &action, NULL);
	sigdelset(&before, SIGTERM);
	if (write(parent_pipe, "x", 1) != 1)
		return 1;
	while (!told)
		sigsuspend(&before);
	struct timespec moment = { 0, 200 * 1000 * 1000 };
	nanosleep(&moment, NULL);
	printf("%s tidied up\n", name);
	return 0;
}

static int leave(int stopped) {
	int ready[2];
	char byte;
	if (pipe(ready))
		return 1;
	if (fork() == 0)
		exit(tidy("group", ready[1]));
	if (fork() == 0) {
		setsid();
		exit(tidy("session", ready[1]));
	}
	pid_t third = stopped ? fork() : -1;
	if (third == 0)
		exit(tidy("stopped", ready[1]));
	for (int i = 0; i < 2 + stopped; i++)
		if (read(ready[0], &byte, 1) != 1)
			return 1;
	if (stopped) {
		int status;
		kill(third, SIGSTOP);
		waitpid(third, &status, WUNTRACED);
	}
	return 7;
}

static int deaf(void) {
	int ready[2];
	char byte;
	if (pipe(ready))
		return 1;
	if (fork() == 0) {
		setsid();
		signal(SIGTERM, SIG_IGN);
		signal(SIGHUP, SIG_IGN);
		if (write(ready[1], "x", 1) != 1)
			return 1;
		for (;;)
			pause();
	}
	if (read(ready[0], &byte, 1) != 1)
		return 1;
	return 8;
}

static int children(void) {
	block_all();
	int ready[2];
	char byte;
	if (pipe(ready))
		return 1;
	if (fork() == 0) {
		if (write(ready[1], "x", 1) != 1)
			return 1;
		return print_signals("child ", SIGTERM);
	}
	if (read(ready[0], &byte, 1) != 1)
		return 1;
	return print_signals("main ", SIGTERM);
}

static int family(void) {
	static const char *const names[] = { "group ", "other ", "session " };
	block_all();
	int ready[2];
	char byte;
	if (pipe(ready))
		return 1;
	for (int i = 0; i < 3; i++) {
		if (fork() == 0) {
			if ((i == 1 && setpgid(0, 0)) || (i == 2 && setsid() < 0) || write(ready[1], "x", 1) != 1)
				return 1;
			return print_signals(names[i], SIGCONT);
		}
		if (read(ready[0], &byte, 1) != 1)
			return 1;
	}
	return print_signals("main ", SIGTERM);
}

static int last; // the signal that ends a headless process

static void *thread(void *ready) {
	// The state of the process is that of its first thread: wait for its end.
	for (char state = 0; state != 'Z'; sched_yield()) {
		FILE *f = fopen("/proc/self/stat", "r");
		if (!f || fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
			_exit(1);
		fclose(f);
	}
	if (write(*(int *)ready, "x", 1) != 1)
		_exit(1);
	_exit(print_signals("headless ", last));
}

static int headless(int end) {
	pthread_t t;
	int ready[2];
	char byte;
	block_all();
	last = end;
	if (pipe(ready))
		return 1;
	if (fork() == 0) {
		setsid();
		if (pthread_create(&t, NULL, thread, &ready[1]))
			return 1;
		syscall(SYS_exit, 0); // the thread alone
	}
	if (read(ready[0], &byte, 1) != 1)
		return 1;
	return print_signals("main ", SIGTERM);
}

static int traced(const char *how) {
	struct sigaction action = { .sa_handler = on_term };
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	sigaction(SIGUSR1, &action, NULL);
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
		return 99;
	printf("traced\n");
	if (!strcmp(how, "handled")) {
		kill(getpid(), SIGUSR1);
		return told == SIGUSR1 ? 7 : 98;
	}
	if (!strcmp(how, "fatal"))
		kill(getpid(), SIGTERM);
	if (!strcmp(how, "exec"))
		execl("/bin/sh", "sh", "-c", "exit 8", NULL);
	while (!told)
		usleep(10 * 1000); // a signal may come before pause(2) would
	return 9;
}

static int is_handoff(int pid) {
	char path[64], name[32] = "";
	snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
	int fd = open(path, O_RDONLY);
	ssize_t n = read(fd, name, sizeof name - 1);
	close(fd);
	return n > 0 && !strcmp(name, "hotinit-handoff");
}

static int freeze(int init) {
	struct sched_param param = { .sched_priority = 1 };
	if (sched_setscheduler(0, SCHED_FIFO, &param)) // it has to be faster than the handoff
		return 99;
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/task/*/children", init);
	for (int last = 0;;) {
		glob_t threads; // each has children of its own
		if (glob(path, 0, NULL, &threads))
			return 0;
		for (size_t i = 0; i < threads.gl_pathc; i++) {
			FILE *f = fopen(threads.gl_pathv[i], "r");
			for (int child; f && fscanf(f, "%d", &child) == 1;)
				if (child != last && is_handoff(child)) {
					kill(child, SIGSTOP);
					last = child;
				}
			if (f)
				fclose(f);
		}
		globfree(&threads);
		struct timespec moment = { 0, 100 * 1000 };
		nanosleep(&moment, NULL);
	}
}

// A child that SIGTERM ends.
static pid_t child(void) {
	pid_t pid = fork();
	if (pid == 0) {
		uint64_t none = 0;
		mask(SIG_SETMASK, &none);
		for (;;)
			pause();
	}
	return pid;
}

// The same as an orphan. It returns whether there could be one.
static int orphan(void) {
	int status;
	pid_t pid = fork();
	if (pid == 0)
		_exit(child() < 0);
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static int bomb(void) {
	block_all();
	uint64_t all = ~0ull;
	struct timespec moment = { 0, 1000 * 1000 };
	siginfo_t info;
	for (int full = 0;;) {
		while (orphan())
			;
		while (child() > 0) // the last one: an orphan takes two for a moment
			;
		if (!full++)
			printf("full\n");
		// Between two signals there is room for whoever else wants it.
		long n = syscall(SYS_rt_sigtimedwait, &all, &info, &moment, sizeof all);
		if (n > 0 && n != SIGCHLD)
			printf("got %ld\n", n);
		if (n == SIGTERM)
			return 7;
	}
}

// Socket activation, sd_listen_fds(3): descriptors from 3 on, and variables.
static int activate(int count, const char *names) {
	char text[16];
	for (int i = 0; i < count; i++) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		if (fd < 0 || listen(fd, 16)) // to listen binds it to some port
			return 99;
		if (fd != 3 + i) {
			dup2(fd, 3 + i);
			close(fd);
		}
	}
	snprintf(text, sizeof text, "%d", count);
	setenv("LISTEN_FDS", text, 1);
	snprintf(text, sizeof text, "%d", getpid());
	setenv("LISTEN_PID", text, 1);
	setenv("LISTEN_FDNAMES", names, 1);
	return 0;
}

#define REFUSE(call) \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (call), 0, 1), \
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS)

static int install(size_t length, struct sock_filter *filter) {
	struct sock_fprog program = { length, filter };
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
		perror("seccomp");
		return 99;
	}
	return 0;
}

// What an old kernel, or a sandbox with a short list, says to new calls.
static int deny(int old) {
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		REFUSE(SYS_pidfd_open),
		REFUSE(SYS_pidfd_send_signal),
		REFUSE(435 /* clone3 */),
		REFUSE(436 /* close_range */),
		REFUSE(SYS_memfd_create),
		REFUSE(439 /* faccessat2 */),
		REFUSE(437 /* openat2 */),
		REFUSE(SYS_execveat),
		REFUSE(SYS_statx),
		BPF_STMT(BPF_JMP | BPF_JA, old ? 0 : 7),
		// clone(2) with CLONE_PIDFD, which an old kernel would ignore: a filter
		// can only refuse it. waitid(2) with P_PIDFD.
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 2),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x1000 /* CLONE_PIDFD */, 3, 4),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_waitid, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 3 /* P_PIDFD */, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	return install(sizeof filter / sizeof *filter, filter);
}

// What a sandbox says to all calls that are newer than its list. SYS_preadv2 is
// the first of them on amd64 and on arm64.
static int forbid(int error) {
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, SYS_preadv2, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	return install(sizeof filter / sizeof *filter, filter);
}

// One call alone is missing, or forbidden.
static int without(int number, int error) {
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	return install(sizeof filter / sizeof *filter, filter);
}

static int twice(void) {
	static char *odd[] = { "TWICE=1", "=nameless", "valueless", "TWICE=2", "TWICE=1" };
	size_t n = 0, more = sizeof odd / sizeof *odd;
	while (environ[n])
		n++;
	char **all = calloc(n + more + 1, sizeof *all);
	if (!all)
		return 99;
	memcpy(all, environ, n * sizeof *all);
	memcpy(all + n, odd, sizeof odd);
	environ = all;
	return 0;
}

static int fill(void) {
	int p[2];
	char page[4096] = { 0 };
	if (pipe(p))
		return 99;
	fcntl(p[1], F_SETFL, O_NONBLOCK);
	while (write(p[1], page, sizeof page) > 0)
		;
	fcntl(p[1], F_SETFL, 0);
	fcntl(p[0], F_SETFD, 0); // it stays open, and nobody reads it
	dup2(p[1], 1);
	dup2(p[1], 2);
	close(p[1]);
	return 0;
}

// execve(2) keeps what is pending, so that this is before the first instant.
static int early(char *signals) {
	pid_t sender = fork();
	if (sender == 0) {
		for (char *n = strtok(signals, ","); n; n = strtok(NULL, ","))
			kill(getppid(), atoi(n));
		_exit(0);
	}
	return waitpid(sender, NULL, 0) != sender;
}

static int execute(char **argv) {
	execvp(argv[0], argv);
	perror(argv[0]);
	return 127;
}

int main(int argc, char **argv) {
	setvbuf(stdout, NULL, _IOLBF, 0);
	const char *what = argc > 1 ? argv[1] : "";
	if (!strcmp(what, "signals")) {
		block_all();
		return print_signals("", argc > 2 ? atoi(argv[2]) : 0);
	}
	if (!strcmp(what, "state")) {
		state();
		if (argc == 2)
			return 0;
		block_all();
		return print_signals("", atoi(argv[2]));
	}
	if (!strcmp(what, "early") && argc > 3) {
		block_all();
		return early(argv[2]) ? 99 : execute(argv + 3);
	}
	if (!strcmp(what, "stop") && argc > 2) {
		int n = atoi(argv[2]);
		printf("stopping\n");
		kill(getpid(), n);
		printf("went on\n");
		return 5;
	}
	if (!strcmp(what, "leave"))
		return leave(argc > 2);
	if (!strcmp(what, "deaf"))
		return deaf();
	if (!strcmp(what, "children"))
		return children();
	if (!strcmp(what, "headless"))
		return headless(argc > 2 ? atoi(argv[2]) : 0);
	if (!strcmp(what, "traced") && argc > 2)
		return traced(argv[2]);
	if (!strcmp(what, "freeze") && argc > 2)
		return freeze(atoi(argv[2]));
	if (!strcmp(what, "rooted")) {
		if (setresuid(0, 0, 0))
			printf("not root\n");
		block_all();
		return print_signals("", 0);
	}
	if (!strcmp(what, "bomb"))
		return bomb();
	if (!strcmp(what, "family"))
		return family();
	if (!strcmp(what, "begin") && argc > 4) {
		uint64_t blocked = strtoull(argv[2], NULL, 16), ignored = strtoull(argv[3], NULL, 16);
		for (int n = 1; n <= 64; n++)
			set_disposition(n, ignored & (1ull << (n - 1)) ? (uintptr_t)SIG_IGN : (uintptr_t)SIG_DFL);
		mask(SIG_SETMASK, &blocked);
		return execute(argv + 4);
	}
	if (!strcmp(what, "activate") && argc > 4)
		return activate(atoi(argv[2]), argv[3]) ? 99 : execute(argv + 4);
	if (!strcmp(what, "deny") && argc > 2)
		return deny(0) ? 99 : execute(argv + 2);
	if (!strcmp(what, "old") && argc > 2)
		return deny(1) ? 99 : execute(argv + 2);
	if (!strcmp(what, "forbid") && argc > 3)
		return forbid(atoi(argv[2])) ? 99 : execute(argv + 3);
	if (!strcmp(what, "without") && argc > 4)
		return without(atoi(argv[2]), atoi(argv[3])) ? 99 : execute(argv + 4);
	if (!strcmp(what, "twice") && argc > 2)
		return twice() ? 99 : execute(argv + 2);
	if (!strcmp(what, "fill") && argc > 2)
		return fill() ? 99 : execute(argv + 2);
	fprintf(stderr, "probe: what is %s?\n", what);
	return 98;
}
