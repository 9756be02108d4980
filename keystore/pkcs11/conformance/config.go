package conformance

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/pkcs11"
)

// Prefix is what the label of each test key begins with.
const Prefix = "signet-hsm-test."

// A Config says which token to try, and how far to go. Module, PIN and one of TokenLabel, Serial and URI are needed, as for
// opening a token; the rest has defaults.
type Config struct {
	Module      string             // absolute path of the PKCS#11 module
	TokenLabel  string             // exactly one token must match the label and
	Serial      string             // the serial number, of which either can be left out, or
	URI         pkcs11.URI         // what it says of a token
	PIN         keystore.PINSource // asked at each login
	SoftHSMConf string             // as in pkcs11.Config

	Algorithms []keystore.Algorithm // to try; nil means all
	Sessions   []int                // measure speed with so many sessions at the same time; nil means 1, 2, 8, 64
	Duration   time.Duration        // of one measurement; 0 means 1 s
	NoSpeed    bool                 // leave the measurements out
	Idle       time.Duration        // leave a session alone for so long, and see whether it is still there; 0 leaves that out

	// WrongPIN allows one login with a wrong PIN, followed by one with the right one. It is not done if the token says
	// that a wrong try could be the last one, and it shows in the audit log of the device.
	WrongPIN bool

	// Hang is how long one step may take before the run gives up on the module: no call of PKCS#11 takes a deadline.
	// 0 means 5 minutes, since a smart card may need that for an RSA key. Measuring and idling come on top.
	Hang time.Duration
}

// An Event tells of the progress: a step begins, or something was found.
type Event struct {
	Step  string // what is being done now, for people
	Index int    // from 1
	Steps int    // how many there are
	Check *Check // what was found, or nil where a step begins
}

const (
	defaultDuration = time.Second
	defaultHang     = 5 * time.Minute
	maxDuration     = time.Minute
	maxIdle         = time.Hour
	maxSessions     = 256
)

// withDefaults returns the configuration with what was left out, or why it cannot be.
func (c Config) withDefaults() (Config, error) {
	bad := func(format string, args ...any) (Config, error) {
		return Config{}, fmt.Errorf("%w: "+format, append([]any{keystore.ErrInvalid}, args...)...)
	}
	if c.TokenLabel == "" && c.Serial == "" && c.URI == (pkcs11.URI{}) {
		return bad("name the token by its label or serial number, or by a URI")
	}
	if c.PIN == nil {
		return Config{}, fmt.Errorf("%w: no PIN given", keystore.ErrPIN)
	}
	if c.Algorithms == nil {
		c.Algorithms = keystore.Algorithms()
	}
	for i, a := range c.Algorithms {
		if err := a.Validate(); err != nil {
			return Config{}, err
		}
		if slices.Contains(c.Algorithms[:i], a) {
			return bad("%s is named twice", a)
		}
	}
	if c.Sessions == nil {
		c.Sessions = []int{1, 2, 8, 64}
	}
	for _, n := range c.Sessions {
		if n < 1 || n > maxSessions {
			return bad("%d sessions; 1 to %d can be measured", n, maxSessions)
		}
	}
	if c.Duration == 0 {
		c.Duration = defaultDuration
	}
	if c.Hang == 0 {
		c.Hang = defaultHang
	}
	if c.Duration < 0 || c.Duration > maxDuration || c.Idle < 0 || c.Idle > maxIdle || c.Hang < 0 {
		return bad("a measurement takes at most %v, idling at most %v, and nothing less than no time", maxDuration, maxIdle)
	}
	return c, nil
}

// Errors of a run that could not be finished. They wrap [keystore.ErrUnavailable].
var (
	errHangs = errors.New("a call to the module does not return; what it left in the token is removed by the next run")
)
