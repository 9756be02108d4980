package identity

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestPasswordForm: the same keys give the same password, and nothing is cut off.
func TestPasswordForm(t *testing.T) {
	f := newFixture(t)
	key := must(f.d.macKey(t.Context()))
	make := func(password Secret) verifier {
		return must(parseVerifier(must(f.d.newVerifier(t.Context(), "zoe", password))))
	}
	matches := func(v *verifier, password Secret) bool {
		return must(f.d.matches(t.Context(), key, v, "zoe", password))
	}
	v := make("Zoë's café, granite umbrella") // precomposed
	if s := v.String(); !strings.HasPrefix(s, "$argon2id-hmac$v=1,k="+keyName(key)+"$m=64,t=1,p=1$") {
		t.Errorf("verifier %q", s)
	}
	for password, want := range map[Secret]bool{
		"Zoë's café, granite umbrella":             true,
		"Zoe\u0308's cafe\u0301, granite umbrella": true, // decomposed
		"zoë's café, granite umbrella":             false,
		"Zoë's café, granite umbrella ":            false,
		"":                                         false,
		Secret(strings.Repeat("x", 2000)):          false,
	} {
		if got := matches(&v, password); got != want {
			t.Errorf("%q matches: %v", password.Reveal(), got)
		}
	}
	if must(f.d.matches(t.Context(), key, &v, "ada", "Zoë's café, granite umbrella")) {
		t.Error("a verifier serves somebody else, too")
	}
	long := make(Secret(strings.Repeat("0123456789 word ", 64)))
	if matches(&long, Secret(strings.Repeat("0123456789 word ", 63))) {
		t.Error("a long password was cut off")
	}
	if matches(nil, "") {
		t.Error("nobody's password matches")
	}
	if a, b := make(adaPass), make(adaPass); a.String() == b.String() {
		t.Error("two verifiers of one password are the same")
	}
}

// TestNewPassword: long enough and not easily guessed; no prescribed mix.
func TestNewPassword(t *testing.T) {
	for password, ok := range map[Secret]bool{
		"quiet otter granite umbrella":       true,
		"nur kleine woerter ohne sinn":       true,
		"カワウソ 静かな 花崗岩 傘の下の散歩":                true,
		"fourteen chars":                     false,
		"p4$$w0rdp4$$w0rd":                   false,
		"passwordpassword":                   false,
		"qwertyuiopasdfghjkl":                false,
		"111111111111111111111":              false,
		"examplemedicalsignet":               false,
		"ada.lovelace-ada.lovelace":          false,
		"abcdefghijklmnopqrstuvwxyz":         false,
		"quiet otter granite umbrella\x00":   false,
		"quiet otter granite umbrella\u0378": false, // unassigned
	} {
		if err := checkNewPassword(password, 15, []string{"ada.lovelace", "example medical", "example", "medical", "signet"}); (err == nil) != ok || err != nil && !errors.Is(err, ErrWeakPassword) {
			t.Errorf("%q: %v", password.Reveal(), err)
		}
	}
	t.Run("scoring is cheap, whatever is typed", func(t *testing.T) {
		for _, s := range []string{
			"aB3$ word ", "1!|7+4@$50", "4@8({[<369&#1!|/+$5%72", "1", "a", "19991231", "1.1.11", "qwerty", "p4$$w0rd1!|7", "zxcvbnm,./", "äöü€", "abcdefghijklmnopqrstuvwxyz",
		} {
			started := time.Now()
			_ = checkNewPassword(Secret(strings.Repeat(s, 1024/len(s))), 15, []string{"ada"})
			if d := time.Since(started); d > 2*time.Second {
				t.Errorf("scoring %q, repeated, takes %v", s, d)
			}
		}
	})
}

// BenchmarkSigningIdentity is what each seal asks.
func BenchmarkSigningIdentity(b *testing.B) {
	f := newFixture(b)
	_, _, ada := f.ada()
	for b.Loop() {
		if _, err := f.identity(ada.ID); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAuthenticate is what each call of a person costs before anything else.
func BenchmarkAuthenticate(b *testing.B) {
	f := newFixture(b)
	f.ada()
	_, token := f.loginToken("ada", adaPass)
	for b.Loop() {
		if _, err := f.d.Authenticate(b.Context(), token, nil, desk); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPassword is one check with the default costs, in its two parts.
func BenchmarkPassword(b *testing.B) {
	f := newFixture(b)
	f.d.hasher.params = DefaultArgon
	key := must(f.d.macKey(b.Context()))
	v := must(parseVerifier(must(f.d.newVerifier(b.Context(), "ada", adaPass))))
	b.Run("argon2id", func(b *testing.B) {
		for b.Loop() {
			f.d.hasher.compute(normalPassword(adaPass), v.params, v.salt)
		}
	})
	b.Run("HSM", func(b *testing.B) {
		for b.Loop() {
			if _, err := f.d.verifierMAC(b.Context(), key, "ada", v, v.hash); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("both", func(b *testing.B) {
		for b.Loop() {
			if !must(f.d.matches(b.Context(), key, &v, "ada", adaPass)) {
				b.Fatal("no match")
			}
		}
	})
}

// BenchmarkPasswordMemory has 64 callers check passwords at the same time, at the default cost.
//
//	at-once   computations that ran at the same time, at the most
//	heap-MiB  the most that the heap ever held
//	of-bound  what was added to the heap, as a part of twice what is set: checks × memory
func BenchmarkPasswordMemory(b *testing.B) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // as signetd does
	for _, checks := range []int{2, 8} {
		b.Run(fmt.Sprintf("checks=%d", checks), func(b *testing.B) {
			h := must(newHasher(DefaultArgon, checks, 128, time.Hour))
			salt := make([]byte, saltSize)
			runtime.GC()
			sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}}
			held := func() uint64 {
				metrics.Read(sample)
				return sample[0].Value.Uint64() + sample[1].Value.Uint64()
			}
			before, most := held(), uint64(0)
			var all sync.WaitGroup
			var next atomic.Int64
			b.ResetTimer()
			for range 64 {
				all.Go(func() {
					for next.Add(1) <= int64(b.N) {
						release, err := h.lanes.acquire(b.Context(), laneKnock, "")
						if err != nil {
							b.Error(err)
							return
						}
						h.compute("correct horse battery staple", DefaultArgon, salt)
						release()
					}
				})
			}
			done := make(chan struct{})
			go func() { all.Wait(); close(done) }()
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for waiting := true; waiting; {
				select {
				case <-done:
					waiting = false
				case <-tick.C:
					most = max(most, held())
				}
			}
			b.ReportMetric(float64(h.most.Load()), "at-once")
			b.ReportMetric(float64(most)/(1<<20), "heap-MiB")
			b.ReportMetric(float64(most-before)/float64(2*uint64(checks)*uint64(DefaultArgon.Memory)<<10), "of-bound")
		})
	}
}
