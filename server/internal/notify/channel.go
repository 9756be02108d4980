package notify

import (
	"context"
	"time"
)

// channel carries messages to an audience.
type channel interface {
	// name is "mail", or "webhook/" and a name of the configuration.
	name() string
	// serves reports whether the channel reaches an audience.
	serves(a Audience) bool
	// most is how many alerts one message takes.
	most() int
	// send tries each message once, in order. It must return soon after ctx ends.
	send(ctx context.Context, messages []message) []result
}

// message is what one channel says to one recipient.
type message struct {
	id       string // the same for each try of the same alerts in the same round
	audience Audience
	to       string // address of e-mail; empty: the audience's of the configuration
	zone     *time.Location
	time     time.Time
	alerts   []item
}

// item is an alert in a message.
type item struct {
	Status
	attempt   int
	round     int  // how often it has arrived before
	escalated bool // management is told because nobody has acknowledged it
	// Of the use of a signature:
	record, decision, meaning string
	newSource                 bool
}

// result is what came of a message.
type result struct {
	delivered bool
	down      bool   // the channel itself does not work: what else waits need not be tried now
	broke     bool   // so it seems, but it may be the message: the next try begins with another one
	permanent bool   // trying again is of no use: nobody has the address
	outcome   string // for the ledger: it holds no address and no secret
}
