// Package listener is for Go servers that run under hotinit (or under anything
// else that speaks the protocol of Server::Starter or of systemd's socket
// activation). It turns the descriptors that the server was started with into
// listeners, says when the server is ready, and ends it without losing a
// request.
//
// A whole server:
//
//	func main() {
//		listeners, err := listener.ListenAll()
//		if err != nil {
//			log.Fatal(err)
//		}
//		srv := &http.Server{Handler: handler}
//		if err := listener.Serve(srv, listeners...); err != nil {
//			log.Fatal(err)
//		}
//	}
//
// and how it is started: hotinit --port 8080 -- ./server
//
// [ListenAll], [Ports], [List] and [Listener] are those of the Go port of
// Server::Starter, so a server that was written for that package needs another
// import and nothing else. ListenAll also understands LISTEN_FDS, where there
// is no SERVER_STARTER_PORT.
//
// # What Serve promises
//
// The invariant: once a byte of a request has been read, the request is
// answered, and no connection is closed while it may still carry a request
// that the server could have known of.
//
// [net/http.Server.Shutdown] closes every connection that it takes to be idle.
// A request that has just arrived on one of them, or whose first byte is
// already inside the server, is lost. [Serve] therefore waits for the other
// side to end the conversation:
//
//   - the listeners are closed first. The sockets stay open in hotinit, so
//     clients that connect meanwhile wait for the next generation;
//   - connections that were accepted are served, also those that have not sent
//     anything yet;
//   - each answer from now on says "Connection: close" (HTTP/2: GOAWAY), so the
//     client itself drops the connection after it and sends nothing more on it;
//   - a connection on which nothing happens for [Drain.Idle] is closed: its
//     descriptor is looked at once more, then it is shut for writing and read
//     until the client's end, so that the client sees an orderly end and never
//     a reset.
//
// What remains is what no server can avoid: a client that sends a request on
// a connection that was silent for all of Drain.Idle, at the very instant in
// which the end of that connection travels towards it. RFC 9112, section 9.5,
// asks clients to expect that at any time; the request was not read, so it can
// be sent again. Serve counts such requests and logs the number.
//
// # Descriptors
//
// The inherited descriptors stay open until the process ends, are marked
// close-on-exec so that programs which the server starts do not get them, and
// stay non-blocking if they were: that flag is shared with the other
// generations. Each call makes listeners of its own from duplicates.
//
// To read the package: ports.go is the protocol, inherited.go makes listeners
// of descriptors, notify.go talks to hotinit, drain.go is Serve, answer.go says
// in each answer that the connection ends, and conn.go is the connection that
// can be closed without a race.
package listener
