package export

import (
	"fmt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/verify"
)

// maxFaults is how many faults a report holds. All are counted, and the verdict is over all.
const maxFaults = 100

// Report is what an export proves.
type Report struct {
	Code        verify.Code       `json:"code"`
	Verdict     string            `json:"verdict"`
	Faults      []verify.Fault    `json:"faults"` // the first 100
	FaultCount  uint64            `json:"faultCount,string"`
	Origin      string            `json:"origin"`
	Start       uint64            `json:"start,string"` // the entries [Start, End)
	End         uint64            `json:"end,string"`
	Size        uint64            `json:"size,string"` // of the checkpoint
	Root        string            `json:"root"`        // of the checkpoint, hex
	Entries     uint64            `json:"entries,string"`
	Attachments uint64            `json:"attachments,string"`
	First       string            `json:"first"` // time of the first entry
	Last        string            `json:"last"`  // time of the last entry
	Types       map[string]uint64 `json:"types"` // how many entries of each type
	Commitments uint64            `json:"indexCommitments,string"`
	Brackets    []Bracket         `json:"brackets"` // the newest 100
	Timestamped uint64            `json:"timestamped,string"`
	Unwitnessed bool              `json:"unwitnessed"`
	Notes       []string          `json:"notes"`
	codes       map[verify.Code]bool
}

// Bracket is a time-stamped checkpoint whose time-stamps hold: all entries below Size are older than Time.
type Bracket struct {
	Entry     uint64     `json:"entry,string"` // that records it
	Size      uint64     `json:"size,string"`
	Time      chain.Time `json:"time"`
	Accuracy  string     `json:"accuracy"`
	Authority string     `json:"authority"`
}

// Whole reports whether the export has every entry of the checkpoint's tree.
func (r *Report) Whole() bool { return r.Start == 0 && r.End == r.Size }

func (r *Report) fault(code verify.Code, where, format string, args ...any) {
	r.FaultCount++
	r.codes[code] = true
	if len(r.Faults) < maxFaults {
		r.Faults = append(r.Faults, verify.Fault{Code: code, What: fmt.Sprintf(format, args...), Where: where})
	}
}

func newReport() *Report {
	return &Report{
		Faults: []verify.Fault{}, Types: map[string]uint64{}, Brackets: []Bracket{}, Notes: []string{}, codes: map[verify.Code]bool{},
	}
}

// conclude reaches the verdict: 16 wins, else the lowest code.
func (r *Report) conclude() {
	r.Code = verify.OK
	for code := range r.codes {
		if r.Code == verify.OK || code == verify.Malformed || r.Code != verify.Malformed && code < r.Code {
			r.Code = code
		}
	}
	r.Verdict = r.Code.String()
}

// see counts an entry.
func (r *Report) see(e chain.Entry) {
	if r.First == "" {
		r.First = e.Time.String()
	}
	r.Last = e.Time.String()
	r.Types[string(e.Type)]++
}

// bracket keeps the newest ones.
func (r *Report) bracket(b Bracket) {
	r.Timestamped++
	if len(r.Brackets) == maxFaults {
		r.Brackets = append(r.Brackets[:0], r.Brackets[1:]...)
	}
	r.Brackets = append(r.Brackets, b)
}

func (r *Report) note(format string, args ...any) {
	if len(r.Notes) < maxFaults {
		r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
	}
}
