// Package adopt swaps real servers that bind their own port, unchanged, under
// load: each in the table of servers_test.go by a signal and by a changed
// release, with no request refused, and none lost but those that the server
// itself drops when it is told to go.
package adopt
