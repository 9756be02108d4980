package identity

import (
	"encoding/json/jsontext"
	"fmt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
)

// actProposed: an administrator proposes an act.
type actProposed struct {
	Code      string         `json:"code"` // digest of the first half of a one-time code; empty: there is none
	Content   jsontext.Value `json:"content"`
	Digest    string         `json:"digest"` // SHA-256 of the content
	Expires   chain.Time     `json:"expires"`
	ID        string         `json:"id"`
	Kind      string         `json:"kind"`
	Rendering string         `json:"rendering"`
	Subject   string         `json:"subject"`
}

// actConfirmed: another administrator confirms it. What it does follows in the same transaction.
type actConfirmed struct {
	Digest   string `json:"digest"`
	ID       string `json:"id"`
	Kind     string `json:"kind"`
	Proposed uint64 `json:"proposed,string"` // index of its entry
	Proposer string `json:"proposer"`
	Subject  string `json:"subject"`
}

// actWithdrawn: it will not be done.
type actWithdrawn struct {
	Cause  string `json:"cause"`
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

// proposalRow is what the projection knows of a proposal.
type proposalRow struct {
	ID       string        `json:"id"`
	Index    uint64        `json:"index"`
	Created  chain.Time    `json:"created"`
	Expires  chain.Time    `json:"expires"`
	Kind     string        `json:"kind"`
	Subject  string        `json:"subject"`
	Proposer string        `json:"proposer"`
	Digest   string        `json:"digest"`
	State    ProposalState `json:"state"`
	Decider  string        `json:"decider"`
}

func applyProposed(s *ledger.State, e chain.Entry) error {
	body, err := readBody[actProposed](e)
	if err != nil {
		return err
	}
	s.Put(bucketProposalOrder, indexKey(e.Index), []byte(body.ID))
	s.Put(bucketPending, endKey(body.Expires, body.ID), nil)
	return put(s, bucketProposals, []byte(body.ID), proposalRow{
		ID: body.ID, Index: e.Index, Created: e.Time, Expires: body.Expires, Kind: body.Kind, Subject: body.Subject, Proposer: e.Actor.ID,
		Digest: body.Digest, State: ProposalPending,
	})
}

func applyConfirmed(s *ledger.State, e chain.Entry) error {
	body, err := readBody[actConfirmed](e)
	if err != nil {
		return err
	}
	if err := decide(s, e, body.ID, ProposalConfirmed); err != nil {
		return err
	}
	return clearFailures(s, e.Actor) // the proof was right
}

func applyWithdrawn(s *ledger.State, e chain.Entry) error {
	body, err := readBody[actWithdrawn](e)
	if err != nil {
		return err
	}
	if body.Cause == withdrawnLapsed {
		return decide(s, e, body.ID, ProposalLapsed)
	}
	return decide(s, e, body.ID, ProposalWithdrawn)
}

func decide(s *ledger.State, e chain.Entry, id string, state ProposalState) error {
	row, ok, err := getProposal(s, id)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("entry %d names the proposal %.80q, which no entry before it has made", e.Index, id)
	}
	s.Delete(bucketPending, endKey(row.Expires, row.ID))
	row.State = state
	if e.Actor.Kind == chain.Person {
		row.Decider = e.Actor.ID
	}
	return put(s, bucketProposals, []byte(id), row)
}

func getProposal(s reader, id string) (row proposalRow, ok bool, err error) {
	if id == "" {
		return row, false, nil
	}
	ok, err = get(s, bucketProposals, []byte(id), &row)
	return row, ok, err
}

// noteAdministrators remembers that there were two active administrators: from then on there are four eyes.
func noteAdministrators(s *ledger.State) {
	if s.Get(bucketMeta, []byte(metaFourEyes)) != nil {
		return
	}
	active := 0
	s.Ascend(bucketAdmins, nil, func(_, state []byte) bool {
		if State(state) == StateActive {
			active++
		}
		return active < 2
	})
	if active >= 2 {
		s.Put(bucketMeta, []byte(metaFourEyes), []byte("on"))
	}
}
