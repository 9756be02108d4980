package server

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/api/manifest"
)

// TestTimeConfig: settings of the clock, of time-stamps and of the archive, at their bounds and beyond.
func TestTimeConfig(t *testing.T) {
	one := ExternalTSAConfig{Name: "one", URL: "https://tsa.example/", Roots: "roots.pem"}
	external := func(change func(e *ExternalTSAConfig)) func(*Config) {
		return func(c *Config) {
			e := one
			change(&e)
			c.Timestamp.External = []ExternalTSAConfig{e}
		}
	}
	many := func(n int) (out []ExternalTSAConfig) {
		for i := range n {
			e := one
			e.Name = fmt.Sprint(i)
			out = append(out, e)
		}
		return out
	}
	stamps := func(mode string, wait time.Duration) func(*Config) {
		return func(c *Config) {
			c.Timestamp.External = many(1)
			c.Timestamp.Signatures = StampsConfig{Mode: mode, Wait: Duration(wait)}
		}
	}
	clock := func(every time.Duration, sources ...string) func(*Config) {
		return func(c *Config) { c.Timestamp.Clock = ClockConfig{Sources: sources, Every: Duration(every)} }
	}
	for _, c := range []struct {
		name   string
		change func(*Config)
		key    string // that is refused; empty: it is taken
	}{
		{"as it is", func(*Config) {}, ""},
		{"each entry", func(c *Config) { c.Ledger.Brackets.Every = 1 }, ""},
		{"as rarely as may be", func(c *Config) { c.Ledger.Brackets.Every = manifest.MaxBracketLag }, ""},
		{"too rarely", func(c *Config) { c.Ledger.Brackets.Every = manifest.MaxBracketLag + 1 }, "ledger.brackets.every"},
		{"never", func(c *Config) { c.Ledger.Brackets.Every = 0 }, "ledger.brackets.every"},
		{"within no time", func(c *Config) { c.Ledger.Brackets.Within = 0 }, "ledger.brackets.within"},
		{"seven authorities", func(c *Config) { c.Timestamp.External = many(maxExternal) }, ""},
		{"eight authorities", func(c *Config) { c.Timestamp.External = many(maxExternal + 1) }, "timestamp.external"},
		{"one authority twice", func(c *Config) { c.Timestamp.External = append(many(1), many(1)...) }, "timestamp.external[1].name"},
		{"the own name", external(func(e *ExternalTSAConfig) { e.Name = "own" }), "timestamp.external[0].name"},
		{"no name", external(func(e *ExternalTSAConfig) { e.Name = "" }), "timestamp.external[0].name"},
		{"a long name", external(func(e *ExternalTSAConfig) { e.Name = strings.Repeat("x", 64) }), ""},
		{"too long a name", external(func(e *ExternalTSAConfig) { e.Name = strings.Repeat("x", 65) }), "timestamp.external[0].name"},
		{"plain HTTP", external(func(e *ExternalTSAConfig) { e.URL = "http://tsa.example" }), ""},
		{"FTP", external(func(e *ExternalTSAConfig) { e.URL = "ftp://tsa.example" }), "timestamp.external[0].url"},
		{"no host", external(func(e *ExternalTSAConfig) { e.URL = "https:///tsa" }), "timestamp.external[0].url"},
		{"a password", external(func(e *ExternalTSAConfig) { e.URL = "https://a:b@tsa.example" }), "timestamp.external[0].url"},
		{"a fragment", external(func(e *ExternalTSAConfig) { e.URL = "https://tsa.example/#x" }), "timestamp.external[0].url"},
		{"a control", external(func(e *ExternalTSAConfig) { e.URL = "https://tsa.example/\x7f" }), "timestamp.external[0].url"},
		{"no roots", external(func(e *ExternalTSAConfig) { e.Roots = "" }), "timestamp.external[0].roots"},
		{"a minute", external(func(e *ExternalTSAConfig) { e.Timeout = Duration(time.Minute) }), ""},
		{"more than a minute", external(func(e *ExternalTSAConfig) { e.Timeout = Duration(time.Minute + 1) }), "timestamp.external[0].timeout"},
		{"less than nothing", external(func(e *ExternalTSAConfig) { e.Timeout = -1 }), "timestamp.external[0].timeout"},
		{"stamps within 100 ms", stamps(stampsAll, 100*time.Millisecond), ""},
		{"stamps within a minute", stamps(stampsFirst, time.Minute), ""},
		{"stamps within 99 ms", stamps(stampsAll, 99*time.Millisecond), "timestamp.signatures.wait"},
		{"stamps within more than a minute", stamps(stampsFirst, time.Minute+1), "timestamp.signatures.wait"},
		{"stamps of nobody", func(c *Config) { c.Timestamp.Signatures.Mode = stampsAll }, "timestamp.signatures.mode"},
		{"stamps of another kind", stamps("some", time.Second), "timestamp.signatures.mode"},
		{"every source", clock(time.Second, "kernel", "chrony", "ntp:time.example:123", "ntp:[::1]:123"), ""},
		{"once an hour", clock(time.Hour, "kernel"), ""},
		{"less than once an hour", clock(time.Hour+1, "kernel"), "timestamp.clock.every"},
		{"all the time", clock(time.Second-1, "kernel"), "timestamp.clock.every"},
		{"of nobody, all the time", clock(0), ""},
		{"sixteen sources", clock(time.Minute, slices.Repeat([]string{"kernel"}, maxClockSources)...), ""},
		{"seventeen sources", clock(time.Minute, slices.Repeat([]string{"kernel"}, maxClockSources+1)...), "timestamp.clock.sources"},
		{"NTP without a port", clock(time.Minute, "kernel", "ntp:time.example:"), "timestamp.clock.sources[1]"},
		{"NTP without a host", clock(time.Minute, "ntp::123"), "timestamp.clock.sources[0]"},
		{"a place alone", clock(time.Minute, "time.example:123"), "timestamp.clock.sources[0]"},
		{"a small archive", func(c *Config) { c.Ledger.Archive.Keep = 256 }, ""},
		{"a bucket that retains", func(c *Config) { c.Ledger.Archive.Store, c.Ledger.Archive.Retain = "s3://bucket", Duration(time.Hour) }, ""},
		{"retained for less than nothing", func(c *Config) { c.Ledger.Archive.Store, c.Ledger.Archive.Retain = "s3://bucket", -1 }, "ledger.archive.retain"},
		{"as often as may be", func(c *Config) { c.Ledger.Archive.Every = Duration(time.Second) }, ""},
		{"too often", func(c *Config) { c.Ledger.Archive.Every = Duration(time.Second - 1) }, "ledger.archive.every"},
		{"witnesses that may take five minutes", func(c *Config) { c.Ledger.Rollback.WitnessTimeout = Duration(5 * time.Minute) }, ""},
		{"witnesses that may take longer", func(c *Config) { c.Ledger.Rollback.WitnessTimeout = Duration(5*time.Minute + 1) }, "ledger.rollback.witnessTimeout"},
		{"witnesses that may take no time", func(c *Config) { c.Ledger.Rollback.WitnessTimeout = 0 }, "ledger.rollback.witnessTimeout"},
		{"witnesses that are not there", func(c *Config) { c.Ledger.Rollback.RequireWitness = true }, "ledger.rollback.requireWitness"},
	} {
		config := DefaultConfig()
		config.HSM.PINFile, config.SystemAccess = "/run/pin", "closed"
		c.change(&config)
		err := config.Validate()
		if c.key == "" && err != nil || c.key != "" && (!errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), c.key+":") && !strings.Contains(err.Error(), c.key+" ")) {
			t.Errorf("%s: %v; want %q refused", c.name, err, c.key)
		}
	}
}

// TestArchiveNames: what an entry says of the store leaves out what changes, and without a store nothing is moved.
func TestArchiveNames(t *testing.T) {
	for store, want := range map[string]string{
		"archive": "folder", "/mnt/archive": "folder", "s3://bucket/a": "s3://bucket/a", "s3://bucket/a?endpoint=https://x&region=y": "s3://bucket/a", "s3://bucket?": "s3://bucket",
	} {
		var c Config
		c.Ledger.Archive.Store = store
		if got := archiveName(c); got != want {
			t.Errorf("%s is called %s, want %s", store, got, want)
		}
	}
	s := new(Server)
	if _, err := s.archiveReport(t.Context(), 0); !errors.Is(err, ErrNoArchive) || newArchiveStore(Options{}) != nil {
		t.Errorf("without a store: %v", err)
	}
	if err := s.closeArchive(); err != nil {
		t.Error(err)
	}
	c := Config{DataDir: t.TempDir()}
	c.Ledger.Archive.Store = "archive" // beside the data, and not there
	store := newArchiveStore(Options{Config: c, Clock: time.Now}).(*archiveStore)
	if _, err := store.Put(t.Context(), []byte("x")); err == nil || !strings.Contains(err.Error(), "ledger.archive.store") {
		t.Errorf("a folder that is not there: %v", err)
	}
	if err := store.Close(); err != nil {
		t.Error(err)
	}
}
