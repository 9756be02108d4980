package server

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server/internal/identity"
	"github.com/signetd/signet/server/internal/ledger"
)

// Errors of a restore. Each says what to do.
var (
	// ErrNothingLost: nothing speaks against the ledger. Start the server.
	ErrNothingLost = errors.New("nothing speaks against the ledger: start it with `signetd serve`")
	// ErrDamaged: the ledger does not check, whatever it was before. Restore another backup.
	ErrDamaged = errors.New("the ledger does not check: `signetd ledger check` says what is wrong; restore a backup that is whole")
	// ErrSamePerson: it takes two administrators.
	ErrSamePerson = errors.New("this administrator has agreed already: it takes another one")
	// ErrTooManyGuesses: too many passwords did not fit.
	ErrTooManyGuesses = errors.New("too many wrong passwords: begin again")
	errNotAgreed      = errors.New("it takes two administrators, each with a password and a reason")
)

// maxGuesses is how many passwords may be wrong in one restore.
const maxGuesses = 5

// Loss is what speaks against a ledger.
type Loss struct {
	Entries   uint64   `json:"entries"`   // in the file
	Root      string   `json:"root"`      // of its tree, hex
	First     uint64   `json:"first"`     // entries [First, End) were seen elsewhere and are not in the file
	End       uint64   `json:"end"`       //
	Conflicts []string `json:"conflicts"` // who has seen what
}

// Restore is a ledger that evidence speaks against, opened so that two administrators can accept the loss. Until they have, nothing is
// appended or signed, and nothing that speaks against it is changed.
type Restore struct {
	mu         sync.Mutex
	ledger     *ledger.Ledger
	identities *identity.Directory
	loss       Loss
	by         []ledger.RestoredBy
	guesses    int
}

// OpenRestore opens the ledger of a service that is stopped. It must check in every other respect; progress is told of that.
func OpenRestore(ctx context.Context, o Options, progress func(done, total uint64)) (_ *Restore, err error) {
	o.defaults()
	if err := o.Config.Validate(); err != nil {
		return nil, err
	}
	lo, err := ledgerOptions(ctx, o)
	if err != nil {
		return nil, err
	}
	whole := lo
	whole.Sidecar, whole.Elsewhere, whole.CheckPrivate = false, nil, identity.CheckPrivate
	report, err := ledger.Check(ctx, lo.Path, whole, progress)
	if errors.Is(err, ledger.ErrCorrupt) {
		return nil, fmt.Errorf("%w (%w)", ErrDamaged, err)
	} else if err != nil {
		return nil, err
	}
	lo.AcceptLoss = true
	l, err := ledger.Open(ctx, lo)
	if err != nil {
		return nil, err
	}
	r := &Restore{ledger: l}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	conflicts := l.Conflicts()
	if len(conflicts) == 0 {
		return nil, ErrNothingLost
	}
	e := ledger.RollbackError{Size: l.Size(), Conflicts: conflicts}
	r.loss.First, r.loss.End = e.Missing()
	r.loss.Entries, r.loss.Root = l.Size(), report.Root.String()
	for _, c := range conflicts {
		r.loss.Conflicts = append(r.loss.Conflicts, c.String())
	}
	if report.Size != l.Size() {
		return nil, fmt.Errorf("%w (it changed while it was checked)", ErrDamaged)
	}
	r.identities, err = openDirectory(o.Config, l, o.Keys, nil, o.Clock, o.Log)
	return r, err
}

// Loss says what is lost.
func (r *Restore) Loss() Loss { return r.loss }

// Agree proves an administrator, who states why the loss is accepted, and returns the printed name. The one whose password or rights do not
// suffice may try again a few times.
func (r *Restore) Agree(ctx context.Context, userName string, password keystore.Secret, reason string) (name string, err error) {
	if err := identity.CheckReason(reason); err != nil {
		return "", err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.guesses >= maxGuesses {
		return "", ErrTooManyGuesses
	}
	signer, err := r.identities.ProveOffline(ctx, userName, identity.Secret(password.Reveal()))
	if err != nil {
		if errors.Is(err, identity.ErrBadCredentials) {
			r.guesses++
		}
		return "", err
	}
	for _, b := range r.by {
		if b.ID == signer.ID {
			return "", ErrSamePerson
		}
	}
	r.by = append(r.by, ledger.RestoredBy{ID: signer.ID, Name: signer.Name, Reason: reason})
	return signer.Name, nil
}

// Accept appends the entry ledger.restored in the names of both, has a checkpoint signed over it, and moves on what stands beside
// the ledger. It returns the entry's index.
func (r *Restore) Accept(ctx context.Context) (uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.by) != 2 {
		return 0, errNotAgreed
	}
	actor := chain.Actor{ID: r.by[0].ID, Kind: chain.Person, Method: identity.MethodPassword}
	result, err := r.ledger.AcceptLoss(ctx, actor, r.by)
	return result.First, err
}

// Close closes the ledger.
func (r *Restore) Close() error { return r.ledger.Close() }
