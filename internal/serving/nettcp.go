package serving

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"hash/maphash"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// mostOfNet bounds what is read of /proc/net: some 50,000 connections.
const mostOfNet = 8 << 20

// procConnections reads the connections from /proc/net, proc_net(5), where
// sock_diag(7) is not to be had: in gVisor, or without the module tcp_diag.
func procConnections(family int, states uint32) ([]connection, error) {
	path, parse := "/proc/net/tcp", parseTCP
	switch family {
	case unix.AF_INET6:
		path = "/proc/net/tcp6"
	case unix.AF_UNIX:
		path, parse = "/proc/net/unix", parseUnixLine
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []connection
	lines := bufio.NewScanner(io.LimitReader(f, mostOfNet))
	for lines.Scan() && len(all) < most {
		if c, state, ok := parse(lines.Bytes()); ok && state < 32 && 1<<state&states != 0 {
			all = append(all, c)
		}
	}
	return all, lines.Err()
}

var seed = maphash.MakeSeed()

// parseTCP reads a line of /proc/net/tcp or tcp6:
//
//	sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt uid timeout inode
//	0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4711 1 …
func parseTCP(line []byte) (c connection, state uint, ok bool) {
	f := bytes.Fields(line)
	if len(f) < 10 {
		return c, 0, false
	}
	host, port, found := bytes.Cut(f[1], []byte{':'})
	if !found || len(host) != 8 && len(host) != 32 {
		return c, 0, false
	}
	c.family = unix.AF_INET6
	if len(host) == 8 {
		c.family = unix.AF_INET
	}
	var words [16]byte
	if _, err := hex.Decode(words[:], host); err != nil {
		return c, 0, false
	}
	// An address is printed as words of 32 bits, each in the machine's order.
	for i := 0; i < len(host)/2; i += 4 {
		binary.NativeEndian.PutUint32(c.addr[i:], binary.BigEndian.Uint32(words[i:]))
	}
	p, err1 := strconv.ParseUint(string(port), 16, 16)
	s, err2 := strconv.ParseUint(string(f[3]), 16, 8)
	inode, err3 := strconv.ParseUint(string(f[9]), 10, 64)
	if err1 != nil || err2 != nil || err3 != nil {
		return c, 0, false
	}
	c.port, c.inode = uint16(p), inode
	// Both addresses name a connection.
	c.key = maphash.Bytes(seed, f[1]) ^ maphash.Bytes(seed, f[2])<<1
	return c, uint(s), true
}

// parseUnixLine reads a line of /proc/net/unix:
//
//	Num       RefCount Protocol Flags    Type St Inode Path
//	0000000000000000: 00000003 00000000 00000000 0001 03 4711 /run/app.sock
func parseUnixLine(line []byte) (c connection, state uint, ok bool) {
	var f [7][]byte
	for i := range f {
		f[i], line, _ = bytes.Cut(bytes.TrimLeft(line, " "), []byte{' '})
	}
	n, err := strconv.ParseUint(string(f[6]), 10, 64)
	if err != nil {
		return c, 0, false
	}
	c = connection{family: unix.AF_UNIX, inode: n, key: n, name: bytes.Clone(line)}
	if len(line) > 0 && line[0] == '@' {
		c.name[0] = 0
	}
	// SS_CONNECTED of linux/net.h is 3; here all states are TCP's.
	if string(f[5]) == "03" {
		return c, stateEstablished, true
	}
	return c, 31, true
}
