package server

import (
	"fmt"
	"os"
	"time"

	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/server/internal/identity"
)

// The presets of how people prove themselves.
const (
	PresetPart11 = "part11" // each signature takes at least user name and password (21 CFR 11.200(a)(1))
	PresetOpen   = "open"   // a passkey alone may sign where a policy says so
)

// ContinuousConfig is the continuous period of 21 CFR 11.200(a)(1)(i).
type ContinuousConfig struct {
	Enabled bool     `json:"enabled" doc:"whether the signings that follow the first one of a session take the password alone; what a policy demands is never left out"`
	Idle    Duration `json:"idle" doc:"longest time between two signings of a period"`
	Longest Duration `json:"longest" doc:"longest period; then a signing takes all components again"`
}

// validateCredentials checks the configuration of passwords and second factors.
func (c Config) validateCredentials(bad func(key, format string, args ...any) error) error {
	i := c.Identity
	switch i.Preset {
	case PresetPart11, PresetOpen:
	default:
		return bad("identity.preset", "%q; use part11 or open", i.Preset)
	}
	switch k := manifest.AuthorizationKind(i.Requires); {
	case !k.Known() || k == manifest.AuthorizationService:
		return bad("identity.requires", "%q; use password, password+totp, passkey or password+passkey", i.Requires)
	case k == manifest.AuthorizationPasskey && i.Preset == PresetPart11:
		return bad("identity.requires", "passkey alone does not go with the preset part11, which always asks for user name and password; use password+passkey")
	}
	if i.TestEvery < 0 || i.TestEvery > 0 && time.Duration(i.TestEvery) < day || i.TestEvery == 0 && c.Environment == Production {
		return bad("identity.testEvery", "%v; use 24h and more (0s, never, outside of production)", time.Duration(i.TestEvery))
	}
	if i.PasswordAge < 0 || i.PasswordAge > 0 && time.Duration(i.PasswordAge) < 24*time.Hour {
		return bad("identity.passwordAge", "%v; use 0s (passwords do not age) or 24h and more", time.Duration(i.PasswordAge))
	}
	if i.MinPasswordWithFactor < 8 || i.MinPasswordWithFactor > i.MinPassword {
		return bad("identity.minPasswordWithFactor", "%d; use 8 up to identity.minPassword", i.MinPasswordWithFactor)
	}
	if i.ContinuousSigning.Idle <= 0 || i.ContinuousSigning.Longest < i.ContinuousSigning.Idle {
		return bad("identity.continuousSigning", "idle %v, longest %v; use durations, of which longest is not the shorter one",
			time.Duration(i.ContinuousSigning.Idle), time.Duration(i.ContinuousSigning.Longest))
	}
	return nil
}

// credentials sets what the configuration says of passwords and second factors.
func (c Config) credentials(to *identity.Config) error {
	i := c.Identity
	to.MinPassword, to.MinPasswordSecond, to.PasswordAge = i.MinPassword, i.MinPasswordWithFactor, time.Duration(i.PasswordAge)
	to.TestEvery = time.Duration(i.TestEvery)
	to.PasskeyAlone, to.Requires = i.Preset == PresetOpen, manifest.AuthorizationKind(i.Requires)
	to.Continuous = identity.ContinuousSigning{
		On: i.ContinuousSigning.Enabled, Idle: time.Duration(i.ContinuousSigning.Idle), Longest: time.Duration(i.ContinuousSigning.Longest),
	}
	if i.Blocklist == "" {
		return nil
	}
	f, err := os.Open(c.Path(i.Blocklist))
	if err != nil {
		return fmt.Errorf("%w: identity.blocklist: %w", ErrConfig, err)
	}
	defer f.Close()
	if to.Blocklist, err = identity.ReadBlocklist(f); err != nil {
		return fmt.Errorf("%w: identity.blocklist: %w", ErrConfig, err)
	}
	return nil
}
