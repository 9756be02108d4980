package keystore_test

import (
	"errors"
	"testing"
	"time"

	"github.com/signetd/signet/keystore"
)

func TestMeter(t *testing.T) {
	for _, c := range []struct {
		d      time.Duration
		bucket int
	}{
		{-time.Second, 0}, {0, 0}, {time.Nanosecond, 0}, {time.Microsecond, 0}, {time.Microsecond + 1, 1}, {2 * time.Microsecond, 1},
		{2*time.Microsecond + 1, 2}, {4 * time.Microsecond, 2}, {time.Millisecond, 10}, {time.Hour, keystore.Buckets - 1},
	} {
		var m keystore.Meter
		m.Add(c.d)
		d := m.Durations()
		if d.Count[c.bucket] != 1 || d.Number != 1 || d.Sum != max(c.d, 0) {
			t.Errorf("%v: %+v, want it in bucket %d", c.d, d, c.bucket)
		}
		if got := d.Quantile(0.99); got != keystore.Bound(c.bucket) {
			t.Errorf("%v: quantile %v, want %v", c.d, got, keystore.Bound(c.bucket))
		}
	}
	var m keystore.Meter
	if q := m.Durations().Quantile(0.5); q != 0 {
		t.Errorf("quantile of nothing: %v", q)
	}
	for range 99 {
		m.Add(time.Microsecond)
	}
	m.Add(time.Millisecond)
	d := m.Durations()
	if d.Quantile(0.5) != time.Microsecond || d.Quantile(0.98) != time.Microsecond || d.Quantile(0.99) != keystore.Bound(10) || d.Quantile(1) != keystore.Bound(10) {
		t.Errorf("quantiles %v %v %v %v", d.Quantile(0.5), d.Quantile(0.98), d.Quantile(0.99), d.Quantile(1))
	}
}

func TestUnavailableError(t *testing.T) {
	cause := errors.New("unplugged")
	err := error(&keystore.UnavailableError{RetryAfter: time.Second, Cause: cause})
	if !errors.Is(err, keystore.ErrUnavailable) || !errors.Is(err, cause) || err.Error() != "the HSM is unavailable: unplugged" {
		t.Errorf("%v", err)
	}
}

func TestMeterIsFine(t *testing.T) {
	for d := time.Duration(1); d < 8*time.Second; d += d/50 + 1 {
		var m keystore.Meter
		m.Add(d)
		got := m.Quantile(0.99)
		if got < d || got > d+d/8+125 {
			t.Errorf("%v: quantile %v", d, got)
		}
	}
	var m keystore.Meter
	for i := range 100 {
		m.Add(time.Duration(i+1) * time.Microsecond)
	}
	if got := m.Quantile(0.5); got < 50*time.Microsecond || got > 57*time.Microsecond {
		t.Errorf("median %v", got)
	}
	if got := new(keystore.Meter).Quantile(0.5); got != 0 {
		t.Errorf("nothing: %v", got)
	}
}
