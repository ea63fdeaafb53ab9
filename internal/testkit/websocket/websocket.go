// Package websocket is as much of RFC 6455 as the tests need: short messages in one
// frame each, from both sides.
package websocket

import (
	"bufio"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
)

// Kinds of frames.
const (
	Text  = 1
	Close = 8
)

// GoingAway is the code of a server that ends: the client may connect anew.
const GoingAway = 1001

// Conn is a connection after its handshake.
type Conn struct {
	net.Conn
	in     *bufio.Reader
	client bool
}

func accept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// Accept answers a request for a WebSocket.
func Accept(w http.ResponseWriter, r *http.Request) (*Conn, error) {
	key := r.Header.Get("Sec-WebSocket-Key")
	if key == "" {
		http.Error(w, "this is for WebSockets", http.StatusBadRequest)
		return nil, fmt.Errorf("%s is no request for a WebSocket", r.URL)
	}
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", accept(key))
	if err != nil {
		c.Close()
		return nil, err
	}
	return &Conn{c, rw.Reader, false}, nil
}

// Dial makes a connection one.
func Dial(c net.Conn, host, path string) (*Conn, error) {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	key := base64.StdEncoding.EncodeToString(b)
	_, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n", path, host, key)
	if err != nil {
		return nil, err
	}
	in := bufio.NewReader(c)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-WebSocket-Accept") != accept(key) {
		return nil, fmt.Errorf("answered %s", resp.Status)
	}
	return &Conn{c, in, true}, nil
}

// Write sends a frame with fewer than 126 bytes.
func (c *Conn) Write(kind byte, payload []byte) error {
	frame := []byte{0x80 | kind, byte(len(payload))}
	if c.client { // which has to mask what it sends
		frame[1] |= 0x80
		mask := make([]byte, 4)
		_, _ = rand.Read(mask)
		frame = append(frame, mask...)
		for i, b := range payload {
			frame = append(frame, b^mask[i%4])
		}
	} else {
		frame = append(frame, payload...)
	}
	_, err := c.Conn.Write(frame)
	return err
}

// Read waits for a frame.
func (c *Conn) Read() (kind byte, payload []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(c.in, head[:]); err != nil {
		return 0, nil, err
	}
	n, masked := head[1]&0x7f, head[1]&0x80 != 0
	if n > 125 {
		return 0, nil, fmt.Errorf("a frame of more than 125 bytes")
	}
	var mask [4]byte
	if masked {
		if _, err := io.ReadFull(c.in, mask[:]); err != nil {
			return 0, nil, noEOF(err)
		}
	}
	payload = make([]byte, n)
	if _, err := io.ReadFull(c.in, payload); err != nil {
		return 0, nil, noEOF(err)
	}
	for i := range payload {
		payload[i] ^= mask[i%4]
	}
	return head[0] & 0x0f, payload, nil
}

// Away is the payload of a frame of kind Close that says GoingAway.
func Away() []byte { return binary.BigEndian.AppendUint16(nil, GoingAway) }

// Code is the code in such a payload.
func Code(payload []byte) int {
	if len(payload) < 2 {
		return 0
	}
	return int(binary.BigEndian.Uint16(payload))
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
