package tsa

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/csv"
	"errors"
	"fmt"
	"math"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrUnsynchronised says that nothing keeps the clock right.
var ErrUnsynchronised = errors.New("the clock is not synchronised")

// Kernel asks the kernel, which whoever synchronises the clock (chrony, ntpd, systemd-timesyncd) tells how well they do: adjtimex(2).
type Kernel struct{}

// Name implements Source.
func (Kernel) Name() string { return "kernel" }

// Measure implements Source.
func (Kernel) Measure(context.Context) (offset, wrong time.Duration, err error) {
	var t unix.Timex // no mode: nothing is changed
	state, err := unix.Adjtimex(&t)
	return kernelOffset(state, t.Status, t.Offset, t.Maxerror, err)
}

// States and flags of adjtimex(2).
const (
	timeError = 5    // TIME_ERROR
	staUnsync = 0x40 // STA_UNSYNC
	staNano   = 0x2000
)

func kernelOffset(state int, status int32, offset, maxError int64, failed error) (time.Duration, time.Duration, error) {
	switch {
	case failed != nil:
		return 0, 0, fmt.Errorf("adjtimex: %w", failed)
	case state == timeError || status&staUnsync != 0:
		return 0, 0, fmt.Errorf("%w: the kernel says so (adjtimex); does chrony or timesyncd run?", ErrUnsynchronised)
	}
	unit := time.Microsecond
	if status&staNano != 0 {
		unit = time.Nanosecond
	}
	return -time.Duration(offset) * unit, time.Duration(maxError) * time.Microsecond, nil // the offset is what is still to be added to the clock
}

// Chrony asks the chronyd of this machine, by its command line program.
type Chrony struct {
	Command string // chronyc
}

// Name implements Source.
func (Chrony) Name() string { return "chrony" }

// Measure implements Source.
func (c Chrony) Measure(ctx context.Context) (offset, wrong time.Duration, err error) {
	command := c.Command
	if command == "" {
		command = "chronyc"
	}
	cmd := exec.CommandContext(ctx, command, "-c", "-n", "tracking")
	var stderr bytes.Buffer
	cmd.Stderr, cmd.WaitDelay = &stderr, time.Second
	out, err := cmd.Output()
	if err != nil {
		return 0, 0, fmt.Errorf("chronyc: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return chronyOffset(out)
}

// chronyOffset reads `chronyc -c tracking`: reference id, name, stratum, reference time, system time (what is still to be added to the clock), last
// offset, RMS offset, frequency, residual frequency, skew, root delay, root dispersion, update interval, leap status. Seconds.
func chronyOffset(out []byte) (time.Duration, time.Duration, error) {
	fields, err := csv.NewReader(bytes.NewReader(out)).Read()
	if err != nil || len(fields) != 14 {
		return 0, 0, fmt.Errorf("chronyc: %d fields of tracking, want 14", len(fields))
	}
	if fields[13] == "Not synchronised" || fields[2] == "0" {
		return 0, 0, fmt.Errorf("%w: chrony says so", ErrUnsynchronised)
	}
	var seconds [3]float64
	for i, n := range [...]int{4, 10, 11} {
		f, err := strconv.ParseFloat(fields[n], 64)
		if err != nil || math.IsNaN(f) || math.Abs(f) > 1e9 {
			return 0, 0, fmt.Errorf("chronyc: field %d of tracking is %.40q", n+1, fields[n])
		}
		seconds[i] = f
	}
	span := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	return -span(seconds[0]), span(math.Abs(seconds[1])/2 + math.Abs(seconds[2])), nil
}

// NTP asks a server (RFC 5905, client mode; unauthenticated: use servers of your own network, or several).
type NTP struct {
	Address string           // host:port
	Clock   func() time.Time // the clock that is measured
}

// Name implements Source.
func (n NTP) Name() string { return "ntp:" + n.Address }

const (
	ntpSize  = 48
	ntpEpoch = 2208988800 // seconds from 1900 to 1970
)

// Measure implements Source.
func (n NTP) Measure(ctx context.Context) (offset, wrong time.Duration, err error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "udp", n.Address)
	if err != nil {
		return 0, 0, err
	}
	defer c.Close()
	if end, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(end); err != nil {
			return 0, 0, err
		}
	}
	query := make([]byte, ntpSize)
	query[0] = 4<<3 | 3     // version 4, client
	rand.Read(query[40:48]) // instead of our time: nobody needs it, and nobody who does not see the query can answer it
	sent := n.Clock()
	if _, err := c.Write(query); err != nil {
		return 0, 0, err
	}
	for {
		answer := make([]byte, 1024)
		size, err := c.Read(answer)
		if err != nil {
			return 0, 0, err
		}
		received := n.Clock()
		if size < ntpSize || !bytes.Equal(answer[24:32], query[40:48]) {
			continue // not the answer to this query
		}
		return ntpOffset(answer[:ntpSize], sent, received)
	}
}

func ntpOffset(b []byte, sent, received time.Time) (time.Duration, time.Duration, error) {
	leap, mode, stratum := b[0]>>6, b[0]&7, b[1]
	switch {
	case mode != 4:
		return 0, 0, fmt.Errorf("the answer has mode %d, not that of a server", mode)
	case stratum == 0:
		return 0, 0, fmt.Errorf("the server refuses: %.4q", b[12:16])
	case leap == 3 || stratum > 15:
		return 0, 0, fmt.Errorf("%w: the server says so of itself", ErrUnsynchronised)
	}
	short := func(b []byte) time.Duration {
		return time.Duration(float64(binary.BigEndian.Uint32(b)) / (1 << 16) * float64(time.Second))
	}
	in, out := ntpTime(b[32:40], received), ntpTime(b[40:48], received)
	trip := received.Sub(sent) - out.Sub(in)
	if out.Before(in) || trip < 0 {
		return 0, 0, errors.New("the times of the answer contradict each other")
	}
	// The server's clock less ours, at both ends, and the mean of it (RFC 5905, section 8). Our times without their monotonic reading.
	theirs := (in.Sub(sent.Round(0)) + out.Sub(received.Round(0))) / 2
	return -theirs, trip/2 + short(b[4:8])/2 + short(b[8:12]), nil
}

// ntpTime reads a time of 64 bits, in the era that is nearest to now.
func ntpTime(b []byte, now time.Time) time.Time {
	seconds, fraction := int64(binary.BigEndian.Uint32(b)), int64(binary.BigEndian.Uint32(b[4:]))
	const era = int64(1) << 32
	unix := seconds - ntpEpoch
	for unix < now.Unix()-era/2 {
		unix += era
	}
	return time.Unix(unix, fraction*1e9>>32)
}
