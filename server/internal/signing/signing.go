// Package signing is the ceremony: records and their signatures.
//
// A signature is made in three steps, each durable before the next begins:
//
//  1. Prepare builds the statement from the server's own records and commits `signature.prepared`. What the signer is shown is
//     what is committed, and what is committed is what will be signed.
//  2. Sign: the signer proves themselves for this one statement; `signature.attempted` is committed (intent); then the HSM
//     signs, the signature is verified against the enrolled key, and the time-stamping authority stamps it.
//  3. One command re-checks all that can have changed and commits `signature.created`, with `record.decided` where this signature
//     decides the record. Only then, and only with its proof, the signature leaves this package.
//
// No call to the HSM runs inside a transaction. A crash between 2 and 3 leaves an attempt, which the next start
// closes as `signature.abandoned`: its signature was never released. A decided record gets its closing seal outside of the
// deciding transaction; [Ceremony.Recover] finishes one that a crash left open.
//
// Seal is the same for a service's own key in one call, without a preparation. A seal never counts as a person's signature.
package signing

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/jcs"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/server/internal/blob"
	"github.com/signetd/signet/server/internal/identity"
	"github.com/signetd/signet/server/internal/ledger"
)

// MaxSignatures is how many signatures a record can hold: `record.decided` names every statement in one entry of at
// most 65,535 bytes, and two places are kept for a last withdrawal and its closing.
const MaxSignatures = 900

// lease is how long an attempt may take from the password to the commit.
const lease = time.Minute

// Order of the attachments of signature.created; the time-stamp tokens follow.
const (
	attachedStatement = iota
	attachedSignature
	attachedAuthorization
	attachedTimestamps
)

var _ = [1]struct{}{}[attachedAuthorization-identity.SignatureAuthorization] // the two say the same

// Config is what a ceremony needs.
type Config struct {
	Clock      func() time.Time
	Ledger     *ledger.Ledger
	Identities *identity.Directory
	Blobs      *blob.Folder
	// Sign signs message with the key of an identity inside the HSM and verifies the result against the enrolled public key.
	Sign func(ctx context.Context, by identity.SigningIdentity, message []byte) ([]byte, error)
	// Stamp returns an RFC 3161 token over a signature, and the time in it.
	Stamp func(ctx context.Context, signature []byte) (token []byte, genTime time.Time, err error)
	// StampMore returns tokens of others over a signature, with times from one to the other; nil: nobody else is asked.
	StampMore func(ctx context.Context, signature []byte, from, to time.Time) (tokens [][]byte, err error)
	// System stands in every record: version, digests of configuration, documents and strategy, environment.
	System manifest.System
	// Lifetime is how long a preparation waits for its signer.
	Lifetime time.Duration
	// WitnessDelay is how long a released proof waits at the most for a checkpoint that the quorum of witnesses has cosigned.
	WitnessDelay time.Duration
	// DocumentLimit is the size of the largest bundle document in bytes.
	DocumentLimit int64
	// Observe is told how long each stage of a signature took; nil: nobody is.
	Observe func(Stage, time.Duration)
	Log     *slog.Logger
}

// Stage is a part of a signature's way.
type Stage string

// The stages, in their order. What else a call takes is the way to the service and back.
const (
	StageProof     Stage = "proof"     // the signer proves themselves; a service does not
	StageHSM       Stage = "hsm"       // the signature is made, and verified
	StageTimestamp Stage = "timestamp" // and stamped
	StageLedger    Stage = "ledger"    // its entries are durable
	StageRelease   Stage = "release"   // the closing seal where it decides, a signed checkpoint, the proofs
)

// Stages returns them all.
func Stages() []Stage {
	return []Stage{StageProof, StageHSM, StageTimestamp, StageLedger, StageRelease}
}

// stopwatch times the stages of one signature; nil times nothing.
type stopwatch struct {
	observe func(Stage, time.Duration)
	from    time.Time
	ledger  time.Duration
}

func (c *Ceremony) stopwatch() *stopwatch {
	if c.Observe == nil {
		return nil
	}
	return &stopwatch{observe: c.Observe, from: time.Now()}
}

// skip leaves out what was done since the last stage.
func (w *stopwatch) skip() {
	if w != nil {
		w.from = time.Now()
	}
}

// lap ends a stage. Both commits of a signature are one.
func (w *stopwatch) lap(s Stage) {
	if w == nil {
		return
	}
	took := time.Since(w.from)
	w.from = w.from.Add(took)
	if s == StageLedger {
		w.ledger += took
		return
	}
	w.observe(s, took)
}

// done ends the last stage.
func (w *stopwatch) done() {
	if w != nil {
		w.lap(StageRelease)
		w.observe(StageLedger, w.ledger)
	}
}

// Ceremony makes signatures. It is safe for concurrent use.
type Ceremony struct {
	Config
	instance string
	records  recordCache
	states   stateCache
	closing  sync.Mutex // one closing seal at a time
}

// New returns a ceremony.
func New(c Config) *Ceremony { return &Ceremony{Config: c, instance: rand.Text()} }

// newID returns an id of 128 random bits.
func newID(prefix string) string {
	b := make([]byte, 16)
	rand.Read(b)
	return prefix + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b))
}

// requestHash names a retried call: who, what, under which key, with which content. Without a key there is none.
func requestHash(caller identity.Caller, method, key string, content any) (string, error) {
	if key == "" {
		return "", nil
	}
	b, err := jcs.Marshal(map[string]any{"actor": caller.ID, "content": content, "key": key, "method": method})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return hexOf(sum[:]), nil
}

// checkReason holds the signer's words to their bounds.
func checkReason(reason string, least int) error {
	if !utf8.ValidString(reason) || utf8.RuneCountInString(reason) > 4000 {
		return fmt.Errorf("%w: at most 4,000 characters of UTF-8", ErrReason)
	}
	if n := utf8.RuneCountInString(strings.TrimSpace(reason)); n < least {
		return fmt.Errorf("%w: say why in at least %d characters; there is no default", ErrReason, least)
	}
	for _, r := range reason {
		if unicode.IsControl(r) && r != '\n' || unicode.Is(unicode.Bidi_Control, r) {
			return fmt.Errorf("%w: it holds the control character %U", ErrReason, r)
		}
	}
	return nil
}

// leastReason is the least number of characters of a person's reason.
const leastReason = 3

// Request is what a caller says of a signature; everything else in the statement is the server's own.
type Request struct {
	Event     string           `json:"event"`
	Decision  string           `json:"decision"`
	Meaning   string           `json:"meaning"`
	Reason    string           `json:"reason"`
	Requires  string           `json:"requires"` // the components that the signer wants to prove themselves with; empty: those of the policy
	RequestID string           `json:"-"`
	Inputs    []manifest.Input `json:"inputs"`
}

// Preparation is a statement that waits for its signer.
type Preparation struct {
	ID        string
	Statement []byte // canonical JSON
	Requires  string
	Expires   time.Time
}

// Prepare commits the statement that the caller wants to sign and returns it.
func (c *Ceremony) Prepare(ctx context.Context, caller identity.Caller, req Request) (Preparation, error) {
	switch req.Decision {
	case "approve", "reject", "abstain", "review", "author":
	default:
		return Preparation{}, fmt.Errorf("%w: %q; use approve, reject, abstain, review or author", ErrDecision, req.Decision)
	}
	return c.prepare(ctx, caller, req)
}

// Withdraw prepares the withdrawal of the caller's own decision about a record.
func (c *Ceremony) Withdraw(ctx context.Context, caller identity.Caller, event, reason string) (Preparation, error) {
	return c.prepare(ctx, caller, Request{Event: event, Decision: decisionWithdraw, Meaning: meaningWithdrawal, Reason: reason})
}

func (c *Ceremony) prepare(ctx context.Context, caller identity.Caller, req Request) (Preparation, error) {
	if err := checkReason(req.Reason, leastReason); err != nil {
		return Preparation{}, err
	}
	key, err := eventKey(req.Event)
	if err != nil {
		return Preparation{}, err
	}
	request, err := requestHash(caller, "Prepare", req.RequestID, req)
	if err != nil {
		return Preparation{}, err
	}
	// What is leaned on must stand under a signed checkpoint, a record that was created a moment ago too.
	head, err := c.Ledger.Checkpointed(ctx, c.Ledger.Size())
	if err != nil {
		return Preparation{}, err
	}
	id := newID("prp_")
	var p Preparation
	var earlier *uint64
	_, err = c.Ledger.Do(ctx, func(tx *ledger.Tx) error {
		p, earlier = Preparation{}, nil
		if first := tx.Request(request); request != "" && len(first) > 0 {
			earlier = &first[0]
			return nil
		}
		by, err := c.Identities.SigningIdentity(tx, caller.ID)
		if err != nil {
			return err
		}
		if by.Service {
			return fmt.Errorf("%w: a service seals; it does not decide", ErrDecision)
		}
		view := tx.View(projectionName)
		state, about, err := c.record(tx, view, key)
		if err != nil {
			return err
		}
		rows, err := signatures(view, key)
		if err != nil {
			return err
		}
		if err := admit(state, rows, caller.ID, req.Decision); err != nil {
			return about.explain(err, caller.ID)
		}
		if err := c.entitled(tx, about, caller.ID, req.Decision); err != nil {
			return err
		}
		requires, err := c.Identities.Demands(tx, caller, state.Policy.Resolved.Requires, manifest.AuthorizationKind(req.Requires))
		if err != nil {
			return err
		}
		statement, err := c.statement(statementInput{
			id: id, by: by, about: about, request: req, now: tx.Now(), head: head,
			previous: previous(rows, head.Checkpoint.Size), requires: requires,
		})
		if err != nil {
			return err
		}
		canonical, err := statement.Canonical()
		if err != nil {
			return fmt.Errorf("%w: %w", ErrRecordInvalid, err)
		}
		digest := sha256.Sum256(canonical)
		expires := statement.Predicate.Expires
		p = Preparation{ID: id, Statement: canonical, Requires: string(statement.Predicate.Requires), Expires: expires.Time()}
		tx.Emit(ledger.Event{
			Type: chain.SignaturePrepared, Actor: caller.Actor(), Request: request,
			Body: signaturePrepared{
				Event: req.Event, Expires: expires, Preparation: id, Requires: p.Requires, Signer: caller.ID, Statement: hexOf(digest[:]),
			},
			Attachments: [][]byte{canonical},
		})
		return nil
	})
	if err != nil {
		return Preparation{}, err
	}
	if earlier != nil {
		return c.preparation(*earlier)
	}
	return p, nil
}

// preparation reads a committed preparation from its entry.
func (c *Ceremony) preparation(index uint64) (Preparation, error) {
	b, err := c.Ledger.Entry(index)
	if err != nil {
		return Preparation{}, err
	}
	e, err := chain.ParseEntry(b)
	if err != nil {
		return Preparation{}, err
	}
	var body signaturePrepared
	if err := readBody(e, &body); err != nil {
		return Preparation{}, err
	}
	attachments, err := c.Ledger.Attachments(index)
	if err != nil {
		return Preparation{}, err
	}
	if len(attachments) != 1 {
		return Preparation{}, fmt.Errorf("entry %d has %d attachments, want the statement alone", index, len(attachments))
	}
	return Preparation{ID: body.Preparation, Statement: attachments[0], Requires: body.Requires, Expires: body.Expires.Time()}, nil
}

// admit says whether a person may make this decision about the record as it stands.
func admit(state recordState, rows []row, signer, decision string) error {
	if len(rows) >= MaxSignatures {
		return fmt.Errorf("%w (%d)", ErrTooMany, MaxSignatures)
	}
	if decision == decisionWithdraw {
		last := ""
		for _, s := range rows {
			if s.Signer == signer {
				last = s.Decision
			}
		}
		if last == "" || last == decisionWithdraw {
			return ErrNothingToWithdraw
		}
		if _, counted := count(state.Policy, rows).decisions[signer]; state.Status != statusOpen && !counted {
			return ErrRecordClosed
		}
		return nil
	}
	if state.Superseded != 0 {
		return fmt.Errorf("%w: a newer version supersedes it", ErrRecordChanged)
	}
	if state.Status != statusOpen {
		return ErrRecordClosed
	}
	r := state.Policy.Resolved
	if slices.Contains(r.ExcludedSigners, signer) {
		return fmt.Errorf("%w: separation of duties excludes you from deciding about it", ErrNotDesignated)
	}
	if !designated(r, signer) {
		return ErrNotDesignated
	}
	return nil
}

type statementInput struct {
	id       string
	by       identity.SigningIdentity
	about    *aboutRecord
	request  Request
	now      chain.Time
	head     ledger.Signed
	previous string
	requires manifest.AuthorizationKind
}

// statement builds the statement: the caller's decision, meaning and reason, and everything else from the server's records.
func (c *Ceremony) statement(in statementInput) (manifest.Statement, error) {
	t, err := recordType(in.about.record.Event.Type)
	if err != nil {
		return manifest.Statement{}, err
	}
	m, err := t.meaning(in.request.Meaning, in.request.Decision)
	if err != nil {
		return manifest.Statement{}, err
	}
	zone, err := time.LoadLocation(in.by.Zone)
	if err != nil {
		return manifest.Statement{}, fmt.Errorf("time zone of %s: %w", in.by.ID, err)
	}
	inputs := in.request.Inputs
	if inputs == nil {
		inputs = []manifest.Input{}
	}
	return manifest.Statement{Type: manifest.StatementType, PredicateType: manifest.PredicateType, Subject: in.about.subjects, Predicate: manifest.Predicate{
		Activity:    manifest.Activity{ID: "", Attempt: "0"},
		Decision:    in.request.Decision,
		Event:       in.about.record.Event.ID,
		Expires:     in.now.Add(c.Lifetime),
		Inputs:      inputs,
		Ledger:      manifest.Head{Origin: in.head.Checkpoint.Origin, Root: in.head.Checkpoint.Root, Size: in.head.Checkpoint.Size},
		Meaning:     manifest.Meaning{ID: m.ID, Text: m.Text, Version: m.Version},
		Preparation: in.id,
		PreparedAt:  in.now,
		Previous:    in.previous,
		Reason:      in.request.Reason,
		Requires:    in.requires,
		Signer: manifest.Signer{
			Enrolment: in.by.Enrolment, ID: in.by.ID, Name: in.by.Name, Organisation: in.by.Organisation, Roles: in.by.Roles, Title: in.by.Title,
		},
		Statement: attestation(in.by, in.about.record, m),
		Zone:      manifest.Zone{Name: in.by.Zone, Offset: in.now.Time().In(zone).Format("-07:00")},
	}}, nil
}

// attestation is the sentence that the signer attests to.
func attestation(by identity.SigningIdentity, r manifest.Record, m Meaning) string {
	what := r.Name + " " + r.Version
	if by.Service {
		return fmt.Sprintf("The service %s of %s signs %s. %s", by.Name, by.Organisation, what, m.Text)
	}
	who := by.Name
	if by.Title != "" {
		who += ", " + by.Title
	}
	return fmt.Sprintf("I, %s, sign the %s record of %s. %s I have read the record and know the evidence that it names. "+
		"I hold this electronic signature to be as binding as my handwritten one.", who, r.Event.Type, what, m.Text)
}

// parsed reads an entry.
func parsed(r *ledger.Read, index uint64) (chain.Entry, error) {
	b, err := r.Entry(index)
	if err != nil {
		return chain.Entry{}, err
	}
	return chain.ParseEntry(b)
}
