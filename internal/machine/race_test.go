//go:build race

package machine

// raced says that the race detector is at work, which makes an exploration take four
// times as long. All of it is one goroutine: that the policies share nothing shows in the
// smallest world, too.
const raced = true
