package conformance

import (
	"time"

	"github.com/signetd/signet/keystore"
)

// Format is what Report.Format says. A report of another format is not read as one of these.
const Format = "signet-hsm-report/1"

// A Verdict is what a token is for Signet, as a whole or in one point.
type Verdict string

// The verdicts, from the best to the worst.
const (
	Fit      Verdict = "fit"
	NotTried Verdict = "not tried"       // left out on request, or not possible: Saw says which
	Handled  Verdict = "handled"         // of a check: the token has its own way, and Signet deals with it
	Limits   Verdict = "fit with limits" // usable; it costs speed, an algorithm, or a safeguard
	Unfit    Verdict = "unfit"           // the token must not hold keys of Signet
)

// A Report is what a run found out.
type Report struct {
	Format   string        `json:"format"`
	Began    time.Time     `json:"began"`
	Took     Duration      `json:"took"`
	Complete bool          `json:"complete"` // every step came to its end; if not, the verdict is about what was tried
	Verdict  Verdict       `json:"verdict"`
	Module   Module        `json:"module"`
	Token    Token         `json:"token"`
	Needs    []Requirement `json:"requirements"`
	Algo     []Algorithm   `json:"algorithms"`
	Speed    []Speed       `json:"speed,omitempty"`
	Suggest  Suggestion    `json:"suggested"`
	Removed  int           `json:"removed"` // objects that an earlier run had left in the token
	Left     int           `json:"left"`    // objects of this run that could not be removed
}

// A Module is what the library says of itself.
type Module struct {
	Path         string `json:"path"`
	SHA256       string `json:"sha256"` // of the file
	Cryptoki     string `json:"cryptoki"`
	Manufacturer string `json:"manufacturer"`
	Description  string `json:"description"`
	Version      string `json:"version"`
}

// A Token is what the token says of itself.
type Token struct {
	Slot         uint     `json:"slot"`
	Label        string   `json:"label"`
	Serial       string   `json:"serial"`
	Manufacturer string   `json:"manufacturer"`
	Model        string   `json:"model"`
	Hardware     string   `json:"hardware"`
	Firmware     string   `json:"firmware"`
	Flags        []string `json:"flags"`       // by name, CKF_…
	MaxSessions  uint     `json:"maxSessions"` // 0: it does not say, or has no bound
	MinPIN       uint     `json:"minPIN"`
	MaxPIN       uint     `json:"maxPIN"`
	Objects      int      `json:"objects"` // keys in it that are not of this run
}

// A Requirement is one thing that Signet needs of a token.
type Requirement struct {
	Name    string  `json:"name"`  // one word, stable
	Needs   string  `json:"needs"` // a sentence
	Verdict Verdict `json:"verdict"`
	Checks  []Check `json:"checks"`
}

// A Check is one thing that was tried.
type Check struct {
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"`
	Saw     string  `json:"saw"`          // what happened
	Do      string  `json:"do,omitempty"` // what to do about it
}

// An Algorithm is what the token does with one of Signet's algorithms.
type Algorithm struct {
	Name       keystore.Algorithm `json:"name"`
	Works      bool               `json:"works"` // a key was made and its signatures verify
	Why        string             `json:"why,omitempty"`
	Mechanism  string             `json:"mechanism"`
	Listed     bool               `json:"listed"`  // the token lists the mechanism
	MinBits    uint               `json:"minBits"` // as the token says, in the unit of the mechanism
	MaxBits    uint               `json:"maxBits"`
	Sizes      []int              `json:"sizes,omitempty"` // RSA: lengths in bits that a key was made with
	Generated  Duration           `json:"generated"`       // how long it took to make a key
	Point      string             `json:"point,omitempty"` // how CKA_EC_POINT is encoded
	Policy     bool               `json:"policy"`          // the attributes of a key keep the policy
	Attributes []Attribute        `json:"attributes,omitempty"`
}

// An Attribute is what was asked for at generation, and what the token says afterwards.
type Attribute struct {
	Name  string `json:"name"`
	Asked string `json:"asked,omitempty"` // empty: not asked for, the token sets it
	Got   string `json:"got,omitempty"`   // empty: the token does not tell
	Kept  bool   `json:"kept"`
}

// A Speed is how fast the token signs.
type Speed struct {
	Algorithm keystore.Algorithm `json:"algorithm"`
	Sessions  int                `json:"sessions"`
	Copies    bool               `json:"copies"` // with copies of the key in the session
	PerSecond float64            `json:"perSecond"`
	P50       Duration           `json:"p50"`
	P99       Duration           `json:"p99"`
	Errors    int                `json:"errors"`
}

// A Suggestion is how to configure Signet for this token.
type Suggestion struct {
	Workers       int                  `json:"workers"`
	SessionCopies bool                 `json:"sessionCopies"`
	Algorithms    []keystore.Algorithm `json:"algorithms"` // that work and keep the policy
	Why           []string             `json:"why,omitempty"`
}

// A Duration reads and writes as `1.5ms`.
type Duration time.Duration

// MarshalText implements [encoding.TextMarshaler].
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

var rank = map[Verdict]int{Fit: 0, Handled: 1, NotTried: 2, Limits: 3, Unfit: 4}

// worse returns the worse of two verdicts.
func worse(a, b Verdict) Verdict {
	if rank[b] > rank[a] {
		return b
	}
	return a
}
