// Package tsa is Signet's time-stamp authority: it says when a signature existed, in RFC 3161 tokens that anybody can verify
// offline, and says nothing while its clock is not to be believed.
//
// # The problem
//
// The time of a signature is what its token says, for decades. Nobody outside can tell later that the clock was wrong. So the time comes from the
// server's own clock and from nothing that a client sends, and a clock in doubt stops signing instead of lying:
//
//   - the clock is behind the ledger's last entry: time would go back;
//   - the clock is behind the newest token of this process;
//   - the clock has moved against the machine's monotonic clock since start by more than [Config].MaxStep: somebody set it, or the machine
//     slept. Which of the two times is right cannot be told from inside. The doubt stays until the clocks agree again or the
//     process is started anew, by somebody who has looked at the clock;
//   - those that measure the clock ([Discipline]: the kernel, chrony, NTP servers) do not vouch that it is as accurate as tokens say;
//   - the certificate does not hold at that time.
//
// # The format
//
// Tokens are those of package rfc3161 in the strict profile. The imprint of a signature is the SHA-256 of its raw bytes. A serial number is 159 bits:
// the minutes since 1970 above 128 random bits, so that it is unique without a store, and later ones are larger.
//
// # Use
//
//	authority, err := tsa.New(tsa.Config{…})
//	token, genTime, err := authority.Stamp(ctx, signature)
//
// Errors: [ErrClock] and [ErrCertificate] need an operator; what Sign returned comes back wrapped (keystore.ErrUnavailable can be tried
// again later). Nothing is durable here: a token counts once the ledger holds the entry that names it.
package tsa

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/signetd/signet/api/rfc3161"
	"github.com/signetd/signet/keystore"
)

// Errors of this package. Compare with errors.Is.
var (
	// ErrClock says that the clock is not to be believed, so that no token was made. Look at the clock and its
	// synchronisation, set it right, and start the server again.
	ErrClock = errors.New("the clock is not to be trusted, nothing is time-stamped")
	// ErrCertificate says that the authority's certificate does not hold at the time. Issue a new one.
	ErrCertificate = rfc3161.ErrCertificate
	// ErrConfig says that the authority's parts do not fit together.
	ErrConfig = rfc3161.ErrConfig
)

// Config is all that an authority is made of. Every field without a default is needed.
type Config struct {
	Key         keystore.ID           // the key's name, for errors
	Public      crypto.PublicKey      // the key as enrolled; it must be the certificate's
	Certificate *x509.Certificate     // see rfc3161.Issuer
	Chain       []*x509.Certificate   // intermediates, and the root if need be (it is left out of tokens)
	Policy      asn1.ObjectIdentifier // stands in each token
	Accuracy    time.Duration         // how far the clock may be off: 1 µs to 1 s

	// Clock is the server's one clock. Its readings may carry a monotonic reading, as those of time.Now do.
	Clock func() time.Time
	// Monotonic tells how long the process has been running, whatever is done to the clock. Leave it nil in a server: the monotonic part of
	// Clock's readings then counts, which is read at the same instant. Without either, setting the clock ahead is not noticed.
	Monotonic func() time.Duration
	// MaxStep is how far Clock may move against the monotonic clock. Zero means Accuracy.
	MaxStep time.Duration
	// Doubt says why the clock is not believed by those that measure it, see [Discipline]; nil: nobody does.
	Doubt func() error
	// LastEntry returns the time of the ledger's last entry, zero if there is none.
	LastEntry func() time.Time

	// Sign signs with the key and verifies what comes back against Public before it returns, as keystore.Store.Sign does.
	Sign func(ctx context.Context, message []byte) ([]byte, error)
}

// Authority makes time-stamps. It may be used by several goroutines at once.
type Authority struct {
	key    keystore.ID
	issuer rfc3161.Issuer
	clock  *clock
}

// New checks that the parts fit together. It signs nothing and does not judge the clock yet: see [Authority.Ready].
func New(c Config) (*Authority, error) {
	if c.Clock == nil || c.LastEntry == nil || c.Sign == nil || c.Certificate == nil {
		return nil, fmt.Errorf("%w: Clock, LastEntry, Sign and Certificate are all needed", ErrConfig)
	}
	if err := c.Key.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if !keystore.SamePublic(c.Public, c.Certificate.PublicKey) {
		return nil, fmt.Errorf("%w: the certificate %q is not that of the key %q", ErrConfig, c.Certificate.Subject, c.Key)
	}
	if c.MaxStep < 0 {
		return nil, fmt.Errorf("%w: MaxStep is negative", ErrConfig)
	}
	if c.MaxStep == 0 {
		c.MaxStep = c.Accuracy
	}
	a := &Authority{
		key: c.Key,
		issuer: rfc3161.Issuer{
			Certificate: c.Certificate,
			Chain:       c.Chain,
			Policy:      c.Policy,
			Accuracy:    c.Accuracy,
			Sign:        c.Sign,
			Serial:      func() *big.Int { return serial(c.Clock()) },
		},
		clock: newClock(c),
	}
	if err := a.issuer.Check(); err != nil {
		return nil, fmt.Errorf("time-stamp key %q: %w", c.Key, err)
	}
	return a, nil
}

// Rotated returns an authority with another key and certificate that goes on with the clock of this one: what this one has given out, and
// what it has seen of the clock since the start, still counts.
func (a *Authority) Rotated(c Config) (*Authority, error) {
	next, err := New(c)
	if err != nil {
		return nil, err
	}
	next.clock = a.clock
	return next, nil
}

// serial returns a number of 159 bits: the minutes since 1970, and 128 random bits.
func serial(now time.Time) *big.Int {
	const minutes = 159 - 128 // enough bits until the year 6053
	n := big.NewInt(max(0, now.Unix()/60) & (1<<minutes - 1))
	var random [16]byte
	rand.Read(random[:])
	return n.Lsh(n, 128).Or(n, new(big.Int).SetBytes(random[:]))
}

// Stamp makes a token for a signature: its imprint is the SHA-256 of the signature's raw bytes, it has no nonce, and carries the
// certificate. It returns the token in DER and its time.
func (a *Authority) Stamp(ctx context.Context, signature []byte) (token []byte, genTime time.Time, err error) {
	if len(signature) == 0 {
		return nil, time.Time{}, errors.New("there is no signature to time-stamp")
	}
	imprint := sha256.Sum256(signature)
	return a.issue(ctx, rfc3161.Request{Hash: crypto.SHA256, Imprint: imprint[:], CertReq: true})
}

func (a *Authority) issue(ctx context.Context, r rfc3161.Request) ([]byte, time.Time, error) {
	genTime, err := a.clock.now()
	if err != nil {
		return nil, time.Time{}, err
	}
	token, err := a.issuer.Issue(ctx, r, genTime)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("time-stamp with key %q: %w", a.key, err)
	}
	return token, genTime, nil
}

// Respond answers a TimeStampReq with a TimeStampResp. A request that must be refused is refused in the response, without an error. Where the
// authority itself cannot serve (clock, certificate, HSM), the response says so without detail, and the cause is the error: both are returned.
func (a *Authority) Respond(ctx context.Context, request []byte) (response []byte, err error) {
	req, err := rfc3161.ParseRequest(request)
	if err == nil {
		var token []byte
		if token, _, err = a.issue(ctx, req); err == nil {
			return rfc3161.EncodeResponse(token), nil
		}
	}
	var refusal *rfc3161.Refusal
	switch {
	case errors.As(err, &refusal):
		return rfc3161.EncodeRefusal(refusal.FailInfo, refusal.Text), nil
	case errors.Is(err, ErrClock):
		return rfc3161.EncodeRefusal(rfc3161.TimeNotAvailable, "the authority's clock is not to be trusted now"), err
	default:
		return rfc3161.EncodeRefusal(rfc3161.SystemFailure, "the authority cannot sign now"), err
	}
}

// ClockDoubt says why the clock is not believed: because of those who measure it, or because it has moved against the monotonic clock; nil if it is.
func (a *Authority) ClockDoubt() error {
	_, err := a.clock.believed()
	return err
}

// Ready reports whether Stamp would get as far as signing: whether the clock is to be believed and the certificate holds. For health checks.
func (a *Authority) Ready() error {
	now, err := a.clock.now()
	if err != nil {
		return err
	}
	if c := a.issuer.Certificate; now.Before(c.NotBefore) || now.After(c.NotAfter) {
		return fmt.Errorf("%w: that of the time-stamp key %q holds from %s to %s", ErrCertificate, a.key,
			c.NotBefore.Format(time.RFC3339), c.NotAfter.Format(time.RFC3339))
	}
	return nil
}
