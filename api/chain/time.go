package chain

import (
	"cmp"
	"time"
)

// timeLayout is the one text form of a time.
const timeLayout = "2006-01-02T15:04:05.000Z"

// Bounds of what the text form can say.
const (
	minMilli = -62135596800000 // 0001-01-01T00:00:00.000Z
	maxMilli = 253402300799999 // 9999-12-31T23:59:59.999Z
)

// Time is a time in UTC with a precision of one millisecond. Times can be compared with ==. The text form has exactly three
// decimals and a Z: 2026-11-21T09:30:00.123Z. The zero Time is 1970-01-01T00:00:00.000Z and stands for "no time".
type Time struct{ milli int64 } // since 1970

// NewTime returns t, truncated to the millisecond. Years outside of 1 to 9999 become the nearest time that has a text form.
func NewTime(t time.Time) Time { return TimeFromMilli(t.UnixMilli()) }

// TimeFromMilli returns the time that lies so many milliseconds after 1970.
func TimeFromMilli(milli int64) Time { return Time{min(max(milli, minMilli), maxMilli)} }

// ParseTime reads the text form and nothing else.
func ParseTime(s string) (Time, error) {
	if len(s) == len(timeLayout) {
		if t, err := time.Parse(timeLayout, s); err == nil {
			if parsed := NewTime(t); parsed.String() == s {
				return parsed, nil
			}
		}
	}
	return Time{}, malformed("time %.80q: want UTC with three decimals, as in %s", s, timeLayout)
}

// Time returns t as a time.Time in UTC.
func (t Time) Time() time.Time { return time.UnixMilli(t.milli).UTC() }

// UnixMilli returns the milliseconds since 1970.
func (t Time) UnixMilli() int64 { return t.milli }

// IsZero reports whether t is the zero Time.
func (t Time) IsZero() bool { return t == Time{} }

// Before reports whether t lies before u.
func (t Time) Before(u Time) bool { return t.milli < u.milli }

// After reports whether t lies after u.
func (t Time) After(u Time) bool { return t.milli > u.milli }

// Compare is -1, 0 or 1 when t lies before u, is u, or lies after u.
func (t Time) Compare(u Time) int { return cmp.Compare(t.milli, u.milli) }

// Add returns t+d, truncated to the millisecond.
func (t Time) Add(d time.Duration) Time { return NewTime(t.Time().Add(d)) }

// Sub returns t-u.
func (t Time) Sub(u Time) time.Duration { return t.Time().Sub(u.Time()) }

// String returns the text form.
func (t Time) String() string { return t.Time().Format(timeLayout) }

// AppendText appends the text form.
func (t Time) AppendText(b []byte) ([]byte, error) { return t.Time().AppendFormat(b, timeLayout), nil }

// MarshalText returns the text form.
func (t Time) MarshalText() ([]byte, error) { return t.AppendText(nil) }

// UnmarshalText reads what [ParseTime] reads.
func (t *Time) UnmarshalText(b []byte) error {
	parsed, err := ParseTime(string(b))
	if err != nil {
		return err
	}
	*t = parsed
	return nil
}
