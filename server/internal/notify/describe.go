package notify

import (
	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/server/internal/ledger"
)

// describe says of news what its signer needs to recognise it. What cannot be read any more, because it was moved to the archive, is left out.
func describe(r *ledger.Read, view *ledger.State, row alertRow, try tryRow) item {
	i := item{Status: row.status(), attempt: try.Attempts + 1, round: try.Arrived}
	if row.Kind != KindSignatureUsed {
		return i
	}
	raw, err := r.Entry(row.Entry)
	if err != nil {
		return i
	}
	e, err := chain.ParseEntry(raw)
	if err != nil {
		return i
	}
	if announced, ok := since(view, row.Subject, e.Actor.Source); ok {
		i.newSource = announced < row.Index
	}
	attachments, err := r.Attachments(row.Entry)
	if err != nil || len(attachments) == 0 {
		return i
	}
	st, err := manifest.ParseStatement(attachments[0])
	if err != nil {
		return i // an accountability statement
	}
	i.record, i.decision, i.meaning = st.Predicate.Event, st.Predicate.Decision, st.Predicate.Meaning.ID
	return i
}
