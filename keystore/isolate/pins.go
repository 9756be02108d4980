package isolate

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/signetd/signet/keystore"
)

// pins gives the PIN to one worker at a time, and the next one waits until it is known what came of it: a wrong one is tried once,
// whatever number of processes there is.
type pins struct {
	source keystore.PINSource
	turn   chan struct{} // held by the one who tries
	key    [32]byte

	mu      sync.Mutex
	refused map[[32]byte]bool
	last    keystore.Secret // to keep it out of the log
}

func newPINs(source keystore.PINSource) *pins {
	p := &pins{source: source, turn: make(chan struct{}, 1), refused: make(map[[32]byte]bool)}
	rand.Read(p.key[:])
	return p
}

// An outcome is what came of a PIN.
type outcome int

const (
	unknown outcome = iota
	accepted
	refused
)

// A lease is a PIN that is being tried.
type lease struct {
	pins  *pins
	mac   [32]byte
	once  sync.Once
	timer *time.Timer
}

// end says what came of it. The first to say so counts.
func (l *lease) end(o outcome) {
	if l == nil {
		return
	}
	l.once.Do(func() {
		if o == refused {
			l.pins.mu.Lock()
			l.pins.refused[l.mac] = true
			l.pins.mu.Unlock()
		}
		<-l.pins.turn
	})
}

var errRefusedPIN = fmt.Errorf("%w: it refused this PIN before, so it is not tried again; change it in the token, and then where it comes from",
	keystore.ErrPIN)

// give returns the PIN and waits for its turn before that. Limit is how long it may take to know what came of it; 0 is as long as it takes.
func (p *pins) give(ctx context.Context, limit time.Duration) (keystore.Secret, *lease, error) {
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return keystore.Secret{}, nil, fmt.Errorf("no PIN: another worker process is trying it: %w", context.Cause(ctx))
	}
	l := &lease{pins: p}
	pin, mac, err := p.get(ctx)
	if err != nil {
		l.end(unknown)
		return keystore.Secret{}, nil, err
	}
	l.mac = mac
	if limit > 0 {
		l.timer = time.AfterFunc(limit, func() { l.end(unknown) })
	}
	return pin, l, nil
}

// get asks the source. A PIN that was refused is an error.
func (p *pins) get(ctx context.Context) (pin keystore.Secret, mac [32]byte, err error) {
	if p.source == nil {
		return pin, mac, fmt.Errorf("%w: no PIN given", keystore.ErrPIN)
	}
	if pin, err = p.source(ctx); err != nil {
		return pin, mac, fmt.Errorf("%w: %w", keystore.ErrPIN, err)
	}
	if len(pin.Reveal()) > maxPIN {
		return pin, mac, fmt.Errorf("%w: the PIN has more than %d bytes", keystore.ErrPIN, maxPIN)
	}
	h := hmac.New(sha256.New, p.key[:])
	h.Write([]byte(pin.Reveal()))
	h.Sum(mac[:0])
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = pin
	if p.refused[mac] {
		return keystore.Secret{}, mac, errRefusedPIN
	}
	return pin, mac, nil
}

const maxPIN = 1024

// redact takes the PIN out of a text.
func (p *pins) redact(text string) string {
	p.mu.Lock()
	pin := p.last
	p.mu.Unlock()
	if pin.Empty() {
		return text
	}
	return strings.ReplaceAll(text, pin.Reveal(), pin.String())
}
