package conformance

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/pkcs11"
)

// A tally counts what calls of one sort answered. It is used by several goroutines.
type tally struct {
	mu     sync.Mutex
	count  int
	wrong  int
	errors map[string]int
}

func (t *tally) add(err error, wrong bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count++
	switch {
	case wrong:
		t.wrong++
	case err != nil:
		if t.errors == nil {
			t.errors = make(map[string]int)
		}
		t.errors[said(err)]++
	}
}

func (t *tally) failures() int {
	n := 0
	for _, each := range t.errors {
		n += each
	}
	return n
}

func (t *tally) String() string {
	s := fmt.Sprintf("%d", t.count)
	if len(t.errors) == 0 {
		return s
	}
	var each []string
	for _, name := range slices.Sorted(maps.Keys(t.errors)) {
		each = append(each, fmt.Sprintf("%d × %s", t.errors[name], name))
	}
	return fmt.Sprintf("%s, of them failed: %s", s, strings.Join(each, ", "))
}

// sideBySide makes, finds and signs at the same time, each in sessions of its own, without the order that Signet keeps.
func (r *run) sideBySide(ctx context.Context) error {
	key := r.key()
	if key == nil {
		return nil
	}
	var signed, made, searched tally
	working, stop := context.WithTimeout(ctx, r.config.Duration)
	defer stop()
	var all sync.WaitGroup
	var refused sync.Map
	each := func(n int, flags uint, do func(session pkcs11.SessionHandle, i int) (ok bool)) {
		for i := range n {
			all.Go(func() {
				for working.Err() == nil {
					session, err := r.module.OpenSession(r.slot, pkcs11.CKF_SERIAL_SESSION|flags)
					if err != nil {
						refused.Store(said(err), true)
						return
					}
					for ok := true; ok && working.Err() == nil; {
						ok = do(session, i)
					}
					r.module.CloseSession(session)
				}
			})
		}
	}
	each(4, 0, func(session pkcs11.SessionHandle, _ int) bool {
		err := r.signsWell(session, key, key.priv)
		signed.add(err, r.verdictOf(err) == Unfit)
		return err == nil
	})
	each(2, pkcs11.CKF_RW_SESSION, func(session pkcs11.SessionHandle, i int) bool {
		one := &run{module: r.module, session: session} // for its session
		pair, err := one.generateWith(key.kind, r.label(fmt.Sprintf("side-%d", i)), rsaBits, key.left, nil)
		if err == nil {
			err = one.destroy(pair)
		}
		made.add(err, false)
		return err == nil
	})
	each(2, 0, func(session pkcs11.SessionHandle, _ int) bool {
		found, err := r.find(session, attr(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), attr(pkcs11.CKA_LABEL, key.label))
		if err == nil && len(found) != 1 {
			err = fmt.Errorf("a key is found %d times", len(found))
		}
		searched.add(err, false)
		return err == nil
	})
	all.Wait()
	if ctx.Err() != nil {
		return expired(ctx)
	}
	refused.Range(func(reason, _ any) bool {
		r.note(needConcurrency, Check{Name: "sessions for it", Verdict: Handled, Saw: fmt.Sprint(reason), Do: "nothing: Signet keeps to the sessions it has"})
		return true
	})
	c := Check{Name: "signatures meanwhile", Verdict: Fit, Saw: signed.String()}
	switch {
	case signed.wrong > 0:
		c.Verdict, c.Saw, c.Do = Unfit, fmt.Sprintf("%s; %d were wrong", c.Saw, signed.wrong), "do not use the token"
	case signed.failures() > 0 && signed.failures() < signed.count:
		c.Verdict, c.Do = Limits, "signing may fail now and then while a key is made: make keys when little is signed"
	case signed.failures() > 0 || signed.count == 0:
		c.Verdict, c.Do = Limits, "signing stops while a key is made: make keys when nothing is signed"
	}
	r.note(needConcurrency, c)
	for name, t := range map[string]*tally{"keys made meanwhile": &made, "searches meanwhile": &searched} {
		c := Check{Name: name, Verdict: Fit, Saw: t.String()}
		if t.failures() > 0 {
			c.Verdict, c.Do = Handled, "nothing: Signet makes, finds and destroys one at a time"
		}
		r.note(needConcurrency, c)
	}
	return r.remake()
}

// remake removes halves that are left when making keys failed midway, and begins with a new session.
func (r *run) remake() error {
	found, err := r.find(r.session, attr(pkcs11.CKA_TOKEN, true), attr(pkcs11.CKA_LABEL, r.label("side-0")))
	if err != nil {
		return err
	}
	more, err := r.find(r.session, attr(pkcs11.CKA_TOKEN, true), attr(pkcs11.CKA_LABEL, r.label("side-1")))
	if err != nil {
		return err
	}
	if left := append(found, more...); len(left) > 0 {
		r.note(needConcurrency, Check{Name: "what failed leaves nothing", Verdict: Handled, Saw: fmt.Sprintf("%d objects were left", len(left)),
			Do: "nothing: Signet never uses a name again"})
		if _, problem := r.destroyAll(left); problem != nil {
			return failed("C_DestroyObject", problem)
		}
	}
	return r.fresh()
}

// quantile returns the q-th of sorted durations.
func quantile(sorted []time.Duration, q float64) Duration {
	if len(sorted) == 0 {
		return 0
	}
	return Duration(sorted[min(int(q*float64(len(sorted))), len(sorted)-1)].Round(time.Microsecond))
}
