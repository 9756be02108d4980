package isolate

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
)

// pair returns both ends of a socket.
func pair(t testing.TB) (net.Conn, net.Conn) {
	t.Helper()
	l, err := net.Listen("unix", "@signet-"+rand.Text())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// serving runs a worker on a fake token and returns the supervisor's end of its socket, and what became of the worker.
func serving(t testing.TB, open func(context.Context, Hello) (keystore.Token, error)) (net.Conn, <-chan error) {
	t.Helper()
	ours, theirs := pair(t)
	ended := make(chan error, 1)
	go func() { ended <- serve(t.Context(), theirs, "build", open) }()
	return ours, ended
}

func fake(context.Context, Hello) (keystore.Token, error) { return keystoretest.NewFake(), nil }

func greeting(build string) []byte {
	settings, _ := json.Marshal(wireSettings{})
	return appendFrame(appendFrame(nil, hello, 0, 0, appendHello(nil, build)), setup, 0, 0, settings)
}

func mustWrite(t testing.TB, c net.Conn, b []byte) {
	t.Helper()
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
}

func mustRead(t testing.TB, w *wire, k kind) frame {
	t.Helper()
	f, err := w.read()
	if err != nil {
		t.Fatal(err)
	}
	if f.kind != k {
		t.Fatalf("a frame of kind %d: %q, want %d", f.kind, f.body, k)
	}
	return f
}

func wait(t testing.TB, ended <-chan error) error {
	t.Helper()
	select {
	case err := <-ended:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("the worker does not end")
		return nil
	}
}

func TestWorkerRefuses(t *testing.T) {
	other := []byte(protocolName)
	other = binary.BigEndian.AppendUint16(other, protocolVersion+1)
	oversize := binary.BigEndian.AppendUint32(nil, maxFrame+1)
	for name, c := range map[string]struct {
		sent []byte
		want string
	}{
		"another build":     {greeting("other"), "builds"},
		"another version":   {appendFrame(nil, hello, 0, 0, append(other, "build"...)), "version"},
		"another protocol":  {appendFrame(nil, hello, 0, 0, []byte("GET / HTTP/1.1")), "no signet-hsm-worker"},
		"no hello":          {appendFrame(nil, sign, 1, 0), "kind"},
		"an oversize frame": {append(greeting("build"), oversize...), "bytes"},
		"a short frame":     {append(greeting("build"), 0, 0, 0, 1, 1), "bytes"},
		"an unknown kind":   {appendFrame(greeting("build"), 200, 1, 0), "kind"},
	} {
		t.Run(name, func(t *testing.T) {
			ours, ended := serving(t, fake)
			mustWrite(t, ours, c.sent)
			if err := wait(t, ended); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestSupervisorRefuses(t *testing.T) {
	later := binary.BigEndian.AppendUint16([]byte(protocolName), protocolVersion+1)
	greet := appendFrame(nil, hello, 0, 0, appendHello(nil, "build"))
	for name, c := range map[string]struct {
		sent []byte
		want error
	}{
		"another build":     {appendFrame(nil, hello, 0, 0, appendHello(nil, "other")), keystore.ErrInvalid},
		"another version":   {appendFrame(nil, hello, 0, 0, append(later, "build"...)), keystore.ErrInvalid},
		"nothing":           {nil, io.EOF},
		"an oversize frame": {append(bytes.Clone(greet), 0xff, 0xff, 0xff, 0xff), errProtocol},
		"an early answer":   {appendFrame(bytes.Clone(greet), signed, 1, 0), errProtocol},
		"a failure":         {appendFrame(bytes.Clone(greet), failed, 0, 0, encodeError(keystore.ErrNotFound)), keystore.ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := pair(t)
			mustWrite(t, theirs, c.sent)
			if err := theirs.(*net.UnixConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			token := &Token{build: "build", pins: newPINs(Config{})}
			if err := token.greet(&process{token: token, wire: newWire(ours)}); !errors.Is(err, c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Requests are answered in any order, and a cancelled one ends.
func TestPipelined(t *testing.T) {
	release := make(chan struct{})
	entered := make(chan struct{})
	ours, ended := serving(t, func(context.Context, Hello) (keystore.Token, error) {
		f := keystoretest.NewFake()
		f.SetFault(func(ctx context.Context, call string) error {
			if _, limited := ctx.Deadline(); call != "Find" || !limited {
				return nil
			}
			entered <- struct{}{}
			select {
			case <-release:
				return nil
			case <-ctx.Done():
				return expired(ctx)
			}
		})
		return f, nil
	})
	w := newWire(ours)
	mustWrite(t, ours, greeting("build"))
	mustRead(t, w, hello)
	mustRead(t, w, ready)
	spec, _ := json.Marshal(keystore.Spec{ID: "k", Algorithm: keystore.ECDSAP256})
	mustWrite(t, ours, appendFrame(nil, generate, 1, 0, spec))
	key, err := decodeKey(bytes.Clone(mustRead(t, w, done).body))
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, ours, appendFrame(nil, find, 2, uint64(time.Hour), []byte("k")))
	<-entered
	mustWrite(t, ours, appendSign(nil, 3, uint64(time.Hour), 0, "k", make([]byte, 32)))
	f := mustRead(t, w, signed)
	if f.request != 3 || f.extra == 0 {
		t.Errorf("request %d, epoch %d", f.request, f.extra)
	}
	_ = key
	mustWrite(t, ours, appendFrame(nil, cancel, 2, 0))
	if f := mustRead(t, w, failed); f.request != 2 || !errors.Is(decodeError(f.body), context.Canceled) {
		t.Errorf("request %d: %v", f.request, decodeError(f.body))
	}
	mustWrite(t, ours, appendFrame(nil, find, 4, uint64(time.Millisecond), []byte("k")))
	<-entered
	if f := mustRead(t, w, failed); f.request != 4 || !errors.Is(decodeError(f.body), context.DeadlineExceeded) {
		t.Errorf("request %d: %v", f.request, decodeError(f.body))
	}
	mustWrite(t, ours, appendFrame(nil, bye, 0, 0))
	mustRead(t, w, bye)
	if err := wait(t, ended); err != nil {
		t.Error(err)
	}
}

// When the supervisor is gone the worker closes its token and ends.
func TestSupervisorGone(t *testing.T) {
	f := keystoretest.NewFake()
	ours, ended := serving(t, func(context.Context, Hello) (keystore.Token, error) { return f, nil })
	w := newWire(ours)
	mustWrite(t, ours, greeting("build"))
	mustRead(t, w, hello)
	mustRead(t, w, ready)
	ours.Close()
	if err := wait(t, ended); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if _, err := f.Find(context.Background(), "k"); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("the token is open: %v", err)
	}
}

func TestErrorsOnTheWay(t *testing.T) {
	for _, want := range sentinels {
		err := decodeError(encodeError(errors.Join(errors.New("why"), want)))
		for _, s := range sentinels {
			if errors.Is(err, s) != errors.Is(want, s) {
				t.Errorf("%v became %v, which is %t for %v", want, err, errors.Is(err, s), s)
			}
		}
		if !strings.Contains(err.Error(), "why") {
			t.Errorf("got %v", err)
		}
	}
	var u *keystore.UnavailableError
	err := decodeError(encodeError(unavailable(123*time.Millisecond, errors.New("why"))))
	if !errors.As(err, &u) || u.RetryAfter != 123*time.Millisecond {
		t.Errorf("got %v", err)
	}
	if err := decodeError(encodeError(errors.New("something\x1b[31m\nelse"))); !errors.Is(err, keystore.ErrUnavailable) ||
		strings.ContainsAny(err.Error(), "\x1b\n") {
		t.Errorf("got %q", err)
	}
	if text := decodeError(encodeError(errors.New(strings.Repeat("x", 1<<20)))).Error(); len(text) > maxText+10 {
		t.Errorf("a text of %d bytes", len(text))
	}
}

// What no process has begun was surely not sent.
func TestHandedOver(t *testing.T) {
	ours, _ := pair(t)
	w := newWire(ours)
	big := make([]byte, 1<<20) // more than the socket takes
	send := func() *uint64 {
		place := ^uint64(0)
		if err := w.send(func(b []byte, at uint64) []byte { place = at; return append(b, big...) }); err != nil {
			t.Fatal(err)
		}
		return &place
	}
	var places []*uint64
	for range 4 {
		places = append(places, send())
	}
	w.fail(errors.New("dead"))
	if !w.handedOver(places[0]) || w.handedOver(places[3]) {
		t.Errorf("%t, %t", w.handedOver(places[0]), w.handedOver(places[3]))
	}
	never := ^uint64(0)
	if w.handedOver(&never) {
		t.Error("what was not even collected was sent")
	}
	if err := w.send(func(b []byte, _ uint64) []byte { t.Error("sent"); return b }); err == nil {
		t.Error("no error")
	}
}

// A library that writes the PIN to its standard error does not bring it into the log.
func TestNoPINInTheLog(t *testing.T) {
	var book bytes.Buffer
	p := newPINs(Config{PIN: keystore.PINFixed(keystore.NewSecret("user-1234")), Refusals: NewRefusals()})
	l := &lineLog{log: slog.New(slog.NewTextHandler(&book, nil)), redact: p.redact}
	if _, _, err := p.get(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"C_Login(us", "er-1234) = 0", "\nrest"} {
		if _, err := l.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	l.end()
	if text := book.String(); strings.Contains(text, "user-1234") || !strings.Contains(text, "C_Login([redacted]) = 0") || !strings.Contains(text, "rest") {
		t.Errorf("got %s", text)
	}
}

// FuzzWorker sends anything to a worker: it neither panics nor does it hang.
func FuzzWorker(f *testing.F) {
	spec, _ := json.Marshal(keystore.Spec{ID: "k", Algorithm: keystore.ECDSAP256})
	f.Add(appendFrame(nil, generate, 1, 0, spec))
	f.Add(appendSign(appendFrame(nil, generate, 1, 0, spec), 2, 0, 0, "k", make([]byte, 32)))
	f.Add(appendFrame(appendFrame(nil, find, 1, 1, []byte("k")), cancel, 1, 0))
	f.Add(appendFrame(appendFrame(nil, ping, 0, 0), bye, 0, 0))
	f.Add(appendFrame(nil, givePIN, 7, 0, []byte{1, 0}))
	f.Add(appendFrame(nil, sign, 1, 0, []byte{9, 200}))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, sent []byte) {
		ours, ended := serving(t, fake)
		w := newWire(ours)
		mustWrite(t, ours, greeting("build"))
		mustRead(t, w, hello)
		mustRead(t, w, ready)
		_, _ = ours.Write(sent) // it may have ended
		_ = ours.(*net.UnixConn).CloseWrite()
		_, _ = io.Copy(io.Discard, ours)
		_ = wait(t, ended)
	})
}

// FuzzSupervisor lets a worker answer anything: the supervisor neither panics, nor hangs, nor takes a signature for a call that is none.
func FuzzSupervisor(f *testing.F) {
	f.Add(appendFrame(nil, signed, 1, 1, []byte("signature")))
	f.Add(appendFrame(nil, signed, 2, 1, []byte("signature")))
	f.Add(appendFrame(nil, done, 2, 1, []byte("{}")))
	f.Add(appendFrame(nil, failed, 1, 1, encodeError(keystore.ErrPolicy)))
	f.Add(appendFrame(nil, failed, 2, 1, []byte{1}))
	f.Add(appendFrame(nil, pong, 0, 2, []byte(`{"State":"working","Signatures":{"a":1}}`)))
	f.Add(appendFrame(appendFrame(nil, wantPIN, 1, 0), loggedIn, 1, 0, []byte{1}))
	f.Add(appendFrame(nil, bye, 0, 0, []byte{0}))
	f.Add([]byte{0, 0, 0, 17})
	f.Fuzz(func(t *testing.T, sent []byte) {
		ours, theirs := pair(t)
		life, end := context.WithCancel(t.Context())
		defer end()
		log := slog.New(slog.DiscardHandler)
		token := &Token{
			config: Config{Log: log, Start: time.Second}, life: life, pins: newPINs(Config{PIN: keystore.PINFixed(keystore.NewSecret("1234")), Refusals: NewRefusals()}),
		}
		p := &process{
			token: token, wire: newWire(ours), log: &lineLog{log: log}, gone: make(chan struct{}),
			requests: make(map[uint64]*request), warm: map[keystore.ID]struct{}{"k": {}},
		}
		signing, finding := &request{kind: sign, id: "k"}, &request{kind: find}
		ended := make(chan error, 2)
		ask := func(r *request) {
			ended <- p.ask(t.Context(), r, func(b []byte, number, left uint64) []byte { return appendFrame(b, r.kind, number, left) })
		}
		go ask(signing)
		go ask(finding)
		in := newWire(theirs)
		mustReadBoth(t, in)
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		_, _ = theirs.Write(sent)
		_ = theirs.(*net.UnixConn).CloseWrite()
		p.read()
		for range 2 {
			if err := wait(t, ended); err == nil {
				continue
			} else if errors.Is(err, errProtocol) || errors.Is(err, keystore.ErrUnavailable) {
				continue
			}
		}
		if finding.err == nil {
			_, _ = decodeKey(finding.body)
		}
	})
}

// mustReadBoth waits for both requests to be there.
func mustReadBoth(t testing.TB, w *wire) {
	t.Helper()
	for range 2 {
		if _, err := w.read(); err != nil {
			t.Fatal(err)
		}
	}
}
