package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json/v2"
	"slices"
	"strconv"
	"strings"

	bolt "go.etcd.io/bbolt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/failpoint"
)

// Restored is the body of a ledger.restored entry: two administrators go on with a file although evidence speaks against it.
type Restored struct {
	Administrators []RestoredBy       `json:"administrators"`
	Expected       []RestoredEvidence `json:"expected"`
	Found          RestoredFound      `json:"found"`
	Lost           RestoredLost       `json:"lost"`
}

// RestoredBy is an administrator who accepts the loss, and why.
type RestoredBy struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

// RestoredEvidence is what spoke against the file.
type RestoredEvidence struct {
	Checkpoint string `json:"checkpoint"` // SHA-256 of the signed note, which is an attachment; or empty
	Damage     string `json:"damage"`     // why it could not be read; or empty
	Root       string `json:"root"`       // hex; or empty
	Size       string `json:"size"`
	Source     string `json:"source"`
}

// RestoredFound is the file as it was found.
type RestoredFound struct {
	Entries string `json:"entries"`
	Root    string `json:"root"`
}

// RestoredLost is the range of entries that were seen elsewhere and are lost; both empty if there are none.
type RestoredLost struct {
	First string `json:"first"`
	Last  string `json:"last"`
}

// notAccepted leaves out what a ledger.restored entry, proved against the newest checkpoint, has accepted.
func (l *Ledger) notAccepted(ctx context.Context, tx *bolt.Tx, conflicts []Conflict) ([]Conflict, error) {
	for _, index := range l.sidecar.restored { // where the program remembers them to be
		if index < l.head.Checkpoint.Size {
			raw, err := l.readEntry(tx, index)
			if err != nil {
				continue
			}
			conflicts = l.without(tx, index, raw, conflicts)
		}
	}
	rows := l.newEntryRows(tx, 0)
	for index := uint64(0); rows.k != nil && index < l.head.Checkpoint.Size && len(conflicts) > 0; index++ {
		if index%4096 == 0 && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if bytes.Contains(rows.v, []byte(`"type":"`+string(chain.LedgerRestored)+`"`)) {
			before := len(conflicts)
			if conflicts = l.without(tx, index, rows.v, conflicts); len(conflicts) < before {
				l.sidecar.restored = append(l.sidecar.restored, index)
			}
		}
		rows.next()
	}
	if rows.err != nil && len(conflicts) > 0 {
		l.log.Warn("ledger: whether the loss was accepted could not be looked up", "err", rows.err)
	}
	return conflicts, nil
}

// without leaves out the conflicts that an entry has accepted.
func (l *Ledger) without(tx *bolt.Tx, index uint64, raw []byte, conflicts []Conflict) []Conflict {
	e, err := chain.ParseEntry(raw)
	if err != nil || e.Type != chain.LedgerRestored || e.Index != index {
		return conflicts
	}
	proof, err := chain.ProveInclusion(index, l.head.Checkpoint.Size, hashReader(tx))
	if err != nil || chain.VerifyInclusion(proof, l.head.Checkpoint.Size, index, l.head.Checkpoint.Root, chain.LeafHash(raw)) != nil {
		return conflicts
	}
	var body Restored
	if json.Unmarshal(e.Body, &body, json.RejectUnknownMembers(true)) != nil {
		return conflicts
	}
	return slices.DeleteFunc(conflicts, func(c Conflict) bool {
		return slices.ContainsFunc(body.Expected, func(r RestoredEvidence) bool { return r.accepts(c) })
	})
}

// accepts reports whether this is what was accepted: the same source with the same size, and the same root where both know one. A file
// that cannot be read was moved on instead.
func (r RestoredEvidence) accepts(c Conflict) bool {
	root := rootText(c.Root)
	return r.Source == clip(c.Source) && r.Size == strconv.FormatUint(c.Size, 10) && (r.Root == root || r.Root == "" || root == "") &&
		(c.Damage == "" || c.Against != "")
}

func rootText(h chain.Hash) string {
	if h.IsZero() {
		return ""
	}
	return h.String()
}

// AcceptLoss goes on with a file that evidence speaks against (Options.AcceptLoss): it appends a ledger.restored entry, in the name of
// the first of the administrators, with the checkpoints that were seen elsewhere as attachments; has a checkpoint signed over it; and
// moves on what stands beside the file. Crash points: before the checkpoint is in the file, the ledger opens for a restore
// alone, which is begun again; after it, the entry speaks for the file.
func (l *Ledger) AcceptLoss(ctx context.Context, actor chain.Actor, by []RestoredBy) (Result, error) {
	l.mu.Lock()
	if !l.held {
		l.mu.Unlock()
		return Result{}, invalid("nothing speaks against the file")
	}
	l.held = false
	l.mu.Unlock()
	body, attachments := l.restoredBody(by)
	result, err := l.Do(ctx, func(tx *Tx) error {
		tx.Emit(Event{Type: chain.LedgerRestored, Actor: actor, Body: body, Attachments: attachments})
		return nil
	})
	if err != nil {
		l.mu.Lock()
		l.held = true
		l.mu.Unlock()
		return Result{}, err
	}
	// Crash point: the loss is accepted, and no checkpoint says so. The ledger opens for a restore alone, which is begun again.
	failpoint.Hit("ledger.restored-appended")
	if _, err := l.Checkpointed(ctx, result.End()); err != nil {
		return result, err
	}
	if _, err := l.Do(ctx, func(*Tx) error { return nil }); err != nil { // the batch carries the checkpoint into the file
		return result, err
	}
	// Crash point: the checkpoint is in the file, what stands beside it is of the history that was given up. The entry speaks for the file.
	failpoint.Hit("ledger.restored-saved")
	l.sidecar.mu.Lock()
	l.sidecar.restored = append(l.sidecar.restored, result.First)
	l.sidecar.kept = nil
	l.sidecar.mu.Unlock()
	l.writeSidecar()
	if slices.ContainsFunc(l.conflicts, l.isBracket) {
		if err := l.dropBracket(); err != nil {
			return result, err
		}
	}
	return result, l.noteState(false)
}

// restoredBody says what is accepted.
func (l *Ledger) restoredBody(by []RestoredBy) (Restored, [][]byte) {
	body := Restored{
		Administrators: by, Expected: []RestoredEvidence{},
		Found: RestoredFound{Entries: strconv.FormatUint(l.size, 10), Root: l.root.String()},
	}
	var attachments [][]byte
	for _, c := range l.conflicts {
		e := RestoredEvidence{Damage: clip(c.Damage), Root: rootText(c.Root), Size: strconv.FormatUint(c.Size, 10), Source: clip(c.Source)}
		if len(c.Note) > 0 {
			sum := sha256.Sum256(c.Note)
			e.Checkpoint = hex.EncodeToString(sum[:])
			if !slices.ContainsFunc(attachments, func(a []byte) bool { return bytes.Equal(a, c.Note) }) {
				attachments = append(attachments, c.Note)
			}
		}
		body.Expected = append(body.Expected, e)
	}
	if from, to := l.rollbackError().Missing(); from < to {
		body.Lost = RestoredLost{First: strconv.FormatUint(from, 10), Last: strconv.FormatUint(to-1, 10)}
	}
	return body, attachments
}

// clip keeps an entry within its bounds.
func clip(s string) string {
	const most = 400
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
