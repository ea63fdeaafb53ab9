// Package fault is how tests kill, stop or fail hotinit at a chosen point.
//
// Its invariant: in a build without the tag faults it does nothing, and costs
// nothing.
//
// A point is a call of At with a name. Read faults.go for what a test tells it.
package fault
