package isolate

import (
	"bytes"
	"io"
	"net"
	"testing"
)

// The buffers that a PIN went through do not keep it, on either end of the socket.
func TestNoPINStays(t *testing.T) {
	t.Attr("requirement", "B-36")
	pin := []byte("a PIN of 20 letters.")
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	read := make(chan []byte, 1)
	go func() {
		b := make([]byte, len(pin))
		_, _ = io.ReadFull(there, b)
		read <- b
	}()
	w := newWire(here)
	var out []byte
	if err := w.send(func(b []byte, _ uint64) []byte {
		out = append(b, pin...)
		return out
	}); err != nil {
		t.Fatal(err)
	}
	if got := <-read; !bytes.Equal(got, pin) {
		t.Fatalf("sent %q", got)
	}
	w.mu.Lock()
	for w.busy {
		w.drained.Wait()
	}
	if bytes.Contains(out, pin) {
		t.Error("it stays where it was sent from")
	}
	w.mu.Unlock()

	answer := make(chan pinAnswer, 1)
	s := &server{pins: map[uint64]chan pinAnswer{7: answer}}
	f := frame{request: 7, body: append([]byte{0}, pin...)}
	if err := s.gotPIN(f); err != nil {
		t.Fatal(err)
	}
	if a := <-answer; a.err != nil || a.pin.Reveal() != string(pin) {
		t.Errorf("arrived: %v", a.err)
	}
	if bytes.Contains(f.body, pin) {
		t.Error("it stays where it was received")
	}
}
