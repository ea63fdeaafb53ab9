// Package tests holds the tests that run hotinit as a whole, by subject: init
// (a plain init beside tini, dumb-init and catatonit), swap (generations,
// sockets, readiness, rollback), watch (finding and checking a release), docker
// (the real engine), and bench, the benchmark.
//
// Their tools are in internal/testkit: box runs hotinit and sees its processes,
// site deploys to it, load asks, pidone makes namespaces, app is the server.
// A test of one package alone stands beside that package.
package tests
