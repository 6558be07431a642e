package api

// Values of Node.State.
const (
	NodeAlive   = "alive"
	NodeSuspect = "suspect"
	NodeDead    = "dead"
	NodeLeft    = "left"
)

// Values of Process.State.
const (
	ProcessHome   = "home"
	ProcessMoving = "moving"
	ProcessAway   = "away"
)

// Values of MigrateResult.Result and Move.Result.
const (
	ResultMoved   = "moved"
	ResultRefused = "refused"
	ResultFailed  = "failed"
)

// Values of MigrateRequest.To that are not the name of a node. No node may be called so.
const (
	ToHome = "home"
	ToBest = "best"
)

// Values of MigrateRequest.Strategy.
const (
	Precopy     = "precopy"
	StopAndCopy = "stop-and-copy"
)
