package server

import (
	"time"

	"github.com/signetd/signet/server/internal/identity"
)

// LockoutConfig bounds guesses beyond identity.lockAfter.
type LockoutConfig struct {
	Name    int      `json:"name" doc:"wrong credentials for one name from all networks together until it is locked for all; open sessions, and networks from which somebody has logged in within 90 days, have counts of their own"`
	Network int      `json:"network" doc:"wrong credentials from one network (an IPv4 address, a /64 of IPv6), whatever the names, until it is locked; one is forgotten each minute"`
	Flood   int      `json:"flood" doc:"wrong credentials in all until only networks are let in from which somebody has logged in within 90 days; one is forgotten each second"`
	Delay   Duration `json:"delay" doc:"how long to wait after the third failure in a row; twice as long after each further one"`
}

// defaultLockout is what a file starts from.
func defaultLockout() LockoutConfig {
	return LockoutConfig{Name: 50, Network: 100, Flood: 500, Delay: Duration(time.Second)}
}

func (c LockoutConfig) identity() identity.LockoutConfig {
	return identity.LockoutConfig{Name: c.Name, Network: c.Network, Flood: c.Flood, Delay: time.Duration(c.Delay)}
}
