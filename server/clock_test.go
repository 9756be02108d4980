package server_test

import (
	"encoding/binary"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/servertest"
)

// timeServer is an NTP server on the loopback, whose clock is ahead by what a test says.
func timeServer(t *testing.T) (address string, ahead *atomic.Int64) {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	ahead = &atomic.Int64{}
	go func() {
		for {
			query := make([]byte, 512)
			_, from, err := c.ReadFrom(query)
			if err != nil {
				return
			}
			const epoch = 2208988800
			now := time.Now().Add(time.Duration(ahead.Load()))
			b := make([]byte, 48)
			b[0], b[1] = 4<<3|4, 2
			copy(b[24:32], query[40:48])
			for _, at := range []int{32, 40} {
				binary.BigEndian.PutUint32(b[at:], uint32(now.Unix()+epoch))
				binary.BigEndian.PutUint32(b[at+4:], uint32(int64(now.Nanosecond())<<32/1e9))
			}
			_, _ = c.WriteTo(b, from)
		}
	}()
	return c.LocalAddr().String(), ahead
}

func TestTheClockIsMeasured(t *testing.T) {
	t.Attr("requirement", "A-19")
	address, ahead := timeServer(t)
	s := people(t, servertest.Start(t, func(c *server.Config) {
		c.Timestamp.Clock.Sources, c.Timestamp.Clock.Every = []string{"ntp:" + address}, server.Duration(time.Second)
	}))
	s.health("", serving)
	if n := len(s.find(0, chain.ClockChanged)); n != 1 {
		t.Errorf("%d entries say that the clock is believed, want that of the start", n)
	}
	var before uint64
	t.Run("more than 31 seconds off: nothing is signed, and the error says why", func(t *testing.T) {
		ahead.Store(int64(-31500 * time.Millisecond)) // the server is behind: our clock is ahead
		s.health("", notServing)
		before = s.size()
		_, err := s.seal("01")
		wantError(t, err, codes.Unavailable, "CLOCK_UNTRUSTED")
		if !strings.Contains(err.Error(), "31.") {
			t.Errorf("the error does not say how far: %v", err)
		}
		if n := s.size(); n != before {
			t.Errorf("%d entries were appended by a clock that is wrong", n-before)
		}
	})
	t.Run("right again", func(t *testing.T) {
		ahead.Store(0)
		s.health("", serving)
		s.sign(s.ada, "ada", s.prepare(s.ada))
		changes := s.find(before, chain.ClockChanged)
		if len(changes) != 2 || !strings.Contains(string(changes[0].Body), `"trusted":false`) || !strings.Contains(string(changes[1].Body), `"trusted":true`) {
			t.Errorf("changes %v, want both, once the clock is right", changes)
		}
	})
	t.Run("a start with a wrong clock is refused", func(t *testing.T) {
		s.Stop()
		ahead.Store(int64(-time.Hour))
		if opened, err := server.Open(t.Context(), s.Options()); err == nil || !strings.Contains(err.Error(), "set it right") {
			t.Errorf("opened %v, %v", opened != nil, err)
		}
		ahead.Store(0)
		s.Restart()
		s.health("", serving)
	})
}

// Somebody sets the clock while the service runs, and nobody measures it: the monotonic clock tells.
func TestTheClockIsSet(t *testing.T) {
	t.Attr("requirement", "A-19")
	s := people(t, servertest.Start(t, func(c *server.Config) { c.Timestamp.Clock.Every = server.Duration(time.Second) }))
	s.Clock.Settable()
	s.Restart()
	s.connect()
	s.ada, s.rita = s.Login("ada"), s.Login("rita")
	for _, tc := range []struct {
		name    string
		by      time.Duration
		entries bool   // whether the ledger takes entries meanwhile
		says    string // the error
	}{
		{"ahead by two minutes", 2 * time.Minute, false, "jumped ahead by "},
		{"back by two minutes", -2 * time.Minute, false, "behind the last entry by "},
		{"ahead by three seconds", 3 * time.Second, true, "moved by "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.record = s.create(header("ada"))
			p := s.prepare(s.ada)
			before := s.size()
			s.Clock.Set(tc.by)
			_, err := s.signing.Sign(s.ada, signRequest(p, "ada"))
			wantError(t, err, codes.Unavailable, "CLOCK_UNTRUSTED")
			if !strings.Contains(err.Error(), tc.says) {
				t.Errorf("the error does not say %q: %v", tc.says, err)
			}
			s.health("", notServing)
			s.Clock.Set(-tc.by)
			s.health("", serving)
			if n := len(s.find(before, chain.SignatureCreated)); n != 0 {
				t.Errorf("%d signatures were made", n)
			}
			if n := len(s.find(before, chain.SignatureAttempted)); n > 0 != tc.entries {
				t.Errorf("%d attempts were appended by a clock that was set", n)
			}
			s.sign(s.ada, "ada", s.prepare(s.ada)) // what was prepared before is used up
			eventually(t, "both changes are entries", func() bool { return len(s.find(before, chain.ClockChanged)) == 2 })
			changes := s.find(before, chain.ClockChanged)
			if doubted, trusted := string(changes[0].Body), string(changes[1].Body); !strings.Contains(doubted, `"trusted":false`) ||
				!strings.Contains(doubted, "against the monotonic clock") || !strings.Contains(trusted, `"trusted":true`) {
				t.Errorf("changes %s and %s", doubted, trusted)
			}
		})
	}
}

func TestClockSourcesAreNamed(t *testing.T) {
	for _, bad := range []string{"", "ntp", "ntp:", "ntp:host", "ntp:host:", "host:123", "ntp::123", "gps"} {
		c := server.DefaultConfig()
		c.Timestamp.Clock.Sources = []string{bad}
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "timestamp.clock.sources[0]") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, good := range []string{"kernel", "chrony", "ntp:time.example:123", "ntp:[::1]:123"} {
		c := server.DefaultConfig()
		c.HSM.PINFile, c.SystemAccess, c.Timestamp.Clock.Sources = "/run/pin", "closed", []string{good}
		if err := c.Validate(); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
}
