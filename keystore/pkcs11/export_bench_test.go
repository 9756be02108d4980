package pkcs11

import (
	"context"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
)

// ServiceMeter returns the meter of the time that signatures take in a worker.
func (t *Token) ServiceMeter() *keystore.Meter { return &t.service }

// Computed signs once in a session of its own and reports whether the thread did without waiting for anything.
func (t *Token) Computed(ctx context.Context, id keystore.ID, input []byte) (bool, error) {
	h, err := t.handle(ctx, id)
	if err != nil {
		return false, err
	}
	s, _, err := t.openSession(0)
	if err != nil {
		return false, err
	}
	_, how, rv := t.module.native.sign(uint(s.number), h.kind.sign, uint(h.use), h.kind.input(input), make([]byte, maxRaw))
	if rv != 0 {
		return false, failed("C_Sign", pkcs11.Error(rv))
	}
	return how.computed, t.closeSession(&s)
}

// BareSigner returns what signs with a session of its own, as a worker does, and with nothing around it: no queue, no hand-over, no
// look at the state of the token. One goroutine uses it at a time.
func (t *Token) BareSigner(ctx context.Context, id keystore.ID) (sign func(input []byte) ([]byte, error), end func() error, err error) {
	h, err := t.handle(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	s, _, err := t.openSession(0)
	if err != nil {
		return nil, nil, err
	}
	room := make([]byte, maxRaw)
	sign = func(input []byte) ([]byte, error) {
		n, _, rv := t.module.native.sign(uint(s.number), h.kind.sign, uint(h.use), h.kind.input(input), room)
		if rv != 0 {
			return nil, failed("C_Sign", pkcs11.Error(rv))
		}
		return encodeSignature(h.kind, room[:n])
	}
	return sign, func() error { return t.closeSession(&s) }, nil
}
