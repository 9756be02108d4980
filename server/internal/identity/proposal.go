package identity

import (
	"context"
	"encoding/hex"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/jcs"
	"github.com/signetd/signet/server/internal/ledger"
)

// Four eyes: what gives somebody a right takes two administrators. One proposes it, another one confirms it, and what it does happens in
// the transaction of the confirmation. Four eyes are on from the moment on which there are two active administrators, and stay on: whoever
// suspends or revokes the others does not get to act alone by it.

// FourEyes says when an act takes two administrators.
type FourEyes string

// When an act takes two administrators.
const (
	FourEyesAuto FourEyes = "auto" // from the second active administrator on
	FourEyesOff  FourEyes = "off"  // never
)

// ActKind is a kind of act that takes two administrators. Its content is canonical JSON, kept in the ledger with the proposal.
type ActKind struct {
	Kind string // for example role.assign
	// Render says for people what the content does. It stands in the proposal's entry.
	Render func(content jsontext.Value) (string, error)
	// Prepare, if there is one, does what cannot be done inside of a transaction, such as making a key. It is called before [ActKind.Do], and
	// discard, if it is not nil, when the transaction has failed, with its error.
	Prepare func(ctx context.Context, e Execution) (prepared any, discard func(ctx context.Context, cause error), err error)
	// Do emits what the act does, after it has held the content against the state as it is now. It runs in the transaction in which the act
	// takes effect, and before that, to refuse early what cannot be, as a trial of which nothing is kept. It may run twice.
	Do func(tx *ledger.Tx, e Execution) error

	code bool // whoever confirms it gets the second half of a one-time code
}

// Execution is an act that is being done, or tried.
type Execution struct {
	Caller   Caller         // who does it: the second administrator, or the one who acts alone. An active administrator, other than the subject
	Proposer string         // who proposed it; the caller where they act alone
	Subject  string         // the signer that it is about; empty where it is about none
	Content  jsontext.Value // canonical JSON
	Request  string         // for [ledger.Event].Request of one of the events: by it a retried call is known
	Prepared any            // what [ActKind.Prepare] returned; nil in a trial
	Trial    bool           // nothing of it is kept

	code    string     // digest of the one-time code
	expires chain.Time // when the code lapses
}

// ProposalState is where a proposal stands.
type ProposalState string

// The states.
const (
	ProposalPending   ProposalState = "pending"   // waits for another administrator
	ProposalConfirmed ProposalState = "confirmed" // done
	ProposalWithdrawn ProposalState = "withdrawn" // withdrawn or refused
	ProposalLapsed    ProposalState = "lapsed"    // nobody has confirmed it in time
)

// Why a proposal will not be done.
const (
	withdrawnByProposer = "withdrawn"
	withdrawnByOther    = "refused"
	withdrawnLapsed     = "lapsed"
	withdrawnReplaced   = "replaced" // by a retried call, which has another code
)

const (
	bucketProposals     = "proposals"     // id → proposalRow
	bucketProposalOrder = "proposalorder" // index → id
	bucketPending       = "pending"       // milliseconds of the end, id → nothing
	metaFourEyes        = "foureyes"      // in bucketMeta: there were two active administrators
)

// fourEyes reports whether an act takes two administrators.
func (d *Directory) fourEyes(view reader) bool {
	return d.cfg.FourEyes != FourEyesOff && view.Get(bucketMeta, []byte(metaFourEyes)) != nil
}

// registerActs takes the kinds of acts together: this package's own and those of the configuration.
func (d *Directory) registerActs() error {
	d.acts = map[string]ActKind{}
	for _, k := range append(d.ownActs(), d.cfg.Acts...) {
		if _, twice := d.acts[k.Kind]; twice || k.Kind == "" || k.Render == nil || k.Do == nil {
			return fmt.Errorf("identity: the kind of act %q is there twice, or lacks a function", k.Kind)
		}
		d.acts[k.Kind] = k
	}
	return nil
}

// ownActs are the kinds of acts of this package.
func (d *Directory) ownActs() []ActKind {
	return slices.Concat(d.rightsActs(), d.signerActs(), d.serviceActs())
}

// Act does what takes two administrators: at once where four eyes are off, else it is proposed. The kind is one of [Config].Acts, subject
// the signer that it is about, or empty, content what is to be done. A call that is retried under the same requestID gives the first answer.
func (d *Directory) Act(ctx context.Context, caller Caller, kind, subject string, content any, requestID string) (done bool, p Proposal, err error) {
	canonical, err := jcs.Marshal(content)
	if err != nil {
		return false, Proposal{}, fmt.Errorf("%s: %w", kind, err)
	}
	hash, err := request(caller, kind, requestID, map[string]any{"content": jsontext.Value(canonical), "subject": subject})
	if err != nil {
		return false, Proposal{}, err
	}
	out, err := d.act(ctx, caller, intent{kind: kind, subject: subject, content: canonical, request: hash})
	return out.done, out.proposal, err
}

// intent is what an administrator wants done.
type intent struct {
	kind    string
	subject string
	content jsontext.Value
	request string
	// atOnce, if there is one, takes effect with the proposal: what takes rights away does not wait for a second person.
	atOnce func(tx *ledger.Tx) error
	// again, if there is one, is what a retried call of an act that was done does.
	again func(tx *ledger.Tx, first uint64, e Execution) error
}

// outcome is what came of it.
type outcome struct {
	done     bool
	proposal Proposal
	code     Secret // the whole code, or its first half
	expires  time.Time
}

var (
	errTrial    = errors.New("identity: a trial")
	errNeedsTwo = errors.New("identity: it takes two")
)

func (d *Directory) act(ctx context.Context, caller Caller, in intent) (outcome, error) {
	kind, ok := d.acts[in.kind]
	if !ok {
		return outcome{}, fmt.Errorf("identity: no kind of act %q", in.kind)
	}
	rendering, err := kind.Render(in.content)
	if err != nil {
		return outcome{}, err
	}
	two := false
	err = d.settled(ctx, func(r *ledger.Read) error {
		two = d.fourEyes(r.View(projectionName))
		return d.mayAct(r, caller, in.subject)
	})
	if err != nil {
		return outcome{}, err
	}
	if !two {
		out, err := d.actAlone(ctx, caller, kind, in)
		if !errors.Is(err, errNeedsTwo) { // a second administrator has come meanwhile
			return out, err
		}
	}
	return d.propose(ctx, caller, kind, in, rendering)
}

// mayAct holds the caller against the state as it is now.
func (d *Directory) mayAct(r Reader, caller Caller, subject string) error {
	if err := d.mayAdminister(r, caller); err != nil {
		return err
	}
	if subject != "" && subject == caller.ID {
		return fmt.Errorf("%w: nobody does this for themselves; ask another administrator", ErrForbidden)
	}
	return nil
}

// actAlone does it, where four eyes are off.
func (d *Directory) actAlone(ctx context.Context, caller Caller, kind ActKind, in intent) (outcome, error) {
	e := Execution{Caller: caller, Proposer: caller.ID, Subject: in.subject, Content: in.content, Request: in.request}
	out := outcome{done: true}
	if kind.code {
		out.code, e.code = newCode()
	}
	before := e
	before.Trial = true
	var discard func(context.Context, error)
	if kind.Prepare != nil {
		if err := d.try(ctx, kind, before, in); err != nil {
			return outcome{}, err
		}
		var err error
		if e.Prepared, discard, err = kind.Prepare(ctx, e); err != nil {
			return outcome{}, err
		}
	}
	kept := false // whether what was prepared is in use
	result, err := d.ledger.Do(ctx, func(tx *ledger.Tx) error {
		kept = false
		if err := d.mayAct(tx, caller, in.subject); err != nil {
			return err
		}
		e := e
		if e.expires = tx.Now().Add(d.cfg.CodeLifetime); kind.code {
			out.expires = e.expires.Time()
		}
		if first := tx.Request(in.request); in.request != "" && len(first) > 0 {
			if in.again == nil {
				return nil
			}
			e.Request = "" // the first answer stays the first
			return in.again(tx, first[0], e)
		}
		if d.fourEyes(tx.View(projectionName)) {
			return errNeedsTwo
		}
		kept = true
		if err := kind.Do(tx, e); err != nil || in.atOnce == nil {
			return err
		}
		return in.atOnce(tx)
	})
	if discard != nil && (err != nil || !kept) {
		discard(ctx, err)
	}
	if err != nil {
		return outcome{}, err
	}
	d.settle(ctx, result)
	return out, nil
}

// try does the act and keeps nothing of it.
func (d *Directory) try(ctx context.Context, kind ActKind, e Execution, in intent) error {
	e.Trial = true
	_, err := d.ledger.Do(ctx, func(tx *ledger.Tx) error {
		if in.request != "" && len(tx.Request(in.request)) > 0 {
			return errTrial // answered before
		}
		e := e
		e.expires = tx.Now().Add(d.cfg.CodeLifetime)
		if err := kind.Do(tx, e); err != nil {
			return err
		}
		return errTrial
	})
	if errors.Is(err, errTrial) {
		return nil
	}
	return err
}

// propose appends act.proposed.
func (d *Directory) propose(ctx context.Context, caller Caller, kind ActKind, in intent, rendering string) (outcome, error) {
	e := Execution{Caller: caller, Proposer: caller.ID, Subject: in.subject, Content: in.content, Request: in.request}
	out := outcome{}
	digest := ""
	if kind.code {
		out.code, digest = newHalf()
		e.code = joinHalves(digest, digest)
	}
	if err := d.try(ctx, kind, e, in); err != nil {
		return outcome{}, err
	}
	fresh := newID("prl_")
	id := fresh
	result, err := d.ledger.Do(ctx, func(tx *ledger.Tx) error {
		if err := d.mayAct(tx, caller, in.subject); err != nil {
			return err
		}
		id = fresh
		named := in.request
		if first := tx.Request(in.request); in.request != "" && len(first) > 0 {
			earlier, state, err := d.proposedBefore(tx, first)
			if err != nil {
				return err
			}
			if id = earlier; state != ProposalPending || !kind.code {
				return nil
			}
			// The answer with the half of the code was lost: it gets another one, under another id.
			tx.Emit(ledger.Event{Type: chain.ActWithdrawn, Actor: caller.Actor(), Body: actWithdrawn{
				Cause: withdrawnReplaced, ID: earlier, Reason: "the same call again, which has another code",
			}})
			id = fresh
		}
		if err := d.sweepProposals(tx); err != nil {
			return err
		}
		tx.Emit(ledger.Event{Type: chain.ActProposed, Actor: caller.Actor(), Request: named, Body: actProposed{
			Code: digest, Content: in.content, Digest: hexSum(in.content), Expires: tx.Now().Add(d.cfg.ProposalLifetime), ID: fresh, Kind: kind.Kind,
			Rendering: rendering, Subject: in.subject,
		}})
		if in.atOnce == nil {
			return nil
		}
		return in.atOnce(tx)
	})
	if err != nil {
		return outcome{}, err
	}
	if id != fresh {
		out.code = ""
	}
	d.settle(ctx, result)
	out.proposal, err = d.Proposal(ctx, id)
	return out, err
}

// proposedBefore returns the newest proposal that the same call has made.
func (d *Directory) proposedBefore(tx *ledger.Tx, entries []uint64) (id string, state ProposalState, err error) {
	b, err := tx.Entry(entries[len(entries)-1])
	if err != nil {
		return "", "", err
	}
	e, err := chain.ParseEntry(b)
	if err != nil {
		return "", "", err
	}
	if e.Type != chain.ActProposed {
		return "", "", fmt.Errorf("%w: this call was carried out before, by one administrator alone", ErrProposalState)
	}
	body, err := readBody[actProposed](e)
	if err != nil {
		return "", "", err
	}
	row, _, err := getProposal(tx.View(projectionName), body.ID)
	return body.ID, row.now(tx.Now()), err
}

// now is the state at a time: a proposal lapses by itself.
func (p proposalRow) now(t chain.Time) ProposalState {
	if p.State == ProposalPending && !t.Before(p.Expires) {
		return ProposalLapsed
	}
	return p.State
}

// sweepProposals records that proposals have lapsed.
func (d *Directory) sweepProposals(tx *ledger.Tx) error {
	view := tx.View(projectionName)
	n := 0
	var failed error
	view.Ascend(bucketPending, nil, func(k, _ []byte) bool {
		row, ok, err := getProposal(view, string(k[8:]))
		if failed = err; err != nil || !ok || tx.Now().Before(row.Expires) || n == sweepAtOnce {
			return false
		}
		n++
		tx.Emit(ledger.Event{Type: chain.ActWithdrawn, Actor: System("proposals").Actor(), Body: actWithdrawn{
			Cause: withdrawnLapsed, ID: row.ID, Reason: "nobody has confirmed it in time",
		}})
		return true
	})
	return failed
}

// Confirmation is what came of a confirmed proposal.
type Confirmation struct {
	Proposal Proposal
	Code     Secret // the second half of a one-time code; empty where there is none
	Expires  time.Time
}

// Confirm does what another administrator has proposed, if it can still be done. The caller has read the proposal, by the digest of its
// content, and proves themselves for this one act.
func (d *Directory) Confirm(ctx context.Context, caller Caller, id string, digest []byte, proof Proof) (Confirmation, error) {
	var out Confirmation
	var row proposalRow
	err := d.settled(ctx, func(r *ledger.Read) (err error) {
		row, err = d.mayConfirm(r, caller, id, digest, chain.NewTime(d.cfg.Clock()))
		return err
	})
	if err != nil {
		return out, err
	}
	if err := d.ProveAct(ctx, caller, proof, PurposeProposal, "proposals/"+id); err != nil {
		return out, err
	}
	if _, err := d.ledger.Checkpointed(ctx, row.Index+1); err != nil { // it is read from its entry, proved
		return out, err
	}
	kind, ok := d.acts[row.Kind]
	if !ok {
		return out, fmt.Errorf("%w: this release does not know acts of the kind %s", ErrProposalState, row.Kind)
	}
	var body actProposed
	err = d.ledger.View(func(r *ledger.Read) (err error) {
		body, err = provedProposal(r, row)
		return err
	})
	if err != nil {
		return out, err
	}
	e := Execution{Caller: caller, Proposer: row.Proposer, Subject: row.Subject, Content: body.Content}
	if kind.code {
		var second string
		out.Code, second = newHalf()
		e.code = joinHalves(body.Code, second)
	}
	var discard func(context.Context, error)
	if kind.Prepare != nil {
		if err := d.try(ctx, kind, e, intent{}); err != nil {
			return Confirmation{}, err
		}
		if e.Prepared, discard, err = kind.Prepare(ctx, e); err != nil {
			return Confirmation{}, err
		}
	}
	result, err := d.ledger.Do(ctx, func(tx *ledger.Tx) error {
		now, err := d.mayConfirm(tx, caller, id, digest, tx.Now())
		if err != nil {
			return err
		}
		if _, err := d.inSession(tx, caller); err != nil { // it may have ended since the proof
			return err
		}
		if _, err := provedProposal(tx, now); err != nil {
			return err
		}
		e := e
		if e.expires = tx.Now().Add(d.cfg.CodeLifetime); kind.code {
			out.Expires = e.expires.Time()
		}
		tx.Emit(ledger.Event{Type: chain.ActConfirmed, Actor: caller.Actor(), Body: actConfirmed{
			Digest: now.Digest, ID: id, Kind: now.Kind, Proposed: now.Index, Proposer: now.Proposer, Subject: now.Subject,
		}})
		return kind.Do(tx, e)
	})
	if err != nil {
		if discard != nil {
			discard(ctx, err)
		}
		return Confirmation{}, err
	}
	d.settle(ctx, result)
	out.Proposal, err = d.Proposal(ctx, id)
	return out, err
}

// mayConfirm returns the proposal, if the caller can confirm it at this time.
func (d *Directory) mayConfirm(r Reader, caller Caller, id string, digest []byte, now chain.Time) (proposalRow, error) {
	if err := d.mayAdminister(r, caller); err != nil {
		return proposalRow{}, err
	}
	row, ok, err := getProposal(r.View(projectionName), id)
	switch {
	case err != nil:
		return row, err
	case !ok:
		return row, ErrProposalNotFound
	case row.now(now) != ProposalPending:
		return row, fmt.Errorf("%w: it is %s", ErrProposalState, row.now(now))
	case caller.Kind != chain.Person || caller.ID == row.Proposer:
		return row, fmt.Errorf("%w: whoever proposes does not confirm", ErrSecondPerson)
	case caller.ID == row.Subject:
		return row, fmt.Errorf("%w: it is about you", ErrSecondPerson)
	case hex.EncodeToString(digest) != row.Digest:
		return row, fmt.Errorf("%w: the digest is not that of its content; read it again", ErrProposalState)
	}
	if err := d.mayAdminister(r, Caller{ID: row.Proposer, Kind: chain.Person}); err != nil {
		return row, fmt.Errorf("%w: who proposed it is no active administrator any more; propose it anew", ErrProposalState)
	}
	return row, nil
}

// provedProposal reads a proposal from its entry, proved.
func provedProposal(r Reader, row proposalRow) (actProposed, error) {
	b, err := r.ProvedEntry(row.Index)
	if err != nil {
		return actProposed{}, err
	}
	e, err := chain.ParseEntry(b)
	if err != nil {
		return actProposed{}, err
	}
	body, err := readBody[actProposed](e)
	if err != nil {
		return actProposed{}, err
	}
	if e.Type != chain.ActProposed || body.ID != row.ID || body.Kind != row.Kind || body.Subject != row.Subject || e.Actor.ID != row.Proposer ||
		body.Digest != row.Digest || hexSum(body.Content) != body.Digest || body.Expires != row.Expires {
		return actProposed{}, errTamperedRow(row.Index)
	}
	return body, nil
}

// Withdraw ends a proposal: its proposer takes it back, or another administrator refuses it.
func (d *Directory) Withdraw(ctx context.Context, caller Caller, id, reason string) (Proposal, error) {
	if err := checkReason(reason); err != nil {
		return Proposal{}, err
	}
	_, err := d.ledger.Do(ctx, func(tx *ledger.Tx) error {
		if err := d.mayAdminister(tx, caller); err != nil {
			return err
		}
		row, ok, err := getProposal(tx.View(projectionName), id)
		switch {
		case err != nil:
			return err
		case !ok:
			return ErrProposalNotFound
		case row.now(tx.Now()) != ProposalPending:
			return fmt.Errorf("%w: it is %s", ErrProposalState, row.now(tx.Now()))
		}
		cause := withdrawnByProposer
		if row.Proposer != caller.ID {
			cause = withdrawnByOther
		}
		tx.Emit(ledger.Event{Type: chain.ActWithdrawn, Actor: caller.Actor(), Body: actWithdrawn{Cause: cause, ID: id, Reason: reason}})
		return nil
	})
	if err != nil {
		return Proposal{}, err
	}
	return d.Proposal(ctx, id)
}
