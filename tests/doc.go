// Package tests proves hotinit's main job from end to end: a real hotinit, as
// a real PID 1, with real servers under it.
//
// Whole stories are scripts in stories/, whose commands stories_test.go
// documents. What has to be counted (requests under load, exit statuses beside
// orphans, kills of the handoff) is in the Go tests. The packages below are
// their tools: box runs hotinit, load asks, pidone makes namespaces, app is
// the server; docker has the tests with a real engine.
package tests
