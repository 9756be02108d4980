package server

import (
	"time"

	"github.com/signetd/signet/server/internal/identity"
)

// LockoutConfig bounds guesses beyond identity.lockAfter.
type LockoutConfig struct {
	Name    int      `json:"name" doc:"wrong credentials for one name from all networks together until it is locked for all, at most 100 in production; open sessions, and networks from which somebody has logged in within 90 days, have counts of their own"`
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

// validateGuessing keeps production from being told to let somebody guess, or hold a session, for ever.
func (c Config) validateGuessing(bad func(key, format string, args ...any) error) error {
	if c.Environment != Production {
		return nil
	}
	for _, bound := range []struct {
		key     string
		is      int
		largest int
	}{{"identity.lockAfter", c.Identity.LockAfter, 100}, {"identity.lockout.name", c.Identity.Lockout.Name, 100}} {
		if bound.is > bound.largest {
			return bad(bound.key, "%d; use at most %d, which is how often NIST SP 800-63B lets somebody fail", bound.is, bound.largest)
		}
	}
	for _, bound := range []struct {
		key     string
		is      Duration
		longest time.Duration
	}{
		{"identity.sessionIdle", c.Identity.SessionIdle, time.Hour}, {"identity.sessionLifetime", c.Identity.SessionLifetime, 24 * time.Hour},
		{"identity.codeLifetime", c.Identity.CodeLifetime, 24 * time.Hour}, {"signing.preparationLifetime", c.Signing.PreparationLifetime, time.Hour},
	} {
		if time.Duration(bound.is) > bound.longest {
			return bad(bound.key, "%v; use at most %v in production", time.Duration(bound.is), bound.longest)
		}
	}
	return nil
}
