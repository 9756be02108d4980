package conformance

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
)

const doNotUse = "do not keep signers' keys in this token: whoever has the PIN gets their private halves"

// escapes tries everything that would let a private key leave the token.
func (r *run) escapes(ctx context.Context) error {
	if err := r.attempts(ctx, r.readPrivate, r.copyLoosely, r.copyPublicly, r.wrap, r.loosen); err != nil {
		return err
	}
	return r.forge()
}

// attempts makes each attempt on each key. What is refused because the key is no longer there would look like a good answer,
// so each key has to sign in between.
func (r *run) attempts(ctx context.Context, all ...func(*testKey) error) error {
	return r.eachKey(ctx, func(key *testKey) error {
		for _, attempt := range all {
			if err := attempt(key); err != nil {
				return err
			}
			if err := r.fresh(); err != nil {
				return err
			}
			if err := r.signsWell(r.session, key, key.priv); err != nil {
				return fmt.Errorf("%w: %s: the key no longer signs after that: %s", keystore.ErrUnavailable, key.kind.algorithm, r.said(err))
			}
		}
		return nil
	})
}

func (r *run) eachKey(ctx context.Context, do func(*testKey) error) error {
	for _, key := range r.keys {
		if ctx.Err() != nil {
			return expired(ctx)
		}
		if err := do(key); err != nil {
			return err
		}
	}
	return nil
}

// readPrivate reads the private values.
func (r *run) readPrivate(key *testKey) error {
	values := map[string]uint{"CKA_VALUE": pkcs11.CKA_VALUE}
	if key.kind.keyType == pkcs11.CKK_RSA {
		values = map[string]uint{"CKA_PRIVATE_EXPONENT": pkcs11.CKA_PRIVATE_EXPONENT, "CKA_PRIME_1": pkcs11.CKA_PRIME_1,
			"CKA_PRIME_2": pkcs11.CKA_PRIME_2, "CKA_EXPONENT_1": pkcs11.CKA_EXPONENT_1, "CKA_COEFFICIENT": pkcs11.CKA_COEFFICIENT}
	}
	var readable, answers []string
	for name, number := range values {
		value, err := r.value(key.priv, number)
		if err == nil && len(value) > 0 && !bytes.Equal(value, make([]byte, len(value))) {
			readable = append(readable, name)
		} else {
			answers = append(answers, r.said(err))
		}
		clear(value)
	}
	c := Check{Name: string(key.kind.algorithm) + ": the private value cannot be read", Verdict: Fit, Saw: "refused: " + unique(answers)}
	if len(readable) > 0 {
		c.Verdict, c.Saw, c.Do = Unfit, "the token gives away "+unique(readable), doNotUse
	}
	r.note(needProtection, c)
	return nil
}

// loosen tries to change the attributes that protect a key.
func (r *run) loosen(key *testKey) error {
	for _, w := range []wish{
		{"CKA_EXTRACTABLE", pkcs11.CKA_EXTRACTABLE, true, true},
		{"CKA_SENSITIVE", pkcs11.CKA_SENSITIVE, false, true},
		{"CKA_PRIVATE", pkcs11.CKA_PRIVATE, false, true},
	} {
		before, _ := r.flag(key.priv, w.number)
		err := r.module.SetAttributeValue(r.session, key.priv, []*pkcs11.Attribute{attr(w.number, w.want)})
		after, known := r.flag(key.priv, w.number)
		c := Check{Name: fmt.Sprintf("%s: %s cannot be set to %t", key.kind.algorithm, w.name, w.want), Verdict: Fit, Saw: "refused: " + r.said(err)}
		switch {
		case err == nil && known && after == w.want && before != w.want:
			c.Verdict, c.Saw, c.Do = Unfit, "the token answers OK, and it is", doNotUse
		case err == nil && !known:
			c.Verdict, c.Saw, c.Do = Unfit, "the token answers OK, and does not tell what it is now", doNotUse
		case err == nil && before == w.want:
			c.Verdict, c.Saw = NotTried, "it is already: see what the token says of its attributes"
		case err == nil:
			c.Verdict, c.Saw, c.Do = Handled, "the token answers OK, and does not do it", "nothing: Signet reads attributes back"
		}
		r.note(needProtection, c)
	}
	return nil
}

// copyLoosely tries to make a copy that is less protected.
func (r *run) copyLoosely(key *testKey) error {
	for _, w := range []wish{
		{"extractable", pkcs11.CKA_EXTRACTABLE, true, true},
		{"not sensitive", pkcs11.CKA_SENSITIVE, false, true},
	} {
		template := []*pkcs11.Attribute{attr(pkcs11.CKA_TOKEN, false), attr(w.number, w.want)}
		made, err := r.module.CopyObject(r.session, key.priv, template)
		c := Check{Name: fmt.Sprintf("%s: no copy that is %s", key.kind.algorithm, w.name), Verdict: Fit, Saw: "refused: " + r.said(err)}
		if err == nil {
			got, known := r.flag(made, w.number)
			c.Verdict, c.Saw, c.Do = Unfit, "the token makes it", doNotUse
			if known && got != w.want {
				c.Verdict, c.Saw, c.Do = Handled, "the token answers OK, and the copy is as protected as the key", "nothing: Signet reads attributes back"
			}
			r.module.DestroyObject(r.session, made)
		}
		r.note(needProtection, c)
	}
	return nil
}

// copyPublicly tries to make a copy that signs without the PIN, and stays.
func (r *run) copyPublicly(key *testKey) error {
	made, err := r.module.CopyObject(r.session, key.priv, []*pkcs11.Attribute{
		attr(pkcs11.CKA_TOKEN, true), attr(pkcs11.CKA_PRIVATE, false),
		attr(pkcs11.CKA_LABEL, r.label("public")), attr(pkcs11.CKA_ID, keyNumber(r.label("public"))),
	})
	c := Check{Name: fmt.Sprintf("%s: no copy that needs no PIN", key.kind.algorithm), Verdict: Fit, Saw: "refused: " + r.said(err)}
	if err == nil {
		private, known := r.flag(made, pkcs11.CKA_PRIVATE)
		c.Verdict, c.Saw = Limits, "the token makes it: who had the PIN once can leave a copy that signs without it"
		c.Do = "let nobody but Signet reach the token, and look through its objects after the PIN was in other hands"
		if known && private {
			c.Verdict, c.Saw, c.Do = Handled, "the token answers OK, and the copy is as protected as the key", "nothing: Signet reads attributes back"
		}
		if err := r.module.DestroyObject(r.session, made); err != nil {
			return failed("C_DestroyObject", err)
		}
	}
	r.note(needProtection, c)
	return nil
}

// Ways to wrap a private key with a secret one. The last two are of vendors and older drafts.
var wrappings = []struct {
	name      string
	number    uint
	parameter []byte
}{
	{"CKM_AES_KEY_WRAP_PAD", pkcs11.CKM_AES_KEY_WRAP_PAD, nil},
	{"CKM_AES_KEY_WRAP_KWP", 0x0000210b, nil},
	{"CKM_AES_KEY_WRAP", pkcs11.CKM_AES_KEY_WRAP, nil},
	{"CKM_AES_CBC_PAD", pkcs11.CKM_AES_CBC_PAD, make([]byte, 16)},
	{"CKM_AES_CBC", pkcs11.CKM_AES_CBC, make([]byte, 16)},
	{"CKM_AES_ECB", pkcs11.CKM_AES_ECB, nil},
	{"CKM_NSS_AES_KEY_WRAP_PAD", 0xce534352, nil},
}

// wrap tries to get the key out encrypted with one that we know, or could.
func (r *run) wrap(key *testKey) error {
	name := string(key.kind.algorithm) + ": the key cannot be wrapped"
	with, err := r.module.GenerateKey(r.session, mechanism(pkcs11.CKM_AES_KEY_GEN, nil), []*pkcs11.Attribute{
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES), attr(pkcs11.CKA_TOKEN, false),
		attr(pkcs11.CKA_LABEL, r.label("wrap")), attr(pkcs11.CKA_VALUE_LEN, 32), attr(pkcs11.CKA_WRAP, true), attr(pkcs11.CKA_ENCRYPT, true),
	})
	if err != nil {
		r.note(needProtection, Check{Name: name, Verdict: Fit, Saw: "the token makes no key to wrap with: " + r.said(err)})
		return nil
	}
	var out, answers []string
	for _, w := range wrappings {
		wrapped, err := r.module.WrapKey(r.session, mechanism(w.number, w.parameter), with, key.priv)
		if err == nil && len(wrapped) > 0 {
			out = append(out, w.name)
		} else {
			answers = append(answers, r.said(err))
		}
		clear(wrapped)
	}
	r.module.DestroyObject(r.session, with)
	c := Check{Name: name, Verdict: Fit, Saw: "refused: " + unique(answers)}
	if len(out) > 0 {
		c.Verdict, c.Saw, c.Do = Unfit, "the token gives it out with "+strings.Join(out, ", "), doNotUse
	}
	r.note(needProtection, c)
	return nil
}

// forge brings a key from outside into the token that claims to have been made there. If the token believes it, its
// attributes prove nothing.
func (r *run) forge() error {
	key := r.key()
	if key == nil || key.kind.curve == nil {
		return nil
	}
	base := []*pkcs11.Attribute{
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), attr(pkcs11.CKA_KEY_TYPE, key.kind.keyType), attr(pkcs11.CKA_TOKEN, false),
		attr(pkcs11.CKA_LABEL, r.label("forged")), attr(pkcs11.CKA_PRIVATE, true), attr(pkcs11.CKA_SENSITIVE, true),
		attr(pkcs11.CKA_EXTRACTABLE, false), attr(pkcs11.CKA_SIGN, true), attr(pkcs11.CKA_EC_PARAMS, key.kind.params),
		attr(pkcs11.CKA_VALUE, bytes.Repeat([]byte{0x17}, key.kind.fieldSize())),
	}
	var believed, answers []string
	for _, claim := range []struct {
		name  string
		attrs []*pkcs11.Attribute
	}{
		{"as it is", nil},
		{"with CKA_LOCAL=true", []*pkcs11.Attribute{attr(pkcs11.CKA_LOCAL, true)}},
		{"with CKA_NEVER_EXTRACTABLE=true", []*pkcs11.Attribute{attr(pkcs11.CKA_NEVER_EXTRACTABLE, true)}},
		{"with CKA_ALWAYS_SENSITIVE=true", []*pkcs11.Attribute{attr(pkcs11.CKA_ALWAYS_SENSITIVE, true)}},
	} {
		made, err := r.module.CreateObject(r.session, append(append([]*pkcs11.Attribute(nil), base...), claim.attrs...))
		if err != nil {
			answers = append(answers, r.said(err))
			continue
		}
		for _, w := range told {
			_ = r.module.SetAttributeValue(r.session, made, []*pkcs11.Attribute{attr(w.number, true)}) // must not have an effect
		}
		proof := true // each of the three would have to be true for the policy
		for _, w := range told {
			set, known := r.flag(made, w.number)
			proof = proof && set && known
		}
		if proof {
			believed = append(believed, claim.name)
		} else {
			answers = append(answers, "taken, and marked as not made there")
		}
		r.module.DestroyObject(r.session, made)
	}
	c := Check{Name: "a key from outside is not taken for one of the token's", Verdict: Fit, Saw: unique(answers)}
	if len(believed) > 0 {
		c.Verdict, c.Do = Unfit, "do not use the token: its attributes prove nothing"
		c.Saw = "a key that was brought in has CKA_LOCAL, CKA_ALWAYS_SENSITIVE and CKA_NEVER_EXTRACTABLE: " + strings.Join(believed, ", ")
	}
	r.note(needProtection, c)
	return r.fresh()
}

// unique joins texts, each once, in their order.
func unique(texts []string) string {
	var all []string
next:
	for _, text := range texts {
		for _, have := range all {
			if have == text {
				continue next
			}
		}
		all = append(all, text)
	}
	return strings.Join(all, ", ")
}
