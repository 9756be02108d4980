package conformance

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/pkcs11"
)

// signet opens the token as Signet does. The run's own use of the module must have ended.
func (r *run) signet(ctx context.Context, sessions int, copies bool) (*pkcs11.Token, error) {
	return pkcs11.Open(ctx, pkcs11.Config{
		Module: r.config.Module, TokenLabel: r.report.Token.Label, Serial: r.report.Token.Serial, PIN: keystore.PINFixed(r.pin),
		SoftHSMConf: r.config.SoftHSMConf, Sessions: sessions, SessionCopies: copies,
	})
}

// ownWay uses the token through package keystore, with all the checks that Signet makes.
func (r *run) ownWay(ctx context.Context) error {
	if err := r.finalize(); err != nil {
		return err
	}
	token, err := r.signet(ctx, 2, r.copies)
	if err != nil {
		r.note(needSignet, Check{Name: "Signet opens the token", Verdict: Unfit, Saw: err.Error(), Do: "see what it says"})
		return ctx.Err()
	}
	store := keystore.New(token, keystore.Options{})
	for _, a := range r.config.Algorithms {
		if ctx.Err() != nil {
			break
		}
		r.storeKey(ctx, store, a)
	}
	if ctx.Err() == nil {
		r.storeMAC(ctx, store)
	}
	r.knownAnswers(ctx, token)
	if err := store.Close(); err != nil {
		r.note(needSignet, Check{Name: "Signet closes the token", Verdict: Limits, Saw: err.Error()})
	}
	if ctx.Err() != nil {
		return expired(ctx)
	}
	return nil
}

// storeKey makes a key with Signet's own store, and signs with it.
func (r *run) storeKey(ctx context.Context, store *keystore.Store, a keystore.Algorithm) {
	name := "Signet with " + string(a)
	id := keystore.ID(r.label("own-" + string(a)))
	key, err := store.Generate(ctx, keystore.Spec{ID: id, Algorithm: a})
	if err != nil {
		c := Check{Name: name, Verdict: Limits, Saw: err.Error(), Do: "keys of this algorithm must live in another token"}
		switch {
		case errors.Is(err, keystore.ErrPolicy):
			c.Verdict, c.Do = Unfit, "Signet refuses keys of this token: change the token's settings if they allow it, or take another token"
		case a == keystore.ECDSAP256:
			c.Verdict, c.Do = Unfit, "Signet's canary, time-stamp and sealing keys are P-256"
		}
		r.note(needSignet, c)
		return
	}
	err = func() error {
		for i := range tries {
			message := fmt.Appendf(nil, "signet %d", i)
			signature, err := store.SignAs(ctx, key.ID, a, key.Public, message)
			if err == nil {
				err = keystore.Verify(a, key.Public, message, signature)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}()
	if derr := store.Destroy(ctx, id); err == nil {
		err = derr
	}
	if err != nil {
		r.note(needSignet, Check{Name: name, Verdict: Unfit, Saw: err.Error(), Do: "see what it says"})
		return
	}
	r.update(func(report *Report) { report.Suggest.Algorithms = append(report.Suggest.Algorithms, a) })
	r.note(needSignet, Check{Name: name, Verdict: Fit, Saw: fmt.Sprintf("made, checked, %d signatures, destroyed", tries)})
}

// storeMAC makes a MAC key with Signet's own store, and computes with it.
func (r *run) storeMAC(ctx context.Context, store *keystore.Store) {
	const name = "Signet with " + keystore.HMACSHA256
	id := keystore.ID(r.label("own-" + keystore.HMACSHA256))
	key, err := store.GenerateMAC(ctx, id)
	if err != nil {
		c := Check{Name: name, Verdict: Limits, Saw: err.Error(),
			Do: "the key that passwords are checked with must live in another token: let this one hold no keys of signers (hsm.roles)"}
		if errors.Is(err, keystore.ErrPolicy) {
			c.Verdict, c.Do = Unfit, "Signet refuses secret keys of this token: change the token's settings if they allow it, or take another token"
		}
		r.note(needSignet, c)
		return
	}
	err = func() error {
		for i := range tries {
			if _, err := store.MAC(ctx, key, fmt.Appendf(nil, "signet %d", i)); err != nil {
				return err
			}
		}
		return nil
	}()
	if derr := store.DestroyMAC(ctx, id); err == nil {
		err = derr
	}
	if err != nil {
		r.note(needSignet, Check{Name: name, Verdict: Unfit, Saw: err.Error(), Do: "see what it says"})
		return
	}
	r.note(needSignet, Check{Name: name, Verdict: Fit, Saw: fmt.Sprintf("made, checked, %d computations, destroyed", tries)})
}

func (r *run) knownAnswers(ctx context.Context, token *pkcs11.Token) {
	const name = "known answers"
	ran, err := token.KnownAnswers(ctx)
	switch {
	case err != nil:
		r.note(needSignatures, Check{Name: name, Verdict: Unfit, Saw: err.Error(), Do: "do not use the token"})
	case len(ran) == 0:
		r.note(needSignatures, Check{Name: name, Verdict: Handled, Saw: "the token can be asked for none", Do: "nothing: Signet verifies each signature"})
	default:
		r.note(needSignatures, Check{Name: name, Verdict: Fit, Saw: fmt.Sprintf("%d: %s", len(ran), unique(ran))})
	}
}

// speed measures through Signet's own pool of sessions, which is what a customer gets.
func (r *run) speed(ctx context.Context) error {
	algorithms := r.report.Suggest.Algorithms
	if len(algorithms) == 0 {
		for _, a := range r.report.Algo {
			if a.Works {
				algorithms = append(algorithms, a.Name)
			}
		}
	}
	if len(algorithms) == 0 {
		return nil
	}
	token, err := r.signet(ctx, 1, false)
	if err != nil {
		return ctx.Err() // noted before
	}
	for _, a := range algorithms {
		if _, err := token.Generate(ctx, keystore.Spec{ID: r.speedKey(a), Algorithm: a}); err != nil {
			return errors.Join(fmt.Errorf("a key to measure with: %w", err), token.Close())
		}
	}
	if err := token.Close(); err != nil {
		return err
	}
	if r.copies {
		if err := r.comparison(ctx, algorithms[0]); err != nil {
			return err
		}
	}
	for _, n := range r.config.Sessions {
		if err := r.speedAt(ctx, n, r.report.Suggest.SessionCopies, algorithms); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) speedKey(a keystore.Algorithm) keystore.ID {
	return keystore.ID(r.label("speed-" + string(a)))
}

// comparison finds out whether copies of keys in the session are worth it.
func (r *run) comparison(ctx context.Context, a keystore.Algorithm) error {
	n := max(2, runtime.NumCPU())
	var rates [2]float64
	for i, copies := range []bool{false, true} {
		token, err := r.signet(ctx, n, copies)
		if err != nil {
			return ctx.Err()
		}
		s := r.measure(ctx, token, a, n, copies)
		rates[i] = s.PerSecond
		r.update(func(report *Report) { report.Speed = append(report.Speed, s) })
		if err := token.Close(); err != nil {
			return err
		}
	}
	gain := rates[1]/max(rates[0], 1e-9) - 1
	worth := gain > 0.03
	r.update(func(report *Report) {
		report.Suggest.SessionCopies = worth
		report.Suggest.Why = append(report.Suggest.Why, fmt.Sprintf("hsm.sessionCopies: %+.0f %% signatures a second with %d sessions (%s)", gain*100, n, a))
	})
	return nil
}

// speedAt measures each algorithm with that many sessions, as many callers each.
func (r *run) speedAt(ctx context.Context, sessions int, copies bool, algorithms []keystore.Algorithm) error {
	if ctx.Err() != nil {
		return expired(ctx)
	}
	token, err := r.signet(ctx, sessions, copies)
	if err != nil {
		if ctx.Err() != nil {
			return expired(ctx)
		}
		r.note(needSessions, Check{Name: fmt.Sprintf("%d sessions to sign", sessions), Verdict: Handled, Saw: err.Error(), Do: "set hsm.workers to fewer"})
		return nil
	}
	for _, a := range algorithms {
		s := r.measure(ctx, token, a, sessions, copies)
		r.update(func(report *Report) { report.Speed = append(report.Speed, s) })
	}
	if err := token.Close(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return expired(ctx)
	}
	return nil
}

func (r *run) measure(ctx context.Context, token *pkcs11.Token, a keystore.Algorithm, callers int, copies bool) Speed {
	s := Speed{Algorithm: a, Sessions: callers, Copies: copies}
	id := r.speedKey(a)
	input, err := a.Input([]byte("signet"))
	if err == nil {
		_, err = token.Sign(ctx, id, a, input) // finds the key
	}
	if err != nil {
		s.Errors = 1
		return s
	}
	var mu sync.Mutex
	var took []time.Duration
	var all sync.WaitGroup
	began := time.Now()
	deadline := began.Add(r.config.Duration)
	for range callers {
		all.Go(func() {
			var mine []time.Duration
			errors := 0
			for start := time.Now(); start.Before(deadline) && ctx.Err() == nil; start = time.Now() {
				if _, err := token.Sign(ctx, id, a, input); err != nil {
					if errors++; errors > 100 {
						break
					}
					continue
				}
				mine = append(mine, time.Since(start))
			}
			mu.Lock()
			defer mu.Unlock()
			took, s.Errors = append(took, mine...), s.Errors+errors
		})
	}
	all.Wait()
	s.PerSecond = float64(len(took)) / time.Since(began).Seconds()
	slices.Sort(took)
	s.P50, s.P99 = quantile(took, 0.5), quantile(took, 0.99)
	return s
}
