package isolate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signetd/signet/keystore"
)

// Hello is what the supervisor tells a worker process when it has started.
type Hello struct {
	Process  int                // which of the processes side by side it is, from 0
	Settings []byte             // Config.Settings
	PIN      keystore.PINSource // asks the supervisor
}

// A Forgetter is a token that can drop what it knows of a key, because another process destroyed it: handles, copies, that it was
// there. A worker whose token is none is replaced instead.
type Forgetter interface {
	Forget(ctx context.Context, id keystore.ID) error
}

const (
	greetLimit = 30 * time.Second       // for the supervisor's part of the greeting
	orphanWait = 2 * time.Second        // for the token to be closed when the supervisor has gone
	loginWatch = 10 * time.Second       // for a login to show whether the PIN was right
	loginLook  = 2 * time.Millisecond   // how often
	maxServed  = 4096                   // calls at the same time
	byeWait    = 500 * time.Millisecond // for the answers to the last calls to leave
)

// Serve is what a worker process does: it opens the token that the supervisor names and does what it is asked, until it is told to end
// or the supervisor has gone, and closes the token. The program ends after that.
func Serve(ctx context.Context, conn net.Conn, open func(context.Context, Hello) (keystore.Token, error)) error {
	build, err := Build()
	if err != nil {
		return err
	}
	return serve(ctx, conn, build, open)
}

func serve(ctx context.Context, conn net.Conn, build string, open func(context.Context, Hello) (keystore.Token, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	s := &server{wire: newWire(conn), ctx: ctx, calls: make(map[uint64]context.CancelFunc), pins: make(map[uint64]chan pinAnswer)}
	s.wire.crowd = &s.busy
	body, err := s.greet(build)
	if err != nil {
		return err
	}
	var settings wireSettings
	if err := json.Unmarshal(body, &settings); err != nil {
		return fmt.Errorf("%w: the settings: %w", errProtocol, err)
	}
	s.opening = make(chan struct{})
	go s.open(func() (keystore.Token, error) {
		return open(ctx, Hello{Process: settings.Process, Settings: settings.Settings, PIN: s.askPIN})
	})
	err = s.loop()
	cancel()
	if s.said.Load() { // bye
		<-s.left
		return s.closeErr
	}
	s.orphaned()
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: the service that this worker process belongs to has gone", keystore.ErrUnavailable)
	}
	return err
}

type wireSettings struct {
	Process  int
	Settings []byte
}

type server struct {
	wire    *wire
	ctx     context.Context
	token   atomic.Pointer[keystore.Token]
	opening chan struct{} // closed when the token is open or is not
	said    atomic.Bool   // the supervisor said bye
	left    chan struct{} // closed when everything has been said after that
	served  sync.WaitGroup
	busy    atomic.Int64 // calls that are being made

	closeErr error

	mu    sync.Mutex
	calls map[uint64]context.CancelFunc
	asked uint64
	pins  map[uint64]chan pinAnswer
}

type pinAnswer struct {
	pin keystore.Secret
	err error
}

// greet says hello and returns the settings.
func (s *server) greet(build string) ([]byte, error) {
	s.tell(hello, 0, appendHello(nil, build))
	if err := s.wire.conn.SetReadDeadline(time.Now().Add(greetLimit)); err != nil {
		return nil, err
	}
	f, err := s.wire.read()
	if err != nil {
		return nil, fmt.Errorf("the service says nothing: %w", err)
	}
	if f.kind != hello {
		return nil, fmt.Errorf("%w: it begins with a frame of kind %d", errProtocol, f.kind)
	}
	if err := checkHello(f.body, build); err != nil {
		return nil, err
	}
	if f, err = s.wire.read(); err != nil {
		return nil, fmt.Errorf("the service sends no settings: %w", err)
	}
	if f.kind != setup {
		return nil, fmt.Errorf("%w: a frame of kind %d instead of the settings", errProtocol, f.kind)
	}
	return f.body, s.wire.conn.SetReadDeadline(time.Time{})
}

// tell sends a frame. If that fails the reading end notices.
func (s *server) tell(k kind, request uint64, parts ...[]byte) {
	epoch := uint64(0)
	if t := s.token.Load(); t != nil {
		epoch = (*t).Epoch()
	}
	_ = s.wire.send(func(b []byte, _ uint64) []byte { return appendFrame(b, k, request, epoch, parts...) })
}

func (s *server) open(open func() (keystore.Token, error)) {
	defer close(s.opening)
	t, err := open()
	if err != nil {
		s.tell(failed, 0, encodeError(err))
		return
	}
	s.token.Store(&t)
	s.tell(ready, 0, s.status())
}

// loop reads what the supervisor wants.
func (s *server) loop() error {
	for {
		f, err := s.wire.read()
		if err != nil {
			return err
		}
		switch f.kind {
		case givePIN:
			err = s.gotPIN(f)
		case cancel:
			s.mu.Lock()
			leave := s.calls[f.request]
			s.mu.Unlock()
			if leave != nil {
				leave()
			}
		case ping:
			s.tell(pong, f.request, s.status())
		case sign, generate, find, destroy, forget, knownAnswers, secretKey:
			err = s.begin(f)
		case bye:
			if !s.said.Swap(true) {
				s.left = make(chan struct{})
				go s.leave()
			}
			<-s.left
			return nil
		default:
			err = fmt.Errorf("%w: a frame of kind %d", errProtocol, f.kind)
		}
		if err != nil {
			return err
		}
	}
}

// status is JSON, or nothing if the token has none.
func (s *server) status() []byte {
	t := s.token.Load()
	if t == nil {
		return nil
	}
	r, ok := (*t).(keystore.Reporter)
	if !ok {
		return nil
	}
	all := r.Status()
	if len(all) == 0 {
		return nil
	}
	b, err := json.Marshal(all[0])
	if err != nil || len(b) > maxFrame/2 {
		return nil
	}
	return b
}

// begin starts a call in a goroutine of its own: the token has the workers.
func (s *server) begin(f frame) error {
	t := s.token.Load()
	if t == nil {
		return fmt.Errorf("%w: a call before the token is open", errProtocol)
	}
	limit := longest
	if f.extra != 0 {
		limit = time.Duration(min(f.extra, uint64(limit)))
	}
	ctx, leave := context.WithTimeout(s.ctx, limit)
	s.mu.Lock()
	_, taken := s.calls[f.request]
	if taken || len(s.calls) >= maxServed {
		s.mu.Unlock()
		leave()
		return fmt.Errorf("%w: request %d is open, or %d others are", errProtocol, f.request, maxServed)
	}
	s.calls[f.request] = leave
	s.mu.Unlock()
	c := call{server: s, token: *t, kind: f.kind, request: f.request}
	c.body = append(c.room[:0], f.body...)
	if f.kind == sign {
		s.served.Add(1)
		s.busy.Add(1)
		go c.sign(ctx)
		return nil
	}
	s.served.Go(func() { c.other(ctx) })
	return nil
}

// A call is one that is being made.
type call struct {
	server  *server
	token   keystore.Token
	kind    kind
	request uint64
	body    []byte
	room    [192]byte
}

func (c *call) end() {
	s := c.server
	s.mu.Lock()
	leave := s.calls[c.request]
	delete(s.calls, c.request)
	s.mu.Unlock()
	leave()
}

func (c *call) sign(ctx context.Context) {
	defer c.server.served.Done()
	signature, err := func() ([]byte, error) {
		a, id, input, err := parseSign(c.body)
		if err != nil {
			return nil, err
		}
		return c.token.Sign(ctx, keystore.ID(id), a, input)
	}()
	c.end()
	defer c.server.busy.Add(-1)
	if err != nil {
		c.server.tell(failed, c.request, encodeError(err))
		return
	}
	epoch := c.token.Epoch()
	_ = c.server.wire.send(func(b []byte, _ uint64) []byte { return appendFrame(b, signed, c.request, epoch, signature) })
}

// wireKey is a key on its way. An interface has no JSON form to come back from, so the public key goes beside it.
type wireKey struct {
	Key    keystore.Key
	Public []byte // SubjectPublicKeyInfo
}

func (c *call) other(ctx context.Context) {
	b, err := c.answer(ctx)
	c.end()
	if err == nil && len(b) > maxFrame-headSize {
		err = fmt.Errorf("%w: an answer of %d bytes is too long", keystore.ErrUnavailable, len(b))
	}
	if err != nil {
		c.server.tell(failed, c.request, encodeError(err))
		return
	}
	c.server.tell(done, c.request, b)
}

func (c *call) answer(ctx context.Context) ([]byte, error) {
	switch c.kind {
	case generate:
		var spec keystore.Spec
		if err := json.Unmarshal(c.body, &spec); err != nil {
			return nil, fmt.Errorf("%w: %w", errProtocol, err)
		}
		return encodeKey(c.token.Generate(ctx, spec))
	case find:
		return encodeKey(c.token.Find(ctx, keystore.ID(c.body)))
	case destroy:
		return nil, c.token.Destroy(ctx, keystore.ID(c.body))
	case forget:
		if f, ok := c.token.(Forgetter); ok {
			return nil, f.Forget(ctx, keystore.ID(c.body))
		}
		return nil, fmt.Errorf("%w: a token of type %T cannot forget", keystore.ErrInvalid, c.token)
	case secretKey:
		return answerMAC(ctx, c.token, c.body)
	default: // knownAnswers
		tester, ok := c.token.(keystore.KnownAnswerTester)
		if !ok {
			return []byte("{}"), nil
		}
		ran, err := tester.KnownAnswers(ctx)
		a := wireAnswers{Ran: ran}
		if err != nil {
			a.Failed = encodeError(err)
		}
		return json.Marshal(a)
	}
}

type wireAnswers struct {
	Ran    []string
	Failed []byte
}

// leave closes the token, which ends what waits and lets finish what runs, and says so.
func (s *server) leave() {
	defer close(s.left)
	<-s.opening
	if t := s.token.Load(); t != nil {
		s.closeErr = (*t).Close()
	}
	answered := make(chan struct{})
	go func() { s.served.Wait(); close(answered) }()
	timer := time.NewTimer(byeWait)
	select {
	case <-answered:
	case <-timer.C:
	}
	timer.Stop()
	var body []byte
	if s.closeErr != nil {
		body = encodeError(s.closeErr)
	}
	s.tell(bye, 0, body)
	_ = s.wire.settle()
}

// orphaned gives the token some time to log out.
func (s *server) orphaned() {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		<-s.opening
		if t := s.token.Load(); t != nil {
			_ = (*t).Close()
		}
	}()
	timer := time.NewTimer(orphanWait)
	defer timer.Stop()
	select {
	case <-closed:
	case <-timer.C:
	}
}

// askPIN is the PIN source of the worker.
func (s *server) askPIN(ctx context.Context) (keystore.Secret, error) {
	answer := make(chan pinAnswer, 1)
	s.mu.Lock()
	s.asked++
	request := s.asked
	s.pins[request] = answer
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.pins, request)
		s.mu.Unlock()
	}()
	before := s.loginState()
	s.tell(wantPIN, request)
	select {
	case a := <-answer:
		if a.err == nil && s.token.Load() != nil {
			go s.watchLogin(request, before)
		}
		return a.pin, a.err
	case <-ctx.Done():
		return keystore.Secret{}, ctx.Err()
	case <-s.ctx.Done():
		return keystore.Secret{}, context.Cause(s.ctx)
	}
}

func (s *server) gotPIN(f frame) error {
	defer clear(f.body)
	if len(f.body) < 1 {
		return fmt.Errorf("%w: no PIN and no error", errProtocol)
	}
	var a pinAnswer
	if f.body[0] == 0 {
		a.pin = keystore.NewSecret(string(f.body[1:]))
	} else {
		a.err = decodeError(f.body[1:])
	}
	s.mu.Lock()
	answer := s.pins[f.request]
	delete(s.pins, f.request)
	s.mu.Unlock()
	if answer != nil {
		answer <- a
	}
	return nil
}

// loginState is what shows whether a login went well: each success begins an epoch, each failure is counted.
type loginState struct{ epoch, refused uint64 }

func (s *server) loginState() loginState {
	t := s.token.Load()
	if t == nil {
		return loginState{}
	}
	state := loginState{epoch: (*t).Epoch()}
	if r, ok := (*t).(keystore.Reporter); ok {
		for _, status := range r.Status() {
			for name, n := range status.Errors {
				if refusesPIN(name) {
					state.refused += n
				}
			}
		}
	}
	return state
}

// watchLogin tells the supervisor what came of a PIN, so that it knows whether another process may try it.
func (s *server) watchLogin(request uint64, before loginState) {
	limit := time.NewTimer(loginWatch)
	defer limit.Stop()
	look := time.NewTicker(loginLook)
	defer look.Stop()
	for {
		select {
		case <-limit.C:
			return // the supervisor does not wait for ever either
		case <-s.ctx.Done():
			return
		case <-look.C:
		}
		now := s.loginState()
		switch {
		case now.refused != before.refused:
			s.tell(loggedIn, request, []byte{1})
			return
		case now.epoch != before.epoch:
			s.tell(loggedIn, request, []byte{0})
			return
		}
	}
}

var buildOnce = sync.OnceValues(readBuild)

// Build names the program that runs, as exactly as it can be found out: another build of it has another name.
func Build() (string, error) { return buildOnce() }

func buildInfo() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.String()
	}
	return ""
}
