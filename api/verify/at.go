package verify

import (
	"time"

	"github.com/signetd/signet/api/manifest"
)

// later reports whether something of a time is left out, because somebody is asked about who verified before it.
func (j *judge) later(t time.Time) bool { return !j.at.IsZero() && t.After(j.at) }

// asOf says what was left out as later than the time in question, and how far the manifest reaches.
func (j *judge) asOf() {
	if j.at.IsZero() {
		return
	}
	later, newest := 0, time.Time{}
	for _, s := range j.report.Signatures {
		if s.Later {
			later++
		}
	}
	for _, f := range j.facts.entries {
		if t := f.Time.Time(); t.After(newest) {
			newest = t
		}
	}
	at := manifest.NewTime(j.at)
	if later > 0 {
		j.note("judged as of %s: %d of %d signatures are later and were not judged", at, later, len(j.report.Signatures))
	}
	if !newest.IsZero() && newest.Before(j.at) {
		j.note("the newest entry in the manifest is of %s: what came between that and %s is not in it", manifest.NewTime(newest), at)
	}
}
