package pkcs11_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	wrapper "github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
	"github.com/signetd/signet/keystore/pkcs11"
	"github.com/signetd/signet/keystore/pkcs11/faulty"
)

// A storm lasts a few seconds, or as long as this variable says, for example 2m. The other one repeats what was seen.
const (
	stormVariable     = "SIGNET_STORM"
	stormSeedVariable = "SIGNET_STORM_SEED"
	stormRound        = 1500 * time.Millisecond
	stormRecovery     = 5 * time.Second // from the last fault until all keys sign
)

// Whatever the device does, in whatever order, while it is used: no wrong signature comes out, callers are answered within their
// deadlines, the module is never misused, threads stay bounded, and when the last fault has gone everything signs again.
func TestStorm(t *testing.T) {
	t.Attr("requirement", "B-31")
	lasts := 4 * time.Second
	if v := os.Getenv(stormVariable); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil {
			t.Fatalf("%s: %v", stormVariable, err)
		}
		lasts = d
	}
	seed := rand.Uint64()
	if v := os.Getenv(stormSeedVariable); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", stormSeedVariable, err)
		}
		seed = n
	}
	t.Logf("seed: %s=%d", stormSeedVariable, seed)
	s := newStorm(t, rand.New(rand.NewPCG(seed, 0)))
	for end := time.Now().Add(lasts); time.Now().Before(end) && !t.Failed(); {
		s.round()
	}
	t.Logf("%d rounds, %d faults, %d signatures, %d refusals, %d wrong signatures or keys held back; signing %v after the last fault at most, "+
		"%v if it had lied; answers %v after their deadline at most; %d threads in the module at once at most; recoveries: %d",
		s.rounds, s.faults, s.signatures.Load(), s.refusals.Load(), s.wrong.Load(), s.slowest.Round(time.Millisecond),
		s.slowestLie.Round(time.Millisecond), time.Duration(s.late.Load()).Round(time.Millisecond), s.module.Most(), s.recoveries)
	if s.signatures.Load() == 0 || s.refusals.Load() == 0 {
		t.Error("a storm in which nothing works, or nothing fails, shows nothing")
	}
}

type storm struct {
	t      *testing.T
	random *rand.Rand
	module *faulty.Module
	config pkcs11.Config
	keys   []keystore.Key
	decoy  *faulty.Content // the same token with other keys of the same names

	inside     bool // the decoy is in the device
	honest     bool // neither that nor a wrong signature happens in this round
	lied       bool // one of them did
	lies       int  // wrong signatures that were ordered in this round
	rounds     int
	faults     int
	history    []string
	recoveries uint64
	slowest    time.Duration // of the rounds in which the device did not lie
	slowestLie time.Duration // of those in which it did: it is left alone for a while then

	signatures, refusals, wrong atomic.Int64
	late                        atomic.Int64
}

var stormKeys = []keystore.Spec{
	{ID: "a", Algorithm: keystore.ECDSAP256}, {ID: "b", Algorithm: keystore.ECDSAP256}, {ID: "c", Algorithm: keystore.ECDSAP384},
	{ID: "d", Algorithm: keystore.Ed25519}, {ID: "e", Algorithm: keystore.Ed25519}, {ID: keystore.CanaryID, Algorithm: keystore.ECDSAP256},
}

func newStorm(t *testing.T, random *rand.Rand) *storm {
	t.Helper()
	s := &storm{t: t, random: random, module: faulty.New(t)}
	s.config = s.module.Config(t)
	s.config.SessionCopies = true // so that the keys may be copied
	generate := func(c pkcs11.Config) (keys []keystore.Key) {
		store := keystore.New(keystoretest.Open(t, c), keystore.Options{})
		for _, spec := range stormKeys {
			keys = append(keys, keystoretest.Generate(t, store, spec.ID, spec.Algorithm))
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
		return keys
	}
	s.keys = generate(s.config)
	s.decoy = s.module.Blank(t)
	generate(s.decoy.Config)
	s.config.Sessions, s.config.Queue, s.config.Hang = 3, 64, 100*time.Millisecond
	return s
}

// round is one storm on a token that was opened for it.
func (s *storm) round() {
	s.rounds++
	s.lies, s.lied, s.history = 0, false, nil
	s.honest = s.rounds%2 == 0
	s.module.Number([]faulty.Numbering{faulty.Again, faulty.Fresh, faulty.OtherKey}[s.random.IntN(3)])
	c := s.config
	c.SessionCopies = s.random.IntN(2) == 0
	token, err := pkcs11.Open(s.t.Context(), c)
	if err != nil {
		s.t.Fatal(err)
	}
	store := keystore.New(token, keystore.Options{})
	threads, goroutines := processThreads(s.t), runtime.NumGoroutine()

	ctx, stop := context.WithCancel(context.Background())
	var callers sync.WaitGroup
	for range 8 {
		random := rand.New(rand.NewPCG(s.random.Uint64(), 1))
		callers.Go(func() {
			for ctx.Err() == nil {
				s.call(store, random)
			}
		})
	}
	callers.Go(func() { s.administer(ctx, store) })
	for end := time.Now().Add(stormRound); time.Now().Before(end); {
		s.fault()
	}
	s.calm()
	healed := time.Now()
	for _, key := range s.keys {
		if !s.t.Failed() {
			s.signsAgain(store, key, healed)
		}
	}
	if took := time.Since(healed); s.lied {
		s.slowestLie = max(s.slowestLie, took)
	} else if s.slowest = max(s.slowest, took); took > stormRecovery {
		s.t.Errorf("all keys signed only %v after the last fault", took)
	}
	stop()
	callers.Wait()
	// What was given up by its caller may still be at work, in a bounded number of places.
	bound := c.Sessions + 4
	if got := s.module.Most(); got > bound {
		s.t.Errorf("%d threads in the module at once, want at most %d", got, bound)
	}
	if got := processThreads(s.t); got > threads+bound+16 {
		s.t.Errorf("%d threads, %d before", got, threads)
	}
	until(s.t, "the goroutines of the callers to end", func() bool { return runtime.NumGoroutine() <= goroutines+4 })
	s.recoveries += token.Status()[0].Recoveries
	if err := store.Close(); err != nil {
		s.t.Errorf("Close: %v", err)
	}
	if err := s.module.Check(); err != nil {
		s.module.Violations()
		s.t.Error(err)
	}
	if s.t.Failed() {
		s.t.Logf("what happened in round %d, copies %t:\n%s", s.rounds, c.SessionCopies, strings.Join(s.history, "\n"))
	}
}

// call makes one signature and judges what came out.
func (s *storm) call(store *keystore.Store, random *rand.Rand) {
	key := s.keys[random.IntN(len(s.keys))]
	message := fmt.Appendf(nil, "statement %d", random.Uint64())
	limit := time.Duration(1+random.IntN(400)) * time.Millisecond
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	began := time.Now()
	signature, err := store.Sign(ctx, key.ID, key.Public, message)
	late := time.Since(began) - limit
	if v := s.late.Load(); int64(late) > v {
		s.late.CompareAndSwap(v, int64(late))
	}
	if late > lateness {
		s.t.Errorf("a call with a deadline of %v took %v longer", limit, late)
	}
	if err == nil {
		s.signatures.Add(1)
		if err := keystore.Verify(key.Algorithm, key.Public, message, signature); err != nil {
			s.t.Errorf("A WRONG SIGNATURE of key %q came out: %v", key.ID, err)
		}
		return
	}
	if signature != nil {
		s.t.Error("a signature with an error")
	}
	s.refusals.Add(1)
	s.judge(err)
	if errors.Is(err, keystore.ErrWrongSignature) {
		s.wrong.Add(1)
	}
	// A caller who is sent away comes back, though sooner than it should.
	pause, stop := context.WithTimeout(context.Background(), time.Duration(random.IntN(5))*time.Millisecond)
	defer stop()
	<-pause.Done()
}

// lateness is how much later than its deadline a call may return on a machine that is busy with other things.
const lateness = 2 * time.Second

// judge says whether an error is one that callers can do something with.
func (s *storm) judge(err error) {
	for _, known := range []error{
		keystore.ErrUnavailable, keystore.ErrWrongSignature, keystore.ErrPolicy, keystore.ErrPIN, keystore.ErrInvalid, keystore.ErrNotFound,
	} {
		if errors.Is(err, known) {
			return
		}
	}
	s.t.Errorf("an error that is none of the key store's: %v", err)
}

// administer makes, finds and destroys keys beside the signing, and looks at the health.
func (s *storm) administer(ctx context.Context, store *keystore.Store) {
	for i := 0; ctx.Err() == nil; i++ {
		id := keystore.ID(fmt.Sprintf("new-%d-%d", s.rounds, i))
		call, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		key, err := store.Generate(call, keystore.Spec{ID: id, Algorithm: keystore.ECDSAP256})
		if err == nil {
			message := []byte(id)
			if signature, err := store.Sign(call, id, key.Public, message); err == nil && keystore.Verify(key.Algorithm, key.Public, message, signature) != nil {
				s.t.Error("A WRONG SIGNATURE of a new key came out")
			}
			err = store.Destroy(call, id)
		}
		if err != nil && !errors.Is(err, keystore.ErrExists) {
			s.judge(err)
		}
		_ = store.Health(call)
		store.Status()
		cancel()
		pause, stop := context.WithTimeout(ctx, 10*time.Millisecond)
		<-pause.Done()
		stop()
	}
}

// signsAgain waits for a good signature after everything was healed.
func (s *storm) signsAgain(store *keystore.Store, key keystore.Key, healed time.Time) {
	const limit = 20 * time.Second
	var last error
	for time.Since(healed) < limit {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		signature, err := store.Sign(ctx, key.ID, key.Public, message)
		cancel()
		if err == nil {
			if keystore.Verify(key.Algorithm, key.Public, message, signature) != nil {
				s.t.Error("A WRONG SIGNATURE came out")
			}
			return
		}
		last = err
		runtime.Gosched()
	}
	status := store.Status()[0]
	s.t.Errorf("%v after the last fault, key %q does not sign: %v; %s: %s", limit, key.ID, last, status.State, status.Reason)
}

func processThreads(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := bytes.Cut(status, []byte("\nThreads:"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	n, err := strconv.Atoi(string(bytes.TrimSpace(line)))
	if !found || err != nil {
		t.Fatalf("no number of threads: %v", err)
	}
	return n
}

func (s *storm) note(format string, a ...any) {
	s.history = append(s.history, fmt.Sprintf(format, a...))
}

var (
	stormFunctions = []faulty.Function{
		faulty.SignInit, faulty.SignInit, faulty.Sign, faulty.Sign, faulty.OpenSession, faulty.CloseSession, faulty.GetSessionInfo,
		faulty.Login, faulty.FindObjectsInit, faulty.FindObjects, faulty.FindObjectsFinal, faulty.GetAttributeValue,
		faulty.CopyObject, faulty.DestroyObject, faulty.GenerateKeyPair, faulty.Initialize, faulty.Finalize, faulty.GetSlotList,
		faulty.GetTokenInfo, faulty.Logout, faulty.Any,
	}
	stormCodes = []uint{
		wrapper.CKR_DEVICE_ERROR, wrapper.CKR_DEVICE_REMOVED, wrapper.CKR_TOKEN_NOT_PRESENT, wrapper.CKR_GENERAL_ERROR,
		wrapper.CKR_FUNCTION_FAILED, wrapper.CKR_HOST_MEMORY, wrapper.CKR_DEVICE_MEMORY, wrapper.CKR_SESSION_HANDLE_INVALID,
		wrapper.CKR_SESSION_CLOSED, wrapper.CKR_SESSION_COUNT, wrapper.CKR_USER_NOT_LOGGED_IN, wrapper.CKR_OPERATION_ACTIVE,
		wrapper.CKR_OPERATION_NOT_INITIALIZED, wrapper.CKR_OBJECT_HANDLE_INVALID, wrapper.CKR_KEY_HANDLE_INVALID,
		wrapper.CKR_CRYPTOKI_NOT_INITIALIZED, wrapper.CKR_SLOT_ID_INVALID, wrapper.CKR_FUNCTION_NOT_SUPPORTED,
		wrapper.CKR_MECHANISM_INVALID, wrapper.CKR_BUFFER_TOO_SMALL, wrapper.CKR_DATA_LEN_RANGE, wrapper.CKR_VENDOR_DEFINED + 7,
	}
)

// fault lets something happen, for some milliseconds.
func (s *storm) fault() {
	s.faults++
	m, random := s.module, s.random
	lasts := time.Duration(random.IntN(60)) * time.Millisecond
	heal := func() {}
	kind := random.IntN(20)
	if s.honest && (kind == 9 || kind == 19) {
		return
	}
	switch kind {
	case 0, 1, 2, 3, 4, 5:
		f := faulty.Fault{
			Function: stormFunctions[random.IntN(len(stormFunctions))], Code: stormCodes[random.IntN(len(stormCodes))],
			After: random.IntN(3) == 0, Times: 1 + random.IntN(4), Skip: random.IntN(4),
		}
		if random.IntN(3) == 0 {
			f.Times, f.Chance = faulty.Always, random.Float64()
		}
		s.note("%v: %+v", f.Function, f)
		heal = m.Add(f).Heal
	case 6:
		f := faulty.Fault{Function: stormFunctions[random.IntN(len(stormFunctions))], Times: 20, Delay: time.Duration(1+random.IntN(10)) * time.Millisecond}
		s.note("delay of %v: %v", f.Function, f.Delay)
		heal = m.Add(f).Heal
	case 7, 8:
		f := faulty.Fault{
			Function: stormFunctions[random.IntN(len(stormFunctions))], Times: 1 + random.IntN(4), Hang: true, After: random.IntN(3) == 0,
		}
		if random.IntN(2) == 0 {
			f.Code = stormCodes[random.IntN(len(stormCodes))]
		}
		lasts *= 3
		s.note("hang of %v: %+v", f.Function, f)
		heal = m.Add(f).Heal
	case 9:
		if s.lies++; s.lies > 2 {
			return // a device that lies again and again is left alone for longer and longer
		}
		s.lied = true
		w := faulty.Wrong(1 + random.IntN(int(faulty.Empty)))
		s.note("wrong signature %d", w)
		heal = m.WrongSignature(1, w).Heal
	case 10:
		s.note("login dropped")
		m.DropLogin()
	case 11, 12:
		s.note("sessions dropped")
		m.DropSessions()
	case 13, 14:
		how := faulty.Loss(1 + random.IntN(2))
		s.note("lost, %d, for %v", how, lasts)
		m.Lose(how)
		heal = m.Restore
	case 15:
		by := uint(random.IntN(1000))
		s.note("slots moved by %d", by)
		m.MoveSlots(by)
	case 16:
		e := faulty.Encoding(1 + random.IntN(3))
		s.note("points encoded as %d", e)
		heal = m.Point(e).Heal
	case 17:
		s.note("nothing is found")
		heal = m.FindNothing().Heal
	case 18:
		n := 1 + random.IntN(4)
		s.note("%d sessions are allowed", n)
		m.MaxSessions(n)
		heal = func() { m.MaxSessions(0) }
	case 19:
		s.note("the other content")
		s.lied = true
		s.swap()
		m.Restore()
		lasts += 50 * time.Millisecond
		heal = func() {
			s.swap()
			m.Restore()
		}
	}
	pause, stop := context.WithTimeout(context.Background(), lasts)
	<-pause.Done()
	stop()
	if random.IntN(3) != 0 || s.inside { // or it stays beside the next
		heal()
	}
}

func (s *storm) swap() {
	s.decoy = s.module.Insert(s.t, s.decoy)
	s.inside = !s.inside
}

// calm ends everything.
func (s *storm) calm() {
	if s.inside {
		s.swap()
	}
	s.module.Heal()
}
