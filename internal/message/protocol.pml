/*
 * The protocol between init and the handoff, with a handoff that may be killed
 * before each of its steps. protocol_test.go has spin(1) explore it.
 *
 * It models one program that starts one generation, receives SIGNALS signals, and
 * gives its verdict when the generation has ended. What is checked:
 *
 *  - the app is never run twice at once, and no process of it that runs is unknown
 *    to a handoff that resumes; it is run once more only where the handoff
 *    that started it was killed before its record said so, and the app had ended by
 *    then: nothing tells that it ever ran. Without a kill it is run once
 *    (assertions where it is executed, in resume, and at the end);
 *  - each signal is acted upon at least once, and acknowledged only after that;
 *  - the verdict is given once, after the app has ended, and with its status known
 *    or unknown, never with that of a process that did not run (assertions in init);
 *  - whatever is killed when, up to KILLS times, the end is reached (no deadlock).
 *
 * The names are those of the code: Start, Signal, Keep, Record, Exit are messages;
 * forked and candidate are what a record says of the generation. A message that
 * was sent is read by init also when its sender is gone, as with a socket.
 */

#ifndef KILLS
#define KILLS 3
#endif
#ifndef SIGNALS
#define SIGNALS 2
#endif

mtype = { none, forked, candidate };            /* what a record says */
mtype = { absent, waiting, running, ended };    /* the app's process */
mtype = { Signal, Keep, Record, Exit, Closed }; /* messages, and the socket's end */

chan toInit = [4] of { mtype, mtype, byte };
chan toHandoff = [4] of { mtype, byte };

/* The world. */
mtype app = absent;
bool pipeOpen;         /* the waiting child's pipe from the handoff that forked it */
byte runs;             /* how often the app was executed */
byte kills;
bool over;             /* init has the verdict */
byte actedUpon;        /* signals that a handoff acted upon, as a bit mask */

/* What init keeps. */
mtype record = none;
bool kept;             /* the pidfd */
byte acknowledged;     /* signals 1 to this one are acknowledged */
byte received;         /* signals that init received so far */

/* What the handoff that lives was started with. */
mtype startRecord;
bool startKept;
bool handoffLives;
byte sent;             /* signals that were sent to it */

/* The child that the handoff forked: it waits at the pipe, and executes the app
 * or, if the pipe ends, exits without having done so. The app ends when it likes. */
active proctype child() {
	do
	:: atomic { app == waiting && !pipeOpen -> app = ended }
	:: atomic { app == running -> app = ended }
	:: over -> break
	od
}

proctype handoff() {
	mtype rec = startRecord;
	bool told;            /* the pipe was written to */
	byte seq = acknowledged, s;
	mtype m;

	/* resume */
	if
	:: rec == forked ->
		/* The handoff that forked it is gone, so it has executed the app or ends. */
		if
		:: app == running -> rec = candidate
		/* It is gone. Nothing tells whether it had executed the app. */
		:: app == ended -> rec = none
		fi
	:: else
	fi;
	/* No process that runs is unknown. */
	assert(rec == candidate || app != running);

	do
	/* killed before any step */
	:: atomic { kills < KILLS -> kills++; goto killed }

	/* a signal: act, then acknowledge by a record */
	:: atomic { toHandoff ? m, s -> assert(m == Signal) };
		if
		:: atomic { kills < KILLS -> kills++; goto killed }
		:: actedUpon = actedUpon | (1 << s)
		fi;
		seq = s;
		if
		:: atomic { kills < KILLS -> kills++; goto killed }
		:: toInit ! Record, rec, seq
		fi

	/* nothing runs: start the app */
	:: rec == none && app != running ->
		/* A child of a handoff before this one ends before it executes. */
		(app == absent || app == ended);
		atomic { app = waiting; pipeOpen = true };
		if
		:: atomic { kills < KILLS -> kills++; goto killed }
		:: toInit ! Keep, none, 0
		fi;
		if
		:: atomic { kills < KILLS -> kills++; goto killed }
		:: toInit ! Record, forked, seq
		fi;
		rec = forked;
		if
		:: atomic { kills < KILLS -> kills++; goto killed }
		:: atomic { /* the child goes on, and executes the app */
			assert(app == waiting);
			assert(runs <= kills);
			app = running; runs++ }
		fi;
		if
		:: atomic { kills < KILLS -> kills++; goto killed }
		:: toInit ! Record, candidate, seq
		fi;
		rec = candidate

	/* the app has ended, and all signals are acted upon: the verdict */
	:: rec == candidate && app == ended && seq == SIGNALS -> goto verdict
	od;

verdict:
	assert(rec == candidate && app == ended);
	if
	:: atomic { kills < KILLS -> kills++; goto killed }
	:: toInit ! Exit, none, 0
	fi;
killed:
	pipeOpen = false;
	toInit ! Closed, none, 0
}

/* start begins another handoff, with a socket of its own: what was sent to the
 * one before is lost. */
inline start() {
	atomic {
		do :: toHandoff ? m, s :: empty(toHandoff) -> break od;
		startRecord = record; startKept = kept; sent = acknowledged;
		handoffLives = true;
		run handoff()
	}
}

active proctype init_() {
	mtype m, r;
	byte s;
	start();
	do
	:: atomic { received < SIGNALS -> received++ }       /* a signal arrives */
	:: atomic { handoffLives && sent < received && nfull(toHandoff) -> sent++; toHandoff ! Signal, sent }
	:: toInit ? m, r, s ->
		if
		:: m == Keep -> kept = true
		:: m == Record ->
			/* A record of a process comes after its pidfd. */
			assert(r == none || kept);
			/* Only what was acted upon is acknowledged. */
			acknowledged = (s > acknowledged -> s : acknowledged);
			assert(acknowledged < 1 || (actedUpon & 2));
			assert(acknowledged < 2 || (actedUpon & 4));
			record = r
		:: m == Exit ->
			assert(!over);
			assert(app == ended && runs >= 1 && runs <= 1 + kills);
			assert(acknowledged == SIGNALS);
			over = true;
			break
		:: m == Closed -> handoffLives = false; start()
		fi
	od
}
