package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
)

// neededLabel is the longest label that Signet gives a key today; longer ones are allowed up to keystore.MaxID.
const neededLabel = 64

// names finds out whether keys keep their labels and ids, and are found by them and by nothing else.
func (r *run) names(ctx context.Context) error {
	key := r.key()
	if key == nil {
		return nil
	}
	if err := r.lengths(ctx, key.kind); err != nil {
		return err
	}
	if err := r.twins(key.kind); err != nil {
		return err
	}
	last, err := r.generate(key.kind, r.label("last"), rsaBits)
	if err != nil {
		return failed("C_GenerateKeyPair", err)
	}
	return r.removal(last)
}

// twins makes two keys of one name.
func (r *run) twins(k kind) error {
	const name = "two keys of one name"
	first, err := r.generate(k, r.label("twin"), rsaBits)
	if err != nil {
		return failed("C_GenerateKeyPair", err)
	}
	second, err := r.generate(k, r.label("twin"), rsaBits)
	if err != nil {
		r.note(needNames, Check{Name: name, Verdict: Fit, Saw: "refused: " + r.said(err)})
		if err := r.fresh(); err != nil {
			return err
		}
		return failed("C_DestroyObject", r.destroy(first))
	}
	if err := r.signsWell(r.session, first, first.priv); err != nil {
		r.note(needNames, Check{Name: name, Verdict: Limits, Saw: "the second replaced the first, which is lost: " + r.said(err),
			Do: "let nobody but Signet make keys in the token; Signet looks for the name before"})
	} else {
		r.note(needNames, Check{Name: name, Verdict: Handled, Saw: "allowed, with the same CKA_LABEL and CKA_ID",
			Do: "nothing: Signet uses a key only if exactly one has the name"})
	}
	// What is left of the first goes by its name: one that was replaced cannot be destroyed by its handle.
	err = r.destroy(second)
	left, ferr := r.find(r.session, attr(pkcs11.CKA_TOKEN, true), attr(pkcs11.CKA_LABEL, first.label))
	if ferr != nil {
		return ferr
	}
	if _, problem := r.destroyAll(left); problem != nil {
		return failed("C_DestroyObject", errors.Join(problem, err))
	}
	return r.fresh()
}

// lengths finds the longest label that comes back whole and finds the key.
func (r *run) lengths(ctx context.Context, k kind) error {
	kept := 0
	var saw string
	for _, length := range []int{keystore.MaxID, 100, neededLabel, 32} {
		if ctx.Err() != nil {
			return expired(ctx)
		}
		label := r.label("n")
		label += strings.Repeat("x", length-len(label))
		made, err := r.generate(k, label, rsaBits)
		if err != nil {
			saw = fmt.Sprintf("a label of %d bytes: %s", length, r.said(err))
			if err := r.fresh(); err != nil {
				return err
			}
			continue
		}
		problem := r.named(made, label)
		if err := r.destroy(made); err != nil {
			return failed("C_DestroyObject", err)
		}
		if problem == "" {
			kept = length
			break
		}
		saw = fmt.Sprintf("a label of %d bytes: %s", length, problem)
	}
	c := Check{Name: "long labels are kept", Verdict: Fit, Saw: fmt.Sprintf("%d bytes", kept)}
	switch {
	case kept < neededLabel:
		c.Verdict, c.Saw, c.Do = Unfit, saw, "Signet's keys have names of up to 64 bytes: see whether the module has a setting for it"
	case kept < keystore.MaxID:
		c.Verdict, c.Saw, c.Do = Limits, fmt.Sprintf("%d bytes; %s", kept, saw), "give keys short names"
	}
	r.note(needNames, c)
	return nil
}

// named reports what is wrong with the names of a pair, or "".
func (r *run) named(key *testKey, label string) string {
	for _, half := range []struct {
		class  uint
		object pkcs11.ObjectHandle
	}{{pkcs11.CKO_PRIVATE_KEY, key.priv}, {pkcs11.CKO_PUBLIC_KEY, key.pub}} {
		if got, err := r.value(half.object, pkcs11.CKA_LABEL); err != nil || string(got) != label {
			return fmt.Sprintf("CKA_LABEL comes back as %q (%s)", got, r.said(err))
		}
		if got, err := r.value(half.object, pkcs11.CKA_ID); err != nil || !bytes.Equal(got, keyNumber(label)) {
			return fmt.Sprintf("CKA_ID comes back as %x (%s)", got, r.said(err))
		}
		found, err := r.find(r.session, attr(pkcs11.CKA_CLASS, half.class), attr(pkcs11.CKA_TOKEN, true), attr(pkcs11.CKA_LABEL, label))
		if err != nil {
			return r.said(err)
		}
		if len(found) != 1 {
			return fmt.Sprintf("it is found %d times", len(found))
		}
		found, err = r.find(r.session, attr(pkcs11.CKA_CLASS, half.class), attr(pkcs11.CKA_TOKEN, true), attr(pkcs11.CKA_LABEL, label[:len(label)-1]))
		if err != nil {
			return r.said(err)
		}
		if len(found) != 0 {
			return "it is also found by the beginning of its label"
		}
	}
	return ""
}

// removal destroys a key and looks whether it is gone, by its name and by its handle.
func (r *run) removal(key *testKey) error {
	if err := r.destroy(key); err != nil {
		r.note(needRemoval, Check{Name: "a key can be destroyed", Verdict: Unfit, Saw: r.said(err), Do: "see whether the user may destroy keys in this token"})
		return nil
	}
	found, err := r.find(r.session, attr(pkcs11.CKA_LABEL, key.label))
	if err != nil {
		return err
	}
	err = r.signsWell(r.session, key, key.priv)
	switch {
	case len(found) > 0:
		r.note(needRemoval, Check{Name: "a destroyed key is gone", Verdict: Unfit, Saw: fmt.Sprintf("%d objects of it are still found", len(found)), Do: "do not use the token"})
	case err == nil:
		r.note(needRemoval, Check{Name: "a destroyed key is gone", Verdict: Unfit, Saw: "its handle still signs", Do: "do not use the token"})
	default:
		r.note(needRemoval, Check{Name: "a destroyed key is gone", Verdict: Fit, Saw: "not found; its handle: " + r.said(err)})
	}
	return r.fresh()
}
