package conformance

import (
	"context"
	"crypto/ecdsa"
	"fmt"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
)

// oddities asks for what should fail, and looks at what a failure leaves behind.
func (r *run) oddities(ctx context.Context) error {
	for _, key := range r.keys {
		if ctx.Err() != nil {
			return expired(ctx)
		}
		if key.kind.curve != nil {
			if err := r.truncation(key); err != nil {
				return err
			}
		}
	}
	return r.afterFailure()
}

// truncation signs 22 bytes more than the digest has: the token must refuse that, and some cut it off.
func (r *run) truncation(key *testKey) error {
	size := key.kind.algorithm.Hash().Size()
	input := make([]byte, size+22)
	for i := range input {
		input[i] = byte(i + 1)
	}
	name := fmt.Sprintf("%s: a digest of %d bytes", key.kind.algorithm, len(input))
	signature, err := r.sign(r.session, key.priv, key.kind, input)
	if err != nil {
		r.note(needSignatures, Check{Name: name, Verdict: Fit, Saw: "refused: " + r.said(err)})
		return r.fresh()
	}
	public, ok := key.public.(*ecdsa.PublicKey)
	saw := "signed, and the signature is of something else"
	if ok && ecdsa.VerifyASN1(public, input, signature) { // which takes the leftmost bits, too
		saw = "signed as its leftmost bits, without a word"
	}
	r.note(needSignatures, Check{Name: name, Verdict: Handled, Saw: saw, Do: "nothing: Signet checks the length itself"})
	return nil
}

// afterFailure makes a signature fail and looks whether the session can go on.
func (r *run) afterFailure() error {
	const name = "a session after a failed signature"
	for _, key := range r.keys {
		failure := ""
		for _, length := range []int{1, 1 << 12} {
			if err := r.module.SignInit(r.session, mechanism(key.kind.sign, key.kind.parameter()), key.priv); err != nil {
				break
			}
			if _, err := r.module.Sign(r.session, make([]byte, length)); err != nil {
				failure = fmt.Sprintf("%s of %d bytes: %s", key.kind.algorithm, length, r.said(err))
				break
			}
		}
		if failure == "" {
			if err := r.fresh(); err != nil {
				return err
			}
			continue
		}
		err := r.signsWell(r.session, key, key.priv)
		c := Check{Name: name, Verdict: Fit, Saw: failure + "; then it signs"}
		if err != nil {
			c.Verdict, c.Saw, c.Do = Handled, failure+"; then "+r.said(err), "nothing: Signet closes a session after any failure"
		}
		r.note(needSignatures, c)
		return r.fresh()
	}
	r.note(needSignatures, Check{Name: name, Verdict: NotTried, Saw: "nothing could be made to fail"})
	return nil
}

// sessions opens as many as are useful, and looks whether they share the login.
func (r *run) sessions(ctx context.Context) error {
	const enough = 128
	var open []pkcs11.SessionHandle
	defer func() {
		for _, s := range open {
			r.module.CloseSession(s)
		}
	}()
	var stop error
	for len(open) < enough && ctx.Err() == nil {
		s, err := r.module.OpenSession(r.slot, pkcs11.CKF_SERIAL_SESSION)
		if err != nil {
			stop = err
			break
		}
		open = append(open, s)
	}
	count := len(open) + 1 // the run's own
	c := Check{Name: "sessions at the same time", Verdict: Fit, Saw: fmt.Sprintf("at least %d", count)}
	if stop != nil {
		c.Saw = fmt.Sprintf("%d, then %s", count, said(stop))
		switch {
		case count < 3:
			c.Verdict, c.Do = Unfit, "Signet needs three: end other programs that use the token, or allow more"
		case count < 9:
			c.Verdict, c.Do = Limits, fmt.Sprintf("set hsm.workers to at most %d", count-1)
		default:
			c.Verdict, c.Do = Handled, fmt.Sprintf("set hsm.workers to at most %d", count-1)
		}
	}
	if most := r.report.Token.MaxSessions; most > 0 && uint(count) < most && stop != nil {
		c.Saw += fmt.Sprintf("; the token says it allows %d", most)
	}
	r.note(needSessions, c)
	if len(open) == 0 {
		return nil
	}
	info, err := r.module.GetSessionInfo(open[0])
	if err != nil || info.State != 1 && info.State != 3 { // CKS_RO_USER_FUNCTIONS, CKS_RW_USER_FUNCTIONS
		r.note(needSessions, Check{Name: "sessions share the login", Verdict: Unfit, Saw: fmt.Sprintf("state %d, %s", info.State, r.said(err)),
			Do: "Signet needs a module that follows PKCS#11 here"})
		return nil
	}
	if key := r.key(); key != nil {
		if err := r.signsWell(open[0], key, key.priv); err != nil {
			r.note(needSessions, Check{Name: "sessions share the login", Verdict: Unfit, Saw: "another session cannot sign with the key: " + r.said(err),
				Do: "Signet needs a module that follows PKCS#11 here"})
			return nil
		}
	}
	r.note(needSessions, Check{Name: "sessions share the login", Verdict: Fit, Saw: "another session signs without a login of its own"})
	return nil
}

// idle leaves sessions alone for a while.
func (r *run) idle(ctx context.Context) error {
	key := r.key()
	if key == nil {
		return nil
	}
	timer := time.NewTimer(r.config.Idle)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return expired(ctx)
	}
	name := fmt.Sprintf("a session that was idle for %v", r.config.Idle)
	if err := r.signsWell(r.session, key, key.priv); err != nil {
		r.note(needSessions, Check{Name: name, Verdict: Handled, Saw: r.said(err),
			Do: "nothing: Signet replaces sessions and logs in again; its canary keeps one busy"})
		return r.anew()
	}
	r.note(needSessions, Check{Name: name, Verdict: Fit, Saw: "it still signs"})
	return nil
}

// logins looks at what a login answers, and at what there is without one.
func (r *run) logins(ctx context.Context) error {
	err := r.module.Login(r.session, pkcs11.CKU_USER, r.pin.Reveal())
	if code(err) == pkcs11.CKR_USER_ALREADY_LOGGED_IN {
		r.note(needLogin, Check{Name: "a second login", Verdict: Fit, Saw: r.said(err)})
	} else {
		r.note(needLogin, Check{Name: "a second login", Verdict: Handled, Saw: r.said(err), Do: "nothing: Signet logs in once"})
	}
	key := r.key()
	if err := r.module.Logout(r.session); err != nil {
		r.note(needLogin, Check{Name: "logout", Verdict: Handled, Saw: r.said(err), Do: "nothing: Signet never logs out while it serves"})
		return r.anew()
	}
	if key != nil {
		found, err := r.find(r.session, attr(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), attr(pkcs11.CKA_LABEL, key.label))
		signs := r.signsWell(r.session, key, key.priv)
		switch {
		case signs == nil:
			r.note(needLogin, Check{Name: "private keys need the login", Verdict: Unfit, Saw: "a key signs after the logout", Do: "do not use the token"})
		case err == nil && len(found) > 0:
			r.note(needLogin, Check{Name: "private keys need the login", Verdict: Handled, Saw: "a private key is still found after the logout, and does not sign: " + r.said(signs),
				Do: "nothing"})
		default:
			r.note(needLogin, Check{Name: "private keys need the login", Verdict: Fit, Saw: "after the logout the key is not found; its handle: " + r.said(signs)})
		}
	}
	if err := r.wrongPIN(ctx); err != nil {
		return err
	}
	return r.anew()
}

// wrongPIN tries one, if that is allowed. Nobody is logged in.
func (r *run) wrongPIN(context.Context) error {
	const name = "a wrong PIN"
	if !r.config.WrongPIN {
		r.note(needLogin, Check{Name: name, Verdict: NotTried, Saw: "not allowed: it could lock the token"})
		return nil
	}
	info, err := r.module.GetTokenInfo(r.slot)
	if err != nil {
		return failed("C_GetTokenInfo", err)
	}
	if info.Flags&(pkcs11.CKF_USER_PIN_COUNT_LOW|pkcs11.CKF_USER_PIN_FINAL_TRY|pkcs11.CKF_USER_PIN_LOCKED) != 0 {
		r.note(needLogin, Check{Name: name, Verdict: NotTried, Saw: "the token says that few tries are left"})
		return nil
	}
	session, err := r.module.OpenSession(r.slot, pkcs11.CKF_SERIAL_SESSION)
	if err != nil {
		return failed("C_OpenSession", err)
	}
	defer r.module.CloseSession(session)
	err = r.module.Login(session, pkcs11.CKU_USER, wrong(r.pin))
	if err == nil {
		r.note(needLogin, Check{Name: name, Verdict: Unfit, Saw: "accepted", Do: "do not use the token"})
		return nil
	}
	c := Check{Name: name, Verdict: Fit, Saw: r.said(err)}
	if code(err) != pkcs11.CKR_PIN_INCORRECT {
		c.Verdict, c.Do = Handled, "tell your operators: this is what a wrong PIN looks like"
	}
	if info, err := r.module.GetTokenInfo(r.slot); err == nil && info.Flags&pkcs11.CKF_USER_PIN_COUNT_LOW != 0 {
		c.Saw += "; the token counts tries (CKF_USER_PIN_COUNT_LOW)"
	}
	r.note(needLogin, c)
	return nil
}

// wrong returns a PIN of the same length and characters that is not the right one.
func wrong(pin keystore.Secret) string {
	b := []byte(pin.Reveal())
	if b[0] == '0' {
		b[0] = '1'
	} else {
		b[0] = '0'
	}
	return string(b)
}

// anew sets the module up anew and finds the keys again.
func (r *run) anew() error {
	if err := r.finalize(); err != nil {
		return err
	}
	if err := r.initialize(); err != nil {
		return err
	}
	if err := r.slotAgain(); err != nil {
		return err
	}
	if err := r.connect(); err != nil {
		return err
	}
	for _, key := range r.keys {
		for class, handle := range map[uint]*pkcs11.ObjectHandle{pkcs11.CKO_PRIVATE_KEY: &key.priv, pkcs11.CKO_PUBLIC_KEY: &key.pub} {
			found, err := r.find(r.session, attr(pkcs11.CKA_CLASS, class), attr(pkcs11.CKA_TOKEN, true), attr(pkcs11.CKA_LABEL, key.label))
			if err != nil {
				return err
			}
			if len(found) != 1 {
				return fmt.Errorf("%w: after the module was set up anew a test key is found %d times", keystore.ErrUnavailable, len(found))
			}
			*handle = found[0]
		}
	}
	return nil
}

// restart measures what a recovery costs, and whether old numbers mean something new.
func (r *run) restart(ctx context.Context) error {
	const rounds = 5
	key := r.key()
	oldSession := r.session
	oldHandles := make(map[pkcs11.ObjectHandle]*testKey)
	for _, k := range r.keys {
		oldHandles[k.priv] = k
	}
	var took []time.Duration
	for range rounds {
		if ctx.Err() != nil {
			return expired(ctx)
		}
		began := time.Now()
		if err := r.anew(); err != nil {
			r.note(needRecovery, Check{Name: "C_Finalize and C_Initialize", Verdict: Unfit, Saw: err.Error(),
				Do: "run the module in worker processes, which are started anew instead"})
			return err
		}
		if key != nil {
			if err := r.signsWell(r.session, key, key.priv); err != nil {
				r.note(needRecovery, Check{Name: "keys sign after that", Verdict: Unfit, Saw: r.said(err),
					Do: "run the module in worker processes, which are started anew instead"})
				return r.fresh()
			}
		}
		took = append(took, time.Since(began))
	}
	slowest := took[0]
	for _, d := range took {
		slowest = max(slowest, d)
	}
	c := Check{Name: "C_Finalize, C_Initialize, login, find, sign", Verdict: Fit, Saw: fmt.Sprintf("%d times, at most %v", rounds, slowest.Round(100*time.Microsecond))}
	if slowest > time.Second {
		c.Verdict, c.Do = Limits, "after a failure of the HSM, signing comes back that much later; fewer objects in the token help some modules"
	}
	r.note(needRecovery, c)
	changed, again := 0, oldSession == r.session
	for _, k := range r.keys {
		if before, ok := oldHandles[k.priv]; ok && before != k {
			again = true
		} else if !ok {
			changed++
		}
	}
	switch {
	case again:
		r.note(needRecovery, Check{Name: "old handles", Verdict: Handled, Saw: "numbers of sessions or objects come back and mean something new",
			Do: "nothing: Signet never uses a number of before, and verifies each signature"})
	default:
		r.note(needRecovery, Check{Name: "old handles", Verdict: Fit, Saw: fmt.Sprintf("%d of %d keys have a new number", changed, len(r.keys))})
	}
	return nil
}
