package identity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json/jsontext"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
)

// Proposal is an act that waits for a second administrator, or did.
type Proposal struct {
	ID        string
	Index     uint64 // of its entry: the place in a list
	Kind      string
	State     ProposalState
	Subject   string // signer id; empty where it is about none
	Proposer  string
	Decider   string // who confirmed, withdrew or refused it
	Content   jsontext.Value
	Rendering string
	Digest    [sha256.Size]byte // of the content
	Created   time.Time
	Expires   time.Time
}

// Proposal returns a proposal.
func (d *Directory) Proposal(_ context.Context, id string) (p Proposal, err error) {
	err = d.ledger.View(func(r *ledger.Read) error {
		p, err = d.proposal(r, id)
		return err
	})
	return p, err
}

// Proposals lists proposals, newest first, from below the [Proposal].Index that is given; 0 means from the newest. It can be those alone
// that wait.
func (d *Directory) Proposals(_ context.Context, below uint64, pending bool, limit int) ([]Proposal, error) {
	var list []Proposal
	err := d.ledger.View(func(r *ledger.Read) error {
		var from []byte
		if below != 0 {
			from = indexKey(below)
		}
		var failed error
		view, now := r.View(projectionName), chain.NewTime(d.cfg.Clock())
		view.Descend(bucketProposalOrder, from, func(_, id []byte) bool {
			if len(list) >= limit {
				return false
			}
			row, _, err := getProposal(view, string(id))
			if err == nil && pending && row.now(now) != ProposalPending {
				return true
			}
			var p Proposal
			if err == nil {
				p, err = d.proposal(r, string(id))
			}
			if failed = err; err != nil {
				return false
			}
			list = append(list, p)
			return true
		})
		return failed
	})
	return list, err
}

func (d *Directory) proposal(r *ledger.Read, id string) (Proposal, error) {
	row, ok, err := getProposal(r.View(projectionName), id)
	if err != nil {
		return Proposal{}, err
	}
	if !ok {
		return Proposal{}, ErrProposalNotFound
	}
	b, err := r.Entry(row.Index)
	if err != nil {
		return Proposal{}, err
	}
	e, err := chain.ParseEntry(b)
	if err != nil {
		return Proposal{}, err
	}
	body, err := readBody[actProposed](e)
	if err != nil {
		return Proposal{}, err
	}
	p := Proposal{
		ID: row.ID, Index: row.Index, Kind: row.Kind, State: row.now(chain.NewTime(d.cfg.Clock())), Subject: row.Subject, Proposer: row.Proposer,
		Decider: row.Decider, Content: body.Content, Rendering: body.Rendering, Digest: sha256.Sum256(body.Content), Created: row.Created.Time(),
		Expires: row.Expires.Time(),
	}
	if body.ID != row.ID || body.Kind != row.Kind || body.Subject != row.Subject || hex.EncodeToString(p.Digest[:]) != row.Digest {
		return Proposal{}, errTamperedRow(row.Index)
	}
	return p, nil
}
