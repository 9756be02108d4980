package signing

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/server/internal/identity"
	"github.com/signetd/signet/server/internal/ledger"
)

// Released is a signature that has left the ceremony: durable, proved, verified.
type Released struct {
	Signature manifest.Signature
	Statement []byte // canonical
	Index     uint64
	Time      time.Time // genTime of the first token
	Status    string    // status of the record after it
}

// Sign completes a preparation: the signer proves themselves for the statement that they were shown, and the signature is made,
// stamped, committed and released with its proof. Calling it again for a preparation that was signed gives the first
// answer, after the same proof.
func (c *Ceremony) Sign(ctx context.Context, caller identity.Caller, preparation string, shown [32]byte, proof identity.Proof) (Released, error) {
	if _, err := c.Ledger.Checkpointed(ctx, c.Ledger.Size()); err != nil {
		return Released{}, err
	}
	watch := c.stopwatch()
	var p preparationState
	var statement []byte
	err := c.Ledger.View(func(r *ledger.Read) error {
		ok, err := get(r.View(projectionName), bucketPreparations, []byte(preparation), &p)
		if err != nil {
			return err
		}
		if !ok || p.Signer != caller.ID { // whose it is, is nobody else's business
			return ErrPreparationNotFound
		}
		statement, err = provedStatement(r, p)
		return err
	})
	if err != nil {
		return Released{}, err
	}
	parsed, err := manifest.ParseStatement(statement)
	if err != nil {
		return Released{}, err
	}
	// The proof is checked before anything is said of the preparation's state, and every time.
	proven, err := c.Identities.ProveSignature(ctx, caller, proof, preparation, parsed.Predicate.Requires, sha256.Sum256(manifest.PAE(statement)))
	if err != nil {
		return Released{}, err
	}
	watch.lap(StageProof)
	if sha256.Sum256(statement) != shown {
		return Released{}, ErrStatementDiffers
	}
	if p.State == signed {
		return c.finish(ctx, p.Event, p.Signature)
	}
	by, err := c.attempt(ctx, caller, preparation, parsed, proven)
	if err != nil {
		return Released{}, err
	}
	watch.lap(StageLedger)
	index, err := c.make(ctx, watch, caller, by, parsed, statement, proven)
	if err != nil {
		c.abandon(ctx, caller, p.Event, preparation, err)
		return Released{}, err
	}
	watch.lap(StageLedger)
	c.Identities.Signed(caller, proven)
	released, err := c.finish(ctx, p.Event, index)
	if err == nil {
		watch.done()
	}
	return released, err
}

// provedStatement reads the prepared statement from its entry, proved against the last signed checkpoint.
func provedStatement(r *ledger.Read, p preparationState) ([]byte, error) {
	b, err := r.ProvedEntry(p.Index)
	if err != nil {
		return nil, err
	}
	e, err := chain.ParseEntry(b)
	if err != nil {
		return nil, err
	}
	var body signaturePrepared
	if err := readBody(e, &body); err != nil {
		return nil, err
	}
	attachments, err := r.Attachments(p.Index)
	if err != nil {
		return nil, err
	}
	if len(attachments) != 1 || body.Signer != p.Signer || body.Event != p.Event {
		return nil, fmt.Errorf("%w: entry %d does not agree with the projection; run `signetd ledger check`", ledger.ErrCorrupt, p.Index)
	}
	if sum := sha256.Sum256(attachments[0]); hexOf(sum[:]) != body.Statement {
		return nil, fmt.Errorf("%w: the stored statement of entry %d has another digest; restore it from a backup", ledger.ErrCorrupt, p.Index)
	}
	return attachments[0], nil
}

// attempt commits the intent to sign.
func (c *Ceremony) attempt(ctx context.Context, caller identity.Caller, preparation string, st manifest.Statement, proven identity.Proven) (identity.SigningIdentity, error) {
	var by identity.SigningIdentity
	key, err := eventKey(st.Predicate.Event)
	if err != nil {
		return by, err
	}
	canonical, err := st.Canonical()
	if err != nil {
		return by, err
	}
	digest := sha256.Sum256(canonical)
	_, err = c.Ledger.Do(ctx, func(tx *ledger.Tx) error {
		view := tx.View(projectionName)
		var p preparationState
		if ok, err := get(view, bucketPreparations, []byte(preparation), &p); err != nil || !ok {
			return errors.Join(err, ErrPreparationNotFound)
		}
		if p.State != prepared {
			return ErrPreparationUsed
		}
		if !tx.Now().Before(p.Expires) {
			return ErrPreparationExpired
		}
		if by, err = c.recheck(tx, view, key, st); err != nil {
			return err
		}
		if err := c.Identities.StillProven(tx, caller, proven); err != nil {
			return err
		}
		tx.Emit(ledger.Event{Type: chain.SignatureAttempted, Actor: caller.Actor(), Body: signatureAttempted{
			Components: proven.Components, Event: p.Event, Instance: c.instance, Lease: tx.Now().Add(lease),
			Preparation: preparation, Statement: hexOf(digest[:]),
		}})
		return nil
	})
	return by, err
}

// recheck holds everything that can have changed since the statement was prepared against the state as it is now.
func (c *Ceremony) recheck(tx *ledger.Tx, view *ledger.State, key []byte, st manifest.Statement) (identity.SigningIdentity, error) {
	p := st.Predicate
	by, err := c.Identities.SigningIdentity(tx, p.Signer.ID)
	if err != nil {
		return by, err
	}
	if by.Enrolment != p.Signer.Enrolment {
		return by, fmt.Errorf("%w: your name or key has changed", ErrRecordChanged)
	}
	if !slices.Equal(by.Roles, p.Signer.Roles) {
		return by, fmt.Errorf("%w: your roles have changed", ErrRecordChanged)
	}
	state, about, err := c.record(tx, view, key)
	if err != nil {
		return by, err
	}
	if err := st.About(about.record); err != nil {
		return by, fmt.Errorf("%w: %w", ErrRecordChanged, err)
	}
	rows, err := signatures(view, key)
	if err != nil {
		return by, err
	}
	if err := admit(state, rows, p.Signer.ID, p.Decision); err != nil {
		return by, err
	}
	return by, c.entitled(tx, about, p.Signer.ID, p.Decision)
}

// make signs and stamps outside of any transaction, then commits.
func (c *Ceremony) make(ctx context.Context, watch *stopwatch, caller identity.Caller, by identity.SigningIdentity, st manifest.Statement, canonical []byte, proven identity.Proven) (uint64, error) {
	sig, _, err := c.signAndStamp(ctx, watch, by, st, canonical, proven.Authorization)
	if err != nil {
		return 0, err
	}
	key, err := eventKey(st.Predicate.Event)
	if err != nil {
		return 0, err
	}
	created, err := c.created(caller, sig, canonical)
	if err != nil {
		return 0, err
	}
	var index uint64
	_, err = c.Ledger.Do(ctx, func(tx *ledger.Tx) error {
		view := tx.View(projectionName)
		var p preparationState
		if ok, err := get(view, bucketPreparations, []byte(st.Predicate.Preparation), &p); err != nil || !ok {
			return errors.Join(err, ErrPreparationNotFound)
		}
		var a attemptState
		if ok, err := get(view, bucketAttempts, []byte(st.Predicate.Preparation), &a); err != nil || !ok || p.State != attempted {
			return errors.Join(err, ErrPreparationUsed)
		}
		if !tx.Now().Before(a.Lease) {
			return ErrPreparationExpired
		}
		now, err := c.recheck(tx, view, key, st)
		if err != nil {
			return err
		}
		if now.KeyID != by.KeyID {
			return fmt.Errorf("%w: your key has changed", ErrRecordChanged)
		}
		if err := c.Identities.StillProven(tx, caller, proven); err != nil {
			return err
		}
		index = tx.Emit(created)
		return decide(tx, view, key, caller, index, st, sha256.Sum256(canonical))
	})
	return index, err
}

// signAndStamp makes the signature and its time-stamp, and checks that the time lies in the statement's window.
func (c *Ceremony) signAndStamp(ctx context.Context, watch *stopwatch, by identity.SigningIdentity, st manifest.Statement, canonical []byte, authorization manifest.Authorization) (manifest.Signature, time.Time, error) {
	watch.skip()
	value, err := c.Config.Sign(ctx, by, manifest.PAE(canonical))
	if err != nil {
		return manifest.Signature{}, time.Time{}, err
	}
	watch.lap(StageHSM)
	token, genTime, err := c.Stamp(ctx, value)
	if err != nil {
		return manifest.Signature{}, time.Time{}, err
	}
	if genTime.Before(st.Predicate.PreparedAt.Time()) || genTime.After(st.Predicate.Expires.Time()) {
		return manifest.Signature{}, time.Time{}, fmt.Errorf("%w: %s", ErrTimeWindow, genTime.UTC().Format(time.RFC3339Nano))
	}
	tokens := [][]byte{token}
	if c.StampMore != nil {
		more, err := c.StampMore(ctx, value, st.Predicate.PreparedAt.Time(), st.Predicate.Expires.Time())
		if err != nil {
			return manifest.Signature{}, time.Time{}, err
		}
		tokens = append(tokens, more...)
	}
	watch.lap(StageTimestamp)
	return manifest.Signature{
		Authorization: authorization,
		Certificates:  by.Certificates,
		Signature:     manifest.SignatureValue{Algorithm: string(by.Algorithm), KeyID: by.KeyID, Value: value},
		Statement:     st,
		Timestamps:    tokens,
	}, genTime, nil
}

// created is the entry of a signature.
func (c *Ceremony) created(caller identity.Caller, sig manifest.Signature, canonical []byte) (ledger.Event, error) {
	body, err := manifest.BodyAround(sig, canonical)
	if err != nil {
		return ledger.Event{}, err
	}
	authorization, err := sig.Authorization.Canonical()
	if err != nil {
		return ledger.Event{}, err
	}
	encoded, err := ledger.EncodeBody(body) // here, and not in the one transaction that all wait for
	if err != nil {
		return ledger.Event{}, err
	}
	return ledger.Event{
		Type: chain.SignatureCreated, Actor: caller.Actor(), Body: encoded,
		Attachments: append([][]byte{canonical, sig.Signature.Value, authorization}, sig.Timestamps...),
	}, nil
}

// decide appends record.decided where the signature at index decides the record, or changes what it came to.
func decide(tx *ledger.Tx, view *ledger.State, key []byte, caller identity.Caller, index uint64, st manifest.Statement, digest [32]byte) error {
	var state recordState
	if ok, err := get(view, bucketRecords, key, &state); err != nil || !ok {
		return errors.Join(err, ErrRecordNotFound)
	}
	rows, err := signatures(view, key)
	if err != nil {
		return err
	}
	p := st.Predicate
	rows = append(rows, row{index: index, signatureState: signatureState{
		Statement: hexOf(digest[:]), Signer: p.Signer.ID, Decision: p.Decision, Authorization: string(p.Requires),
	}})
	outcome := count(state.Policy, rows).outcome
	switch {
	case state.Status == statusOpen && outcome == statusOpen:
		return nil
	case state.Status != statusOpen && outcome == statusOpen: // only a withdrawal comes this late
		outcome = statusWithdrawn
	}
	body := recordDecided{Event: p.Event, Outcome: outcome, Statements: statements(rows)}
	tx.Emit(ledger.Event{Type: chain.RecordDecided, Actor: caller.Actor(), Body: body})
	reviewed(tx, state, p.Event, outcome, caller)
	return nil
}

func statements(rows []row) []string {
	digests := make([]string, len(rows))
	for i, r := range rows {
		digests[i] = r.Statement
	}
	return digests
}

// abandon closes an attempt whose signature was not released. Where even that fails, the next start does it.
func (c *Ceremony) abandon(ctx context.Context, caller identity.Caller, event, preparation string, cause error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := c.abandonAttempt(ctx, caller, event, preparation, "failed"); err != nil {
		c.Log.Error("an attempt stays open until the next start", "preparation", preparation, "cause", cause, "error", err)
	}
}

func (c *Ceremony) abandonAttempt(ctx context.Context, caller identity.Caller, event, preparation, cause string) error {
	_, err := c.Ledger.Do(ctx, func(tx *ledger.Tx) error {
		var a attemptState
		ok, err := get(tx.View(projectionName), bucketAttempts, []byte(preparation), &a)
		if err != nil || !ok { // the commit may have happened after all
			return err
		}
		tx.Emit(ledger.Event{Type: chain.SignatureAbandoned, Actor: caller.Actor(), Body: signatureAbandoned{Cause: cause, Event: event, Preparation: preparation}})
		return nil
	})
	return err
}

// finish waits for the closing seal where the record is decided, and releases the signature at index.
func (c *Ceremony) finish(ctx context.Context, event string, index uint64) (Released, error) {
	if err := c.close(ctx, event); err != nil {
		return Released{}, fmt.Errorf("the signature is recorded (entry %d), but the record's closing seal is still missing; call again: %w", index, err)
	}
	return c.release(ctx, event, index)
}

// release reads a committed signature back and proves it against a signed checkpoint, which covers the record's closing seal, too, so
// that whoever asks next is shown both.
func (c *Ceremony) release(ctx context.Context, event string, index uint64) (Released, error) {
	key, err := eventKey(event)
	if err != nil {
		return Released{}, err
	}
	var out Released
	last := index
	err = c.Ledger.View(func(r *ledger.Read) error {
		view := r.View(projectionName)
		state, ok, err := c.state(view, key)
		if err != nil || !ok {
			return errors.Join(err, ErrRecordNotFound)
		}
		last = max(index, state.Closing)
		out, err = c.signature(r, view, index)
		out.Status = state.status()
		return err
	})
	if err != nil {
		return Released{}, err
	}
	head, err := c.witnessed(ctx, last+1)
	if err != nil {
		return Released{}, err
	}
	return out, c.prove(&out.Signature, index, head)
}

// status is the state of a record as people see it.
func (r recordState) status() string {
	if r.Superseded != 0 && r.Status == statusOpen {
		return statusSuperseded
	}
	return r.Status
}

// Seal signs a record with a service's own key, in one call.
func (c *Ceremony) Seal(ctx context.Context, caller identity.Caller, req Request) (Released, error) {
	if req.Meaning == meaningClosing || caller.ID == manifest.ClosingService {
		return Released{}, fmt.Errorf("%w: %s is the signing service's own", ErrMeaningReserved, meaningClosing)
	}
	if err := checkReason(req.Reason, 0); err != nil {
		return Released{}, err
	}
	req.Decision = decisionSeal
	key, err := eventKey(req.Event)
	if err != nil {
		return Released{}, err
	}
	request, err := requestHash(caller, "Seal", req.RequestID, req)
	if err != nil {
		return Released{}, err
	}
	for tries := 0; ; tries++ {
		out, err := c.sealOnce(ctx, caller, key, req, request)
		switch {
		case tries >= sealTries:
		case errors.Is(err, ledger.ErrNotCheckpointed): // its key was enrolled or rotated just now
			if err := c.Ledger.Settle(ctx); err == nil {
				continue
			}
		case errors.Is(err, ErrRecordChanged): // so was its key, between the signature and its commit
			continue
		}
		return out, err
	}
}

const sealTries = 2

func (c *Ceremony) sealOnce(ctx context.Context, caller identity.Caller, key []byte, req Request, request string) (Released, error) {
	watch := c.stopwatch()
	made, earlier, err := c.seal(ctx, watch, caller, key, req, request)
	if err != nil {
		return Released{}, err
	}
	if earlier != nil {
		return c.release(ctx, req.Event, *earlier)
	}
	created, err := c.created(caller, made.Signature, made.Statement)
	if err != nil {
		return Released{}, err
	}
	created.Request = request
	var index uint64
	var status string
	_, err = c.Ledger.Do(ctx, func(tx *ledger.Tx) error {
		if first := tx.Request(request); request != "" && len(first) > 0 {
			index = first[0]
			return nil
		}
		state, err := c.admitSeal(tx, tx.View(projectionName), caller, key, made.Signature)
		if err != nil {
			return err
		}
		status = state.status()
		index = tx.Emit(created)
		return nil
	})
	if err != nil {
		return Released{}, err
	}
	watch.lap(StageLedger)
	head, err := c.witnessed(ctx, index+1)
	if err != nil {
		return Released{}, err
	}
	if status == "" { // another call of the same request was first
		return c.release(ctx, req.Event, index)
	}
	made.Index, made.Status = index, status
	err = c.prove(&made.Signature, index, head)
	watch.done()
	return made, err
}

// seal builds and signs a service's statement. It returns the index of an earlier answer to the same request instead, if there is one.
func (c *Ceremony) seal(ctx context.Context, watch *stopwatch, caller identity.Caller, key []byte, req Request, request string) (made Released, earlier *uint64, err error) {
	head := c.Ledger.Head()
	var st manifest.Statement
	var by identity.SigningIdentity
	err = c.Ledger.View(func(r *ledger.Read) error {
		if first := r.Request(request); request != "" && len(first) > 0 {
			earlier = &first[0]
			return nil
		}
		if by, err = c.Identities.SigningIdentity(r, caller.ID); err != nil {
			return err
		}
		if !by.Service {
			return ErrNotAService
		}
		view := r.View(projectionName)
		state, about, err := c.record(r, view, key)
		if err != nil {
			return err
		}
		if req.Meaning != meaningClosing {
			if err := c.Identities.MaySeal(r, caller, state.Type); err != nil {
				return err
			}
			if state.Status != statusOpen {
				return ErrRecordClosed
			}
		}
		last, err := newestBelow(view, key, head.Checkpoint.Size)
		if err != nil {
			return err
		}
		st, err = c.statement(statementInput{
			id: newID("prp_"), by: by, about: about, request: req, now: chain.NewTime(c.Clock()), head: head, previous: last,
			requires: manifest.AuthorizationService,
		})
		return err
	})
	if err != nil || earlier != nil {
		return Released{}, earlier, err
	}
	if made.Statement, err = st.Canonical(); err != nil {
		return Released{}, nil, fmt.Errorf("%w: %w", ErrRecordInvalid, err)
	}
	made.Signature, made.Time, err = c.signAndStamp(ctx, watch, by, st, made.Statement, manifest.Authorization{Kind: manifest.AuthorizationService})
	return made, nil, err
}

// admitSeal re-checks a seal at its commit.
func (c *Ceremony) admitSeal(tx *ledger.Tx, view *ledger.State, caller identity.Caller, key []byte, sig manifest.Signature) (recordState, error) {
	p := sig.Statement.Predicate
	by, err := c.Identities.SigningIdentity(tx, p.Signer.ID)
	if err != nil {
		return recordState{}, err
	}
	if by.Enrolment != p.Signer.Enrolment || by.KeyID != sig.Signature.KeyID {
		return recordState{}, fmt.Errorf("%w: the service's key has changed", ErrRecordChanged)
	}
	state, ok, err := c.state(view, key)
	if err != nil || !ok {
		return state, errors.Join(err, ErrRecordNotFound)
	}
	if p.Meaning.ID == meaningClosing {
		return state, nil
	}
	if err := c.Identities.MaySeal(tx, caller, state.Type); err != nil {
		return state, err
	}
	if state.Status != statusOpen {
		return state, ErrRecordClosed
	}
	if state.Superseded != 0 {
		return state, ErrRecordChanged
	}
	if signatureCount(view, key) >= MaxSignatures {
		return state, fmt.Errorf("%w (%d)", ErrTooMany, MaxSignatures)
	}
	return state, nil
}
