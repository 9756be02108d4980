// Package identity knows who calls: signers, services, their credentials and their sessions.
//
// # The problem
//
// An electronic signature is worth what the proof of its signer is worth (21 CFR 11.100, 11.200, 11.300). So a name is
// one person's for ever, nobody but that person ever knows their password, a session never signs, and whoever guesses
// learns nothing: not whether a name exists, not whether it was the name or the password that was wrong, and not by the
// clock either.
//
// # How it is kept
//
// The ledger is the database. Every change of a signer, credential or session is an entry, and the state here
// ([Projection]) is a pure function of the entries. Four things are not in the ledger but beside it, in its private
// store, with a commitment in an entry, so that a swapped one is refused:
//
//   - password verifiers: argon2id, and over it HMAC-SHA-256 under a key that never leaves the HSM ([KeyPasswords]), so that
//     whoever has stolen the database can try no guess; the entries `signer.enrolled`, `signer.renewed` and
//     `signer.credential` of the kinds "password" and "password-verifier" hold the SHA-256 of the whole string;
//   - the seeds of one-time passwords, encrypted under a key that the HSM computes; `signer.credential` of the kind "totp"
//     holds the SHA-256;
//   - the key under which user names are blinded: people type passwords into the name field, so a name that did not
//     lead in is kept as HMAC-SHA-256 alone; the entry `signer.credential` of the kind "user-names" holds the key's
//     SHA-256;
//   - sources (address and device), which can be erased: entries hold the SHA-256 of 32 random bytes and the text.
//
// The commitment of a credential, a signer's key, name and roles are read from their entries, proved by inclusion under
// the last signed checkpoint, never from the projection alone.
//
// # Proofs
//
// [Directory.OpenSession] and [Directory.ProveSignature] compute argon2id exactly once, whatever name and password are:
// unknown names against a decoy. The HSM computes as often, too; where it cannot be asked, nothing is known and nothing
// counted. What a signature takes is what its statement demands, at least; a one-time password counts once, and belongs to
// the password of who has set them up. Later signings of a session take less only where [ContinuousSigning] is on.
//
// Failures are counted durably, by name and by network, both blinded, whether the name is anybody's or not. What has
// failed too often is refused unseen for a while: a name for the networks from which it was guessed, after many more for all from which nobody has logged in; a network; and in a flood all that are not known.
// Delays and locks grow, each lock raises an alert in its own transaction, and an administrator can end it.
//
// Who is in a session proves themselves again in a lane of their own: their failures count against the session, whatever
// name was typed, so a stolen session does not buy more guesses, and what others try under their name does not touch it.
// At most [Config].PasswordChecks run at the same time (64 MiB each); the rest queues, who knocks and who is in a session
// apart, with a deadline, and the queues are bounded.
//
// Sessions are opaque: 256 random bits, of which the entry `session.opened` holds the SHA-256. They end when idle, after
// their lifetime, when used from another address or device, with the process, and with every suspension, revocation or
// change of credential. A service has no token: its client certificate, or the key in it, is pinned, and its first call
// from a place leaves a `session.opened`.
//
// # Services
//
// A service is admitted by pinned client certificates (or the keys in them), or by the URI in certificates of the organisation's CA
// ([ClientAuthorities]). Which, what it may call and seal, from where and how often are its terms: `service.enrolled`, and after it the
// newest `service.changed`. They are read from that entry, proved, with each call, and again in the transaction of a seal; a change holds
// for connections that are open. What was a service's once is never another's.
//
// # Administrators
//
// An administrator invites a person and hands over a one-time code; the person sets the password. The code works once,
// for that user name alone, for ten minutes, and its redemption is an entry with a new key and certificate. Nobody
// renews themselves.
//
// From the second active administrator on there are four eyes: what gives somebody a right is proposed by one
// ([Directory.Act], `act.proposed`) and done when another one, who has proved themselves for it, confirms it
// ([Directory.Confirm], `act.confirmed`, with what it does in the same transaction). The one-time code then comes in
// halves, one from each of them, and neither can redeem it alone. What takes rights away does not wait: suspension,
// revocation and the end of a password take one. Four eyes stay on when the other administrators are gone. Without
// them an administrator who keeps a code back and redeems it takes over a name that its owner then cannot use: it cannot
// happen unseen, but it can happen.
//
// # The first signature
//
// A key's first signature is over the accountability statement (21 CFR 11.10(j)), when the code is redeemed: an in-toto
// statement of the type [manifest.AccountabilityType], time-stamped, in the entry `accountability.signed` of the same
// transaction. It is verified before, as the new password is held against its verifier, so no credential is relied on
// that was not tested (11.300(e)); a signer without it signs nothing.
package identity

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/rights"
)

// Config bounds sessions and guesses. Zero values mean the defaults.
type Config struct {
	Issuer       string // URL of the service, without a slash at the end; needed
	Organisation string // of signers and services that name none; needed
	Argon        ArgonParams

	Continuous   ContinuousSigning          // 11.200(a)(1)(i); off
	Requires     manifest.AuthorizationKind // components that every signature takes at least; password
	PasskeyAlone bool                       // a passkey alone may sign, without user name and password: not with the preset part11
	PasswordAge  time.Duration              // after it a password only serves to change it; 0: it does not age
	TestEvery    time.Duration              // what was not used or tested for so long is overdue; 0: nothing ever is
	Blocklist    *Blocklist                 // passwords that nobody may set besides those that are built in; may be nil

	PasswordChecks int           // at the same time; 2
	QueueTimeout   time.Duration // longest wait for a password check; 10 s
	QueueLength    int           // most that wait; 128

	SessionIdle     time.Duration // 15 min
	SessionLifetime time.Duration // 12 h
	CodeLifetime    time.Duration // 10 min
	BootstrapCode   time.Duration // lifetime of the first administrator's code; 24 h

	LockAfter         int           // failures in a row; 5
	LockFor           time.Duration // 15 min
	Lockout           LockoutConfig // what else bounds guesses
	MinPassword       int           // characters; 15
	MinPasswordSecond int           // characters where there is a second factor; 8

	FourEyes         FourEyes      // auto
	ProposalLifetime time.Duration // a proposal lapses after it; 7 days
	Acts             []ActKind     // kinds of acts of others, for [Directory.Act]

	Sources           Sources            // keep
	ClientAuthorities *ClientAuthorities // the organisation's CAs for services; nil: none
	ServiceMethods    []string           // what services can be allowed to call
	RecordTypes       []string           // and to seal

	Passkeys PasskeyConfig // for whom passkeys are; none

	Accountability  Accountability // what people acknowledge; the newest statement of this release
	LetterReference string         // of the organisation's letter to the agency (21 CFR 11.100(c)); may be empty
	Stamp           Stamp          // needed to enrol who signs

	Clock func() time.Time // time.Now
	Log   *slog.Logger     // slog.Default()
}

func (c Config) withDefaults() (Config, error) {
	if u, err := url.Parse(c.Issuer); err != nil || u.Scheme == "" || u.Host == "" || strings.HasSuffix(c.Issuer, "/") {
		return c, fmt.Errorf("%w: issuer %q; use a URL such as https://sign.example, without a slash at the end", ErrInvalid, c.Issuer)
	}
	if err := checkText("organisation", c.Organisation, 1, maxCommonName); err != nil {
		return c, err
	}
	if c.Argon == (ArgonParams{}) {
		c.Argon = DefaultArgon
	}
	if err := c.Argon.validate(); err != nil {
		return c, err
	}
	for _, d := range []struct {
		value     *time.Duration
		otherwise time.Duration
	}{
		{&c.QueueTimeout, 10 * time.Second}, {&c.SessionIdle, 15 * time.Minute}, {&c.SessionLifetime, 12 * time.Hour},
		{&c.CodeLifetime, 10 * time.Minute}, {&c.BootstrapCode, 24 * time.Hour}, {&c.LockFor, 15 * time.Minute},
		{&c.ProposalLifetime, 7 * 24 * time.Hour},
	} {
		if *d.value < 0 {
			return c, fmt.Errorf("%w: a duration of the configuration is negative", ErrInvalid)
		}
		if *d.value == 0 {
			*d.value = d.otherwise
		}
	}
	for _, n := range []struct {
		value     *int
		otherwise int
	}{{&c.PasswordChecks, 2}, {&c.QueueLength, 128}, {&c.LockAfter, 5}, {&c.MinPassword, 15}, {&c.MinPasswordSecond, min(8, max(c.MinPassword, 8))}} {
		if *n.value < 0 {
			return c, fmt.Errorf("%w: a number of the configuration is negative", ErrInvalid)
		}
		if *n.value == 0 {
			*n.value = n.otherwise
		}
	}
	if c.Accountability == (Accountability{}) {
		c.Accountability = currentAccountability
	}
	if c.FourEyes == "" {
		c.FourEyes = FourEyesAuto
	}
	if c.FourEyes != FourEyesAuto && c.FourEyes != FourEyesOff {
		return c, fmt.Errorf("%w: four eyes %.20q; use %s or %s", ErrInvalid, c.FourEyes, FourEyesAuto, FourEyesOff)
	}
	if l, err := c.Lockout.withDefaults(); err != nil {
		return c, err
	} else {
		c.Lockout = l
	}
	var err error
	if c.Continuous, err = c.Continuous.withDefaults(); err != nil {
		return c, err
	}
	if c.Requires == "" {
		c.Requires = manifest.AuthorizationPassword
	}
	if err := c.Passkeys.settle(); err != nil {
		return c, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c, nil
}

// KeyMaker makes signers' keys; a *keystore.Store is one. What Generate returns is durable and kept the key policy. It is
// called outside of transactions; a key that no entry names means nothing.
type KeyMaker interface {
	Generate(ctx context.Context, spec keystore.Spec) (keystore.Key, error)
}

// Directory knows the signers. It is safe for concurrent use.
type Directory struct {
	cfg      Config
	ledger   *ledger.Ledger
	keys     KeyMaker
	ca       atomic.Pointer[CA]
	hasher   *hasher
	sources  *sourceCache
	activity *activity
	proved   *provedCache
	rows     *rowCache
	denials  *denials
	book     *rights.Book
	terms    *termsCache
	clients  *clientCache
	acts     map[string]ActKind
	accounts sync.Map // index of accountability.signed → signer and version, proved once
	passkeys passkeys

	macs    MACs
	macMu   sync.Mutex
	mac     keystore.MACKey // once it is known
	pending pendingSeeds

	namesMu sync.Mutex
	names   []byte // the key that blinds user names, once it is known
}

// New returns the directory of a ledger that was opened with [Projection]. It reads nothing yet. See [Directory.Recover].
func New(cfg Config, l *ledger.Ledger, keys KeyMaker, ca *CA) (*Directory, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if l == nil || keys == nil || ca == nil {
		return nil, errors.New("identity: ledger, keys and CA are all needed")
	}
	if ca.issuer != cfg.Issuer {
		return nil, fmt.Errorf("%w: the CA issues for %s, the service is %s", ErrInvalid, ca.issuer, cfg.Issuer)
	}
	h, err := newHasher(cfg.Argon, cfg.PasswordChecks, cfg.QueueLength, cfg.QueueTimeout)
	if err != nil {
		return nil, err
	}
	macs, ok := keys.(MACs)
	if !ok {
		return nil, errors.New("identity: what makes keys must make MAC keys, too")
	}
	d := &Directory{
		cfg: cfg, ledger: l, keys: keys, macs: macs, hasher: h,
		sources: newSourceCache(cfg.Sources), activity: newActivity(cfg.SessionIdle, cfg.SessionLifetime), proved: newProvedCache(), rows: newRowCache(), denials: newDenials(), book: rights.NewBook(), terms: newTermsCache(), clients: newClientCache(),
	}
	d.ca.Store(ca)
	return d, d.registerActs()
}

// newID returns an id of 128 random bits, which is never used again.
func newID(prefix string) string {
	b := make([]byte, 16)
	rand.Read(b)
	return prefix + lowerBase32(b)
}
