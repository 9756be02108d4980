package server

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/keystore"
)

// How often things are looked at.
const (
	healthEvery = 5 * time.Second        // each token signs with its canary key
	readyEvery  = time.Second            // what is known is summed up
	unreadySoon = 100 * time.Millisecond // and while the service is not ready
)

// needs are the roles that a service of the contract cannot do without. All need the ledger.
var needs = map[string][]string{
	signetv1.SigningService_ServiceDesc.ServiceName:   {keyTSA, keyLedger, keyClosing, keySealing, roleOfSigners},
	signetv1.TimestampService_ServiceDesc.ServiceName: {keyTSA, keyLedger},
	signetv1.SignerService_ServiceDesc.ServiceName:    {keyCA, keyLedger, roleOfSigners},
	signetv1.RecordService_ServiceDesc.ServiceName:    {keyLedger},
	signetv1.SessionService_ServiceDesc.ServiceName:   {keyLedger},
	signetv1.KeyService_ServiceDesc.ServiceName:       {keyLedger},
	signetv1.LedgerService_ServiceDesc.ServiceName:    {keyLedger},
	// The whole: what signatures need. That nobody can be enrolled for a while takes no instance out of service.
	"": {keyTSA, keyLedger, keyClosing, keySealing, roleOfSigners},
}

// healthWatch lets the tokens prove themselves, and sums up what works.
type healthWatch struct {
	public *health.Server
	poke   chan struct{}                    // something may have changed
	ready  chan struct{}                    // the service has become ready
	unsure atomic.Pointer[map[string]error] // by service, why it does not work
	well   atomic.Bool                      // all do

	mu     sync.Mutex
	began  time.Time
	tested map[string]time.Time // when each token passed its known-answer tests last
}

func newHealthWatch() *healthWatch {
	h := &healthWatch{public: health.NewServer(), poke: make(chan struct{}, 1), ready: make(chan struct{}, 1), began: time.Now(), tested: make(map[string]time.Time)}
	h.public.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	return h
}

// watchHealth starts what looks after the tokens until ctx ends.
func (s *Server) watchHealth(ctx context.Context) {
	s.background.Go(func() { s.keys.Watch(ctx, healthEvery, s.tokenChanged) })
	s.background.Go(func() {
		timer := time.NewTimer(0)
		defer timer.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-s.health.poke:
			case <-timer.C:
			}
			if s.sumUp() {
				timer.Reset(readyEvery)
			} else {
				timer.Reset(unreadySoon)
			}
		}
	})
	s.background.Go(func() {
		tick := time.NewTicker(readyEvery)
		defer tick.Stop()
		for last := (time.Time{}); ; {
			select {
			case <-ctx.Done():
				return
			case <-s.health.ready:
				last = time.Time{}
			case <-tick.C:
			}
			switch {
			case !s.health.well.Load(): // not only every few seconds: what has come back is to be used
				limited, cancel := context.WithTimeout(ctx, healthEvery)
				_ = s.keys.Health(limited) // what comes of it is summed up
				cancel()
				s.pokeHealth()
			case time.Since(last) >= healthEvery:
				s.catchUp(ctx)
				last = time.Now()
			}
		}
	})
}

func (s *Server) pokeHealth() {
	select {
	case s.health.poke <- struct{}{}:
	default:
	}
}

// catchUp does what could not be done while the HSM was away.
func (s *Server) catchUp(ctx context.Context) {
	if err := s.ceremony.ClosePending(ctx); err != nil && ctx.Err() == nil {
		s.log.Error("a closing seal is still missing", "error", err)
	}
	if err := s.finishDestructions(ctx); err != nil && ctx.Err() == nil {
		s.log.Error("a confirmed destruction waits for the HSM", "error", err)
	}
}

// tokenChanged logs what became of a token.
func (s *Server) tokenChanged(changed keystore.Status) {
	name := changed.Token
	for i, t := range s.keys.Status() {
		if t.Token == changed.Token && t.Serial == changed.Serial && t.Module == changed.Module && t.Replica == changed.Replica {
			name = s.tokenName(i, t)
			break
		}
	}
	level := slog.LevelInfo
	if changed.State != keystore.Working && changed.State != keystore.Offline || changed.Missing > 0 {
		level = slog.LevelWarn
	}
	attributes := []any{"token", name, "state", changed.State, "active", changed.Active}
	if changed.Reason != "" {
		attributes = append(attributes, "reason", changed.Reason)
	}
	if changed.Missing > 0 {
		attributes = append(attributes, "missing keys", changed.Missing)
	}
	s.log.Log(context.Background(), level, "HSM", attributes...)
	s.pokeHealth()
}

// unready finds out what keeps each service from working.
func (s *Server) unready() map[string]error {
	hsm := make(map[string]error)
	for _, r := range s.config.HSM.Roles.all() {
		hsm[r.name] = s.keys.ReadyFor(r.probe)
	}
	s.noteClock()
	clock, stored := s.tsa.Load().Ready(), errors.Join(s.ledger.Err(), s.scrubFound())
	found := make(map[string]error, len(needs))
	for service, roles := range needs {
		all := []error{stored}
		if slices.Contains(roles, keyTSA) {
			all = append(all, clock)
		}
		for _, role := range roles {
			if err := hsm[role]; err != nil && !slices.ContainsFunc(all, func(e error) bool { return e != nil && e.Error() == err.Error() }) {
				all = append(all, err)
			}
		}
		found[service] = errors.Join(all...)
	}
	return found
}

// readiness returns why a service does not work, nil if it does.
func (s *Server) readiness(service string) error {
	if found := s.health.unsure.Load(); found != nil {
		return (*found)[service]
	}
	return errStarting
}

var errStarting = errors.New("the server is starting")

// sumUp tells the health service what works, and reports whether all does.
func (s *Server) sumUp() bool {
	found := s.unready()
	before := s.health.unsure.Swap(&found)
	well := true
	for service, err := range found {
		state := grpc_health_v1.HealthCheckResponse_SERVING
		if err != nil {
			state, well = grpc_health_v1.HealthCheckResponse_NOT_SERVING, false
		}
		first := before == nil
		if !first && ((*before)[service] == nil) == (err == nil) {
			continue
		}
		s.health.public.SetServingStatus(service, state)
		switch {
		case service != "" && (first || err == nil || found[""] != nil):
		case service != "":
			s.log.Error("a part is not serving", "service", strings.TrimPrefix(service, "signet.v1."), "error", err)
		case err != nil:
			s.log.Error("not serving", "error", err)
		default:
			s.log.Info("serving", "environment", s.config.Environment, "version", s.version, "entries", s.ledger.Size())
			select {
			case s.health.ready <- struct{}{}:
			default:
			}
		}
	}
	s.health.well.Store(well)
	s.noteTests()
	return well
}

// noteTests logs known-answer tests that were run since the opening (21 CFR 11.300(e)). One that fails shows in the state of the token.
func (s *Server) noteTests() {
	s.health.mu.Lock()
	defer s.health.mu.Unlock()
	for i, t := range s.keys.Status() {
		name := s.tokenName(i, t)
		if t.Tested.After(s.health.began) && t.Tested.After(s.health.tested[name]) {
			s.health.tested[name] = t.Tested
			s.log.Info("known-answer tests passed", "token", name, "at", t.Tested.UTC().Format(time.RFC3339))
		}
	}
}
