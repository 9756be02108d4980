package tsa

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// asked is a source that says what a test tells it.
type asked struct {
	name   string
	offset time.Duration
	wrong  time.Duration
	err    error
}

func (a *asked) Name() string { return a.name }
func (a *asked) Measure(context.Context) (time.Duration, time.Duration, error) {
	return a.offset, a.wrong, a.err
}

func TestDiscipline(t *testing.T) {
	t.Attr("requirement", "A-19")
	now := time.Date(2026, 11, 21, 9, 30, 0, 0, time.UTC)
	away := errors.New("no answer")
	const ms = time.Millisecond
	for _, tc := range []struct {
		name         string
		sources      []*asked
		doubt, wrong bool
	}{
		{"one says that it is right", []*asked{{offset: 3 * ms, wrong: 2 * ms}}, false, false},
		{"at the bound", []*asked{{offset: -900 * ms, wrong: 100 * ms}}, false, false},
		{"beyond the bound by what the source cannot tell", []*asked{{offset: 950 * ms, wrong: 100 * ms}}, true, false},
		{"one says that it is ahead", []*asked{{offset: 5 * time.Second, wrong: 2 * ms}}, true, true},
		{"one says that it is behind", []*asked{{offset: -time.Hour, wrong: 2 * ms}}, true, true},
		{"the only one is away", []*asked{{err: away}}, true, false},
		{"two of three are enough", []*asked{{wrong: ms}, {wrong: ms}, {err: away}}, false, false},
		{"one of three that lies does no harm", []*asked{{wrong: ms}, {wrong: ms}, {offset: time.Hour, wrong: ms}}, false, false},
		{"two of three that say wrong are believed", []*asked{{wrong: ms}, {offset: time.Hour, wrong: ms}, {offset: time.Hour, wrong: ms}}, true, true},
		{"one of two is not enough", []*asked{{wrong: ms}, {err: away}}, true, false},
		{"one against one", []*asked{{wrong: ms}, {offset: time.Minute, wrong: ms}}, true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := DisciplineConfig{Accuracy: time.Second, Clock: func() time.Time { return now }}
			for _, s := range tc.sources {
				c.Sources = append(c.Sources, s)
			}
			d := NewDiscipline(c)
			if d.Doubt() == nil {
				t.Error("a clock that was never measured is believed")
			}
			err := d.Measure(t.Context())
			if (err != nil) != tc.doubt || (d.Doubt() != nil) != tc.doubt || err != nil && !errors.Is(err, ErrClock) {
				t.Errorf("doubt: %v", err)
			}
			if (d.Wrong() != nil) != tc.wrong {
				t.Errorf("wrong: %v", d.Wrong())
			}
		})
	}
}

// TestDisciplineGoesOn follows one clock: believed, off, right again, then nobody answers any more.
func TestDisciplineGoesOn(t *testing.T) {
	t.Attr("requirement", "A-19")
	now := time.Date(2026, 11, 21, 9, 30, 0, 0, time.UTC)
	s := &asked{name: "ntp:one", wrong: time.Millisecond}
	d := NewDiscipline(DisciplineConfig{Sources: []Source{s}, Accuracy: time.Second, Every: time.Minute, Clock: func() time.Time { return now }})
	step := func(trusted bool, change func()) {
		t.Helper()
		change()
		if err := d.Measure(t.Context()); (err == nil) != trusted || !errors.Is(d.Doubt(), err) || len(d.Measured()) != 1 {
			t.Errorf("measured: %v; doubt: %v", err, d.Doubt())
		}
	}
	step(true, func() {})
	step(true, func() { now = now.Add(time.Minute) })
	step(false, func() { s.offset = 31 * time.Second })
	if err := d.Doubt(); err == nil || !strings.Contains(err.Error(), "31s ahead") || !strings.Contains(err.Error(), "set it right") {
		t.Errorf("the error does not say what to do: %v", err)
	}
	step(true, func() { s.offset = 0 })
	now = now.Add(3*time.Minute + 6*time.Second)
	if d.Doubt() == nil {
		t.Error("what was measured three rounds ago still counts")
	}
}

// limit is a source that tells how long it may take.
type limit struct{ given time.Duration }

func (l *limit) Name() string { return "limit" }
func (l *limit) Measure(ctx context.Context) (time.Duration, time.Duration, error) {
	end, _ := ctx.Deadline()
	l.given = time.Until(end)
	return 0, 0, ctx.Err()
}

// TestDisciplineDefaults: a measurement may take five seconds, and counts for three minutes and as long as one may take.
func TestDisciplineDefaults(t *testing.T) {
	t.Attr("requirement", "A-19")
	synctest.Test(t, func(t *testing.T) {
		source := new(limit)
		d := NewDiscipline(DisciplineConfig{Sources: []Source{source}, Accuracy: time.Second, Clock: time.Now})
		if err := d.Measure(t.Context()); err != nil || source.given != 5*time.Second || d.Every() != time.Minute {
			t.Errorf("it may take %v, every %v: %v", source.given, d.Every(), err)
		}
		time.Sleep(3*time.Minute + 5*time.Second) // of the bubble's clock
		if err := d.Doubt(); err != nil {
			t.Errorf("what was measured three rounds ago: %v", err)
		}
		time.Sleep(time.Nanosecond)
		if err := d.Doubt(); !errors.Is(err, ErrClock) {
			t.Errorf("longer ago: %v", err)
		}
	})
	d := NewDiscipline(DisciplineConfig{Sources: []Source{&asked{name: "ntp:one", err: errors.New("no answer")}}, Accuracy: time.Second, Clock: time.Now})
	if err := d.Measure(t.Context()); err == nil || !strings.Contains(err.Error(), "ntp:one: no answer") {
		t.Errorf("it is believed: %v", err)
	}
	for want, m := range map[string]Measurement{
		"a: 2ms behind, ±1ms": {Source: "a", Offset: -2 * time.Millisecond, Error: time.Millisecond}, "a: 2ms ahead, ±1ms": {Source: "a", Offset: 2 * time.Millisecond, Error: time.Millisecond},
	} {
		if m.String() != want {
			t.Errorf("%s, want %s", m, want)
		}
	}
}

// TestClockDoubt stops an authority by what a source says.
func TestClockDoubt(t *testing.T) {
	t.Attr("requirement", "A-19")
	now := time.Date(2026, 11, 21, 9, 30, 0, 0, time.UTC)
	var doubt error
	k := newClock(Config{Clock: func() time.Time { return now }, LastEntry: func() time.Time { return time.Time{} }, MaxStep: time.Second, Doubt: func() error { return doubt }})
	if _, err := k.now(); err != nil {
		t.Fatal(err)
	}
	doubt = ErrClock
	if _, err := k.now(); !errors.Is(err, ErrClock) {
		t.Errorf("time in spite of a doubt: %v", err)
	}
	doubt = nil
	if _, err := k.now(); err != nil {
		t.Error(err)
	}
}

func TestKernelOffset(t *testing.T) {
	for _, tc := range []struct {
		name           string
		state          int
		status         int32
		offset, max    int64
		failed         error
		want, wrong    time.Duration
		unsynchronised bool
	}{
		{"in microseconds", 0, 1, 250, 4000, nil, -250 * time.Microsecond, 4 * time.Millisecond, false},
		{"in nanoseconds", 0, 1 | staNano, -250, 4000, nil, 250, 4 * time.Millisecond, false},
		{"not synchronised", 0, staUnsync, 0, 16000000, nil, 0, 0, true},
		{"in error", timeError, 1, 0, 0, nil, 0, 0, true},
	} {
		offset, wrong, err := kernelOffset(tc.state, tc.status, tc.offset, tc.max, tc.failed)
		if offset != tc.want || wrong != tc.wrong || errors.Is(err, ErrUnsynchronised) != tc.unsynchronised {
			t.Errorf("%s: %v ±%v, %v", tc.name, offset, wrong, err)
		}
	}
	if _, _, err := kernelOffset(0, 0, 0, 0, errors.New("not allowed")); err == nil {
		t.Error("a failed call")
	}
	if _, _, err := (Kernel{}).Measure(t.Context()); err != nil && !errors.Is(err, ErrUnsynchronised) && !strings.Contains(err.Error(), "adjtimex") {
		t.Errorf("the kernel of this machine: %v", err)
	}
}

// What chronyc of version 4.3 printed.
const (
	chronyGood = "C0A80001,192.168.0.1,3,1795270720.101474967,-0.000321000,0.000012000,0.000045000,-1.224,0.001,0.020,0.008120000,0.001500000,64.2,Normal\n"
	chronyOff  = "7F7F0101,,0,0.000000000,0.000000000,0.000000000,0.000000000,0.000,0.000,0.000,1.000000000,1.000000000,0.0,Not synchronised\n"
)

func TestChronyOffset(t *testing.T) {
	offset, wrong, err := chronyOffset([]byte(chronyGood))
	if err != nil || offset != 321*time.Microsecond || wrong != 5560*time.Microsecond {
		t.Errorf("%v ±%v, %v", offset, wrong, err)
	}
	if _, _, err := chronyOffset([]byte(chronyOff)); !errors.Is(err, ErrUnsynchronised) {
		t.Error(err)
	}
	for _, unsynchronised := range []string{strings.Replace(chronyGood, "Normal", "Not synchronised", 1), strings.Replace(chronyGood, "192.168.0.1,3,", "192.168.0.1,0,", 1)} {
		if _, _, err := chronyOffset([]byte(unsynchronised)); !errors.Is(err, ErrUnsynchronised) {
			t.Errorf("%s: %v", unsynchronised, err)
		}
	}
	for _, bad := range []string{"", "a,b\n", strings.Replace(chronyGood, "-0.000321000", "NaN", 1), strings.Replace(chronyGood, "0.008120000", "x", 1),
		strings.Replace(chronyGood, "-0.000321000", "1e10", 1), strings.Replace(chronyGood, "-0.000321000", "-Inf", 1), "\"" + chronyGood} {
		if _, _, err := chronyOffset([]byte(bad)); err == nil {
			t.Errorf("%q: taken", bad)
		}
	}
	if _, _, err := (Chrony{Command: "/nowhere/chronyc"}).Measure(t.Context()); err == nil {
		t.Error("without chronyc")
	}
}

// ntpServer answers on the loopback: a server whose clock is ahead of ours.
func ntpServer(t *testing.T, ahead time.Duration, change func(answer []byte)) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		for {
			query := make([]byte, 512)
			n, from, err := c.ReadFrom(query)
			if err != nil {
				return
			}
			put := func(b []byte, at time.Time) {
				binary.BigEndian.PutUint32(b, uint32(at.Unix()+ntpEpoch))
				binary.BigEndian.PutUint32(b[4:], uint32(int64(at.Nanosecond())<<32/1e9))
			}
			b := make([]byte, ntpSize)
			b[0], b[1] = 4<<3|4, 2
			binary.BigEndian.PutUint32(b[4:], 1<<16/100) // root delay 10 ms
			binary.BigEndian.PutUint32(b[8:], 1<<16/200) // root dispersion 5 ms
			copy(b[24:32], query[40:48])
			put(b[32:], time.Now().Add(ahead))
			put(b[40:], time.Now().Add(ahead))
			if change != nil {
				change(b)
			}
			if n == ntpSize {
				_, _ = c.WriteTo([]byte("noise"), from)
				_, _ = c.WriteTo(b, from)
			}
		}
	}()
	return c.LocalAddr().String()
}

func TestNTP(t *testing.T) {
	measure := func(address string) (time.Duration, time.Duration, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		return NTP{Address: address, Clock: time.Now}.Measure(ctx)
	}
	for _, ahead := range []time.Duration{0, 31 * time.Second, -time.Hour} {
		offset, wrong, err := measure(ntpServer(t, ahead, nil))
		if err != nil || (offset+ahead).Abs() > wrong || wrong < 9*time.Millisecond {
			t.Errorf("a server that is %v ahead: %v ±%v, %v", ahead, offset, wrong, err)
		}
	}
	for name, change := range map[string]func(b []byte){
		"a kiss of death":     func(b []byte) { b[1] = 0; copy(b[12:], "RATE") },
		"not synchronised":    func(b []byte) { b[0] |= 3 << 6 },
		"another client":      func(b []byte) { b[0] = 4<<3 | 3 },
		"far from any source": func(b []byte) { b[1] = 16 },
		"sent before it came": func(b []byte) { b[40], b[41] = 0, 0 },
	} {
		if _, _, err := measure(ntpServer(t, 0, change)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	forged := ntpServer(t, 0, func(b []byte) { b[24] ^= 1 })
	if _, _, err := (NTP{Address: forged, Clock: time.Now}).Measure(ctx); err == nil {
		t.Error("an answer to another query is taken")
	}
}

// TestNTPEra reads times beyond 2036, when the seconds begin anew.
func TestNTPEra(t *testing.T) {
	for _, at := range []time.Time{time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC), time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC)} {
		var b [8]byte
		binary.BigEndian.PutUint32(b[:], uint32(at.Unix()+ntpEpoch))
		if got := ntpTime(b[:], at.Add(time.Minute)); !got.Equal(at) {
			t.Errorf("%v is read as %v", at, got.UTC())
		}
	}
}
