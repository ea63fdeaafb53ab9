package machine

// The tables say what each event does to a generation in each phase, and to the
// program in each situation. What a table does not have changes nothing.
// docs/design.md shows them as a test prints them.

// cell is one entry of a table: what is done, and in words, for the reader.
type cell[F any] struct {
	do   F
	text string
}

type (
	generationCell = cell[func(*step, *Gen, Event)]
	programCell    = cell[func(*step, Event)]
)

// generationTable is what happens to one generation while nothing stops.
var generationTable = [Boot][Lingering + 1]generationCell{
	Forked:       {Preparing: {preparingForked, "its process is recorded"}},
	Retried:      {Preparing: {preparingRetried, "its process is forgotten"}},
	Started:      {Preparing: {preparingStarted, "becomes candidate"}},
	NotStarted:   {Preparing: {preparingNotStarted, "rejected"}},
	MainReplaced: {Candidate: {mainReplaced, "recorded"}, Current: {mainReplaced, "recorded"}, Retiring: {mainReplaced, "recorded"}},
	Waits:        {Candidate: {candidateWaits, "ready, if nothing else is asked for"}},
	Accepted:     {Candidate: {candidateAccepted, "ready, if nothing else is asked for"}},
	Notified:     {Candidate: {candidateNotified, "ready, if nothing else is asked for"}, Current: {currentNotified, "it speaks sd_notify"}},
	Blind:        {Candidate: {candidateBlind, "time decides"}},
	BlindOver:    {Candidate: {candidateBlindOver, "time does not decide any more"}},
	Ready:        {Candidate: {candidateReady, "becomes current; the one before retires"}},
	Stalled:      {Current: {currentStalled, "rollback in its probation; then --on-stall"}},
	StallOver:    {Current: {currentStallOver, "serves again"}},
	Beat:         {Candidate: {candidateBeat, "its time starts anew, if it asks for some"}, Current: {currentBeat, "its time starts anew"}},
	Triggered:    {Current: {currentHangs, "gets SIGABRT, and is replaced"}},
	Exited:       {Candidate: {candidateExited, "rejected"}, Current: {currentExited, "rollback, or --on-exit"}, Retiring: {retiringExited, "lingers"}},
	Empty:        {Lingering: {lingeringEmpty, "forgotten"}},

	IntervalOver:     {Candidate: {candidateIntervalOver, "ready, if time decides"}},
	QuietOver:        {Candidate: {candidateReady, "becomes current; the one before retires"}},
	ReadyTimedOut:    {Candidate: {candidateReadyTimedOut, "rejected, and terminated"}},
	KillOldDelayOver: {Retiring: {retiringKillOldDelayOver, "terminated"}},
	DrainTimedOut:    {Current: {currentDrainTimedOut, "killed: it hangs"}, Retiring: {retiringDrainTimedOut, "killed"}, Lingering: {lingeringDrainTimedOut, "killed"}},
	ProbationOver:    {Current: {currentProbationOver, "proven"}},
	SteadyOver:       {Current: {currentSteadyOver, "the next restart is at once"}},
	WatchdogTimedOut: {Current: {currentHangs, "gets SIGABRT, and is replaced"}},
	RunTimedOut:      {Candidate: {candidateOverran, "rejected, and terminated"}, Current: {currentOverran, "terminated"}},
}

// stoppingTable is what happens to one generation once all are terminated: no
// other is started, and none becomes current.
var stoppingTable = [Boot][Lingering + 1]generationCell{
	Forked:        {Preparing: {preparingForked, "its process is recorded"}},
	Retried:       {Preparing: {preparingRetried, "its process is forgotten"}},
	Started:       {Preparing: {stoppingStarted, "terminated"}},
	NotStarted:    {Preparing: {stoppingNotStarted, "forgotten"}},
	MainReplaced:  {Candidate: {mainReplaced, "recorded"}, Current: {mainReplaced, "recorded"}, Retiring: {mainReplaced, "recorded"}},
	Exited:        {Candidate: {stoppingCandidateExited, "lingers"}, Current: {stoppingCurrentExited, "lingers"}, Retiring: {retiringExited, "lingers"}},
	Empty:         {Lingering: {lingeringEmpty, "forgotten"}},
	DrainTimedOut: {Current: {currentDrainTimedOut, "killed: it hangs"}, Retiring: {retiringDrainTimedOut, "killed"}, Lingering: {lingeringDrainTimedOut, "killed"}},
}

// programTable is what happens to the program as a whole.
var programTable = [eventKinds][Stopping + 1]programCell{
	Boot:       {Down: {downBoot, "start generation 1"}},
	Recalled:   {Booting: {recalled, "noted"}, Serving: {recalled, "noted"}, Waiting: {recalled, "noted"}, Swapping: {recalled, "noted"}, Down: {recalled, "noted"}},
	Resumed:    {Booting: {startingResumed, "go on with what starts"}, Swapping: {startingResumed, "go on with what starts"}, Stopping: {stoppingResumed, "terminate or forget what starts"}},
	Changed:    {Booting: {startingChanged, "retire the one that starts, start the newer content"}, Serving: {servingChanged, "start the new content"}, Waiting: {waitingChanged, "the newest is started once there is leave"}, Swapping: {startingChanged, "retire the one that starts, start the newer content"}, Down: {servingChanged, "start the new content"}},
	Reload:     {Booting: {startingReload, "one more start follows"}, Serving: {servingReload, "start another"}, Waiting: {waitingReload, "it is that swap"}, Swapping: {startingReload, "one more start follows"}, Down: {servingReload, "start another"}, Stopping: {stoppingRefuses, "refused"}},
	Rollback:   {Booting: {startingRollback, "a rollback follows"}, Serving: {servingRollback, "start the good release before"}, Waiting: {waitingRollback, "start the good release before, call the swap off"}, Swapping: {startingRollback, "a rollback follows"}, Down: {servingRollback, "start the good release before"}, Stopping: {stoppingRefuses, "refused"}},
	Deployed:   {Booting: {startingDeployed, "start it, unless it is being started"}, Serving: {servingDeployed, "start it, unless it runs"}, Waiting: {waitingDeployed, "it is that swap, unless it runs"}, Swapping: {startingDeployed, "start it, unless it is being started"}, Down: {servingDeployed, "start it"}, Stopping: {stoppingRefuses, "refused"}},
	Hold:       {Booting: {hold, "changes are noted"}, Serving: {hold, "changes are noted"}, Waiting: {hold, "changes are noted, also the one that waits"}, Swapping: {hold, "changes are noted"}, Down: {hold, "changes are noted"}, Stopping: {stoppingRefuses, "refused"}},
	Unhold:     {Booting: {unhold, "one more start follows, if there was a change"}, Serving: {unhold, "start the new content, if there was a change"}, Waiting: {unhold, "it is that swap, if there was a change"}, Swapping: {unhold, "one more start follows, if there was a change"}, Down: {unhold, "start the new content, if there was a change"}, Stopping: {stoppingRefuses, "refused"}},
	LeaveCome:  {Booting: {leaveGiven, "begin the swap once this start is decided"}, Waiting: {leaveGiven, "begin the swap"}, Swapping: {leaveGiven, "begin the swap once this start is decided"}},
	LeaveEnded: {Booting: {leaveEnded, "a swap that waits is off"}, Serving: {leaveEnded, "noted"}, Waiting: {leaveEnded, "the swap is off, unless it waits for this end"}, Swapping: {leaveEnded, "a swap that waits is off"}, Down: {leaveEnded, "noted"}},
	LeaveLost:  {Booting: {leaveLost, "ask again, if a swap waits"}, Serving: {leaveLost, "noted"}, Waiting: {leaveLost, "ask again"}, Swapping: {leaveLost, "ask again, if a swap waits"}, Down: {leaveLost, "noted"}},
	Withdrawn:  {Booting: {withdrawn, "it is not started again"}, Serving: {withdrawn, "goes back in its turn, if it runs it in its probation"}, Waiting: {withdrawn, "the swap is off"}, Swapping: {withdrawn, "a swap that waits is off"}, Down: {withdrawn, "it is not started again"}},
	Traffic:    {Swapping: {swappingTraffic, "a candidate that is ready has to accept"}},
	Renamed:    {Booting: {renamed, "renamed"}, Serving: {renamed, "renamed"}, Waiting: {renamed, "renamed"}, Swapping: {renamed, "renamed"}, Down: {renamed, "renamed"}, Stopping: {renamed, "renamed"}},
	Halt:       {Booting: {halt, "terminate all"}, Serving: {halt, "terminate all"}, Waiting: {halt, "terminate all"}, Swapping: {halt, "terminate all"}, Down: {halt, "terminate all"}, Stopping: {stoppingSignal, "pass it on to all"}},
	Relay:      {Booting: {relay, "to current and candidate"}, Serving: {relay, "to current and candidate"}, Waiting: {relay, "to current and candidate"}, Swapping: {relay, "to current and candidate"}, Down: {downRelay, "kept for the next"}, Stopping: {stoppingSignal, "pass it on to all"}},
	Dropped:    {},
	Noted:      {},

	RestartDelayOver: {Down: {downRestartDelayOver, "start what should run"}},
	AutoRestartOver:  {Serving: {servingAutoRestartOver, "start another"}},
	SwapDelayOver:    {Serving: {servingSwapDelayOver, "start the new content"}},
	CalmOver:         {Booting: {calmOver, "changes count anew"}, Serving: {calmOver, "changes count anew"}, Waiting: {calmOver, "changes count anew"}, Swapping: {calmOver, "changes count anew"}, Down: {calmOver, "changes count anew"}},
	LeaveTimedOut:    {Booting: {leaveTimedOut, "the swap is off, or the command is killed"}, Serving: {leaveTimedOut, "kill the command"}, Waiting: {leaveTimedOut, "the swap is off, or the command is killed"}, Swapping: {leaveTimedOut, "the swap is off, or the command is killed"}, Down: {leaveTimedOut, "kill the command"}},
	StopTimedOut:     {Stopping: {stoppingTimedOut, "kill all"}},
}
