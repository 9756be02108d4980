package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/signetd/signet/server/internal/ledger"
)

// RollbackConfig says what must vouch for the ledger at the start.
type RollbackConfig struct {
	RequireSidecar bool     `json:"requireSidecar" doc:"refuse to start when ledger.checkpoint is missing, which stands beside the ledger and says how far it went"`
	RequireWitness bool     `json:"requireWitness" doc:"refuse to start as long as no witness has answered how far it has seen the ledger"`
	WitnessTimeout Duration `json:"witnessTimeout" doc:"how long witnesses may take to answer at the start; those that do not are named in the log"`
}

func defaultRollback() RollbackConfig {
	return RollbackConfig{WitnessTimeout: Duration(5 * time.Second)}
}

func (c RollbackConfig) validate(witnesses bool, bad func(key, format string, args ...any) error) error {
	if c.RequireWitness && !witnesses {
		return bad("ledger.rollback.requireWitness", "there are no witnesses; name them in ledger.witness.policy")
	}
	if c.WitnessTimeout <= 0 || c.WitnessTimeout > Duration(5*time.Minute) {
		return bad("ledger.rollback.witnessTimeout", "%v; use a duration of up to 5m", time.Duration(c.WitnessTimeout))
	}
	return nil
}

// ErrRolledBack says that the ledger is older than, or another than, what was seen of it. The text says what is missing.
var ErrRolledBack = ledger.ErrRolledBack

// errNoWitness is wrapped when no witness has answered and one is required.
var errNoWitness = errors.New("no witness has answered")

// nextStep says what to do about a ledger that is older than what was seen of it.
func nextStep(c Config, err error) error {
	if !errors.Is(err, ErrRolledBack) {
		return err
	}
	return fmt.Errorf("%w. Nothing was written. Find the newer file, or a newer backup, and put it in place. If there is none, two administrators go on without what is missing: "+
		"`signetd ledger restore --accept-loss --config %s`", err, c.configHint())
}

// noteChanges logs what others have done to the ledger's file while the service was stopped. It fits what was seen of it, or the service
// would not start; the scrub, which begins at the start, reads all of it again.
func noteChanges(l *ledger.Ledger, log *slog.Logger) {
	for _, what := range l.Changed() {
		log.Warn("the ledger was changed by others while the service was stopped", "change", what)
	}
}

// configHint is where the configuration of a data folder usually is.
func (c Config) configHint() string { return c.Path("signetd.yaml") }

// sighting is what a witness says of the ledger when the server starts.
type sighting struct {
	witness  string
	evidence ledger.Evidence
	err      error // it did not answer
}

// guardAgainstRollback makes the ledger hold its file against what stands beside it and against the witnesses.
func guardAgainstRollback(o Options, lo *ledger.Options) {
	lo.Sidecar, lo.RequireSidecar = true, o.Config.Ledger.Rollback.RequireSidecar
	lo.Elsewhere = func(ctx context.Context, s ledger.Standing) ([]ledger.Evidence, error) {
		return askWitnesses(ctx, o, s)
	}
}

// askWitnesses asks every witness how far it has seen the ledger.
func askWitnesses(ctx context.Context, o Options, s ledger.Standing) ([]ledger.Evidence, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(o.Config.Ledger.Rollback.WitnessTimeout))
	defer cancel()
	sightings, err := witnessSightings(ctx, o, s)
	if err != nil {
		return nil, err
	}
	var seen []ledger.Evidence
	var failed []error
	answered := 0
	for _, w := range sightings {
		if w.err != nil {
			o.Log.Warn("a witness did not say how far it has seen the ledger", "witness", w.witness, "error", w.err)
			failed = append(failed, fmt.Errorf("%s: %w", w.witness, w.err))
			continue
		}
		answered++
		seen = append(seen, w.evidence)
	}
	if answered == 0 && s.Size > 0 && o.Config.Ledger.Rollback.RequireWitness {
		return nil, fmt.Errorf("%w, and ledger.rollback.requireWitness wants one: %w", errNoWitness, errors.Join(failed...))
	}
	return seen, nil
}
