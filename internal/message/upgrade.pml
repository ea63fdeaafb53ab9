/*
 * How another hotinit takes over, with a handoff that may be killed before each of
 * its steps, an executable that may fail in any way, and signals at any time.
 * protocol_test.go has spin(1) explore it.
 *
 * It begins with the older hotinit at work: init and its handoff. The handoff asks
 * for the upgrade when it likes. What is checked:
 *
 *  - two handoffs are never at work at once, that is: act upon signals or record
 *    (assertion in act);
 *  - a handoff at work has the executable of init (the same assertion): a record of
 *    the newer one is never there for the older one to read;
 *  - each signal is acted upon, once where no handoff was killed in between, and
 *    acknowledged only after that (assertions in init, and at the end);
 *  - whatever fails when, up to KILLS times, the end is reached: a handoff is at work
 *    that has acted upon all signals (no deadlock);
 *  - the older hotinit is what runs after a failure, and the newer one after none.
 *
 * The names are those of the code. What one of the processes takes too long for is
 * a kill by init, and is here no other kill.
 */

#ifndef KILLS
#define KILLS 2
#endif
#ifndef SIGNALS
#define SIGNALS 2
#endif

#define older 1
#define newer 2
mtype = { settled, handing, trying, proving, returning };
mtype = { Signal, Upgraded, Upgrade, Able, Acted, Closed };

chan toInit = [4] of { mtype, byte, byte };     /* message, signal, which handoff */
chan toHandoff = [5] of { mtype, byte, byte };
chan answers = [1] of { bool };                 /* of the child that tries the state */

/* The world. */
byte kills;             /* failures so far */
byte working;           /* handoffs that are at work */
byte actedUpon[3];      /* how often each signal was acted upon */
bool asked;             /* the upgrade was asked for, which happens once */
bool asking;            /* a handoff is about to ask, or has, and init does not know */
bool replaced;          /* init was replaced */
bool over;

/* init's state, which goes along when it is replaced */
byte version = older;   /* of the executable of init */
mtype stage = settled;
byte received, acknowledged, sent;
byte current;           /* the number of the handoff that init knows */
bool lives;             /* its socket is open */
bool condemned;         /* init has killed it */

/* A handoff acts upon a signal, or records something. */
inline act(what) {
	atomic {
		working++;
		assert(working == 1);
		assert(mine == version);
		actedUpon[what]++;
		working--
	}
}

proctype handoff(byte number; byte mine; bool trial) {
	byte s;
	mtype m;

	if
	:: trial ->
		if
		:: atomic { kills < KILLS -> kills++; goto gone }
		:: toInit ! Able, 0, number
		fi;
		do
		:: atomic { kills < KILLS -> kills++; goto gone }
		:: atomic { condemned && current == number -> goto gone }
		:: atomic { toHandoff ?? [Upgraded, 0, eval(number)] -> toHandoff ?? Upgraded, 0, eval(number); break }
		od
	:: else
	fi;

	do
	:: atomic { kills < KILLS -> kills++; goto gone }
	:: atomic { condemned && current == number -> goto gone }
	:: atomic { toHandoff ? Signal, s, eval(number) -> skip };
		if
		:: atomic { kills < KILLS -> kills++; goto gone }
		:: atomic { condemned && current == number -> goto gone }
		:: act(s)
		fi;
		if
		:: atomic { kills < KILLS -> kills++; goto gone }
		:: toInit ! Acted, s, number
		fi
	:: atomic { !asked -> asked = true; asking = true };
		if
		:: atomic { kills < KILLS -> kills++; goto gone }
		:: toInit ! Upgrade, 0, number
		fi;
		/* It acts upon nothing more. */
		(condemned && current == number);
		goto gone
	:: over -> goto end
	od;
gone:
	/* init reads what was sent before */
	atomic { toInit ! Closed, 0, number };
end:
	skip
}

/* The child that tries the state: it is able, or it fails. */
proctype trial() {
	if
	:: atomic { kills < KILLS -> kills++; answers ! false }
	:: answers ! true
	fi
}

/* start begins another handoff, with a socket of its own. */
inline start(which, isTrial) {
	atomic {
		do :: toHandoff ? m, s, n :: empty(toHandoff) -> break od;
		current++; sent = acknowledged; lives = true; condemned = false;
		run handoff(current, which, isTrial)
	}
}

inline reject() {
	stage = returning;
	if
	:: lives -> condemned = true
	:: else -> stage = settled; start(version, false)
	fi
}

active proctype init_() {
	mtype m;
	byte s, n;
	bool able;
	start(older, false);
	do
	:: atomic { received < SIGNALS -> received++ }
	:: atomic { lives && sent < received && len(toHandoff) < 4 -> sent++; toHandoff ! Signal, sent, current }
	:: atomic { toInit ? m, s, n ->
		if
		:: m == Acted && n == current ->
			assert(actedUpon[s] > 0);
			assert(stage == settled);
			acknowledged = (s > acknowledged -> s : acknowledged)
		:: m == Upgrade && n == current -> stage = handing; condemned = true; asking = false
		:: m == Able && n == current && stage == trying -> stage = proving; run trial()
		:: m == Closed && n == current ->
			lives = false; asking = false;
			if
			:: stage == settled -> start(version, false)
			:: stage == handing -> stage = trying; start(newer, true)
			:: stage == returning -> stage = settled; start(version, false)
			:: else -> reject()
			fi
		:: else
		fi }
	:: atomic { answers ? able ->
		if
		:: stage != proving
		:: stage == proving && !able -> reject()
		:: stage == proving && able ->
			if
			/* execve(2) fails */
			:: kills < KILLS -> kills++; reject()
			/* From here on init is the newer one. What its socket has in it, and
			 * what signals are pending, is as it was. */
			:: version = newer; stage = settled; replaced = true;
				toHandoff ! Upgraded, 0, current
			fi
		fi }
	:: atomic { received == SIGNALS && acknowledged == SIGNALS && asked && !asking && stage == settled && lives && !condemned &&
			(kills > 0 || version == newer) && empty(toInit) && !toHandoff ?? [Upgraded, 0, eval(current)] ->
		assert(actedUpon[1] >= 1 && actedUpon[1] <= 1 + kills);
		assert(actedUpon[2] >= 1 && actedUpon[2] <= 1 + kills);
		assert((version == newer) == replaced);
		assert(kills > 0 || version == newer);
		over = true;
		break }
	od
}
