package notify

import (
	"encoding/json/v2"
	"fmt"

	"github.com/signetd/signet/api/chain"
)

// alertRaised is the body of alert.raised.
type alertRaised struct {
	Audience Audience `json:"audience"`
	Contact  string   `json:"contact"` // commitment; empty: the subject's own
	Entry    string   `json:"entry"`   // index of what it is about
	Kind     string   `json:"kind"`
	Subject  string   `json:"subject"`
	Summary  string   `json:"summary"`
}

// alertDelivered is the body of alert.delivered: one try of a channel.
type alertDelivered struct {
	Alerts    []alertTry `json:"alerts"`
	Audience  Audience   `json:"audience"`
	Channel   string     `json:"channel"`
	Delivered bool       `json:"delivered"`
	Down      bool       `json:"down"` // the channel itself did not work
	Outcome   string     `json:"outcome"`
}

// alertTry is one alert of a message.
type alertTry struct {
	Alert   string `json:"alert"`
	Attempt int    `json:"attempt"` // of this channel for this alert and audience, from 1
	Done    bool   `json:"done"`    // no channel tries it again: it has arrived, or nothing more can be done
}

// alertEscalated is the body of alert.escalated.
type alertEscalated struct {
	Alert string `json:"alert"`
}

// alertAcknowledged is the body of alert.acknowledged.
type alertAcknowledged struct {
	Alert  string `json:"alert"`
	Remark string `json:"remark"`
}

// maxBatch is how many alerts one alert.delivered names: it fits an entry.
const maxBatch = 500

// readBody reads a body of this package.
func readBody[T any](e chain.Entry) (T, error) {
	var v T
	if err := json.Unmarshal(e.Body, &v, json.RejectUnknownMembers(true)); err != nil {
		return v, fmt.Errorf("entry %d, %s: %w", e.Index, e.Type, err)
	}
	return v, nil
}
