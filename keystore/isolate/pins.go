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

// Refusals are the PINs that tokens refused. It keeps none of them, only what tells them again, under a key that is fresh each time. It may be
// used for several tokens, which their settings tell apart.
type Refusals struct {
	key [32]byte

	mu      sync.Mutex
	refused map[[32]byte]bool
}

// NewRefusals returns a memory of PINs, for [Config].Refusals.
func NewRefusals() *Refusals {
	r := &Refusals{refused: make(map[[32]byte]bool)}
	rand.Read(r.key[:])
	return r
}

func (r *Refusals) mac(settings []byte, pin keystore.Secret) (mac [32]byte) {
	token := sha256.Sum256(settings)
	h := hmac.New(sha256.New, r.key[:])
	h.Write(token[:])
	h.Write([]byte(pin.Reveal()))
	h.Sum(mac[:0])
	return mac
}

func (r *Refusals) add(mac [32]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused[mac] = true
}

func (r *Refusals) has(mac [32]byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.refused[mac]
}

// pins gives the PIN to one worker at a time, and the next one waits until it is known what came of it: a wrong one is tried once,
// whatever number of processes there is.
type pins struct {
	source   keystore.PINSource
	settings []byte
	refused  *Refusals
	turn     chan struct{} // held by the one who tries

	mu   sync.Mutex
	last keystore.Secret // to keep it out of the log
}

func newPINs(c Config) *pins {
	return &pins{source: c.PIN, settings: c.Settings, refused: c.Refusals, turn: make(chan struct{}, 1)}
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
			l.pins.refused.add(l.mac)
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
	p.mu.Lock()
	p.last = pin
	p.mu.Unlock()
	if mac = p.refused.mac(p.settings, pin); p.refused.has(mac) {
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
