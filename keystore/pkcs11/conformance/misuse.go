package conformance

import (
	"context"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
)

// misuse tries to use signing keys for something else, and to allow that afterwards.
func (r *run) misuse(ctx context.Context) error {
	return r.attempts(ctx, r.decrypt, r.derive, r.wrongMechanism, r.widen)
}

func (r *run) decrypt(key *testKey) error {
	if key.kind.keyType != pkcs11.CKK_RSA {
		return nil
	}
	err := r.module.DecryptInit(r.session, mechanism(pkcs11.CKM_RSA_PKCS, nil), key.priv)
	r.refuses(needProtection, string(key.kind.algorithm)+": the key cannot decrypt", err, Unfit, "CKA_DECRYPT=false has no effect")
	return nil
}

// derive agrees on a secret with the key's own public point, which a signing key must refuse.
func (r *run) derive(key *testKey) error {
	if key.kind.curve == nil {
		return nil
	}
	value, err := r.value(key.pub, pkcs11.CKA_EC_POINT)
	if err != nil {
		return nil
	}
	point, _, err := unwrapPoint(value, key.kind.pointSize())
	if err != nil {
		return nil
	}
	made, err := r.module.DeriveKey(r.session, []*pkcs11.Mechanism{
		pkcs11.NewMechanism(pkcs11.CKM_ECDH1_DERIVE, pkcs11.NewECDH1DeriveParams(pkcs11.CKD_NULL, nil, point)),
	}, key.priv, []*pkcs11.Attribute{
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET), attr(pkcs11.CKA_TOKEN, false),
		attr(pkcs11.CKA_LABEL, r.label("derived")), attr(pkcs11.CKA_VALUE_LEN, key.kind.fieldSize()),
	})
	r.refuses(needProtection, string(key.kind.algorithm)+": no secret can be derived", err, Unfit, "CKA_DERIVE=false has no effect")
	if err == nil {
		r.module.DestroyObject(r.session, made)
	}
	return nil
}

// wrongMechanism signs with mechanisms that are not for this type of key, and with others that are for it.
func (r *run) wrongMechanism(key *testKey) error {
	foreign := uint(pkcs11.CKM_RSA_PKCS)
	if key.kind.keyType == pkcs11.CKK_RSA {
		foreign = pkcs11.CKM_ECDSA
	}
	digest := make([]byte, 32)
	_, err := r.signWith(r.session, key.priv, foreign, nil, digest)
	r.refuses(needProtection, fmt.Sprintf("%s: a mechanism of another type of key is refused", key.kind.algorithm), err, Unfit, "the token signs with it")
	if err := r.fresh(); err != nil {
		return err
	}
	if key.kind.keyType != pkcs11.CKK_RSA {
		return nil
	}
	other := map[keystore.Algorithm]keystore.Algorithm{keystore.RSAPSS: keystore.RSAPKCS1, keystore.RSAPKCS1: keystore.RSAPSS}
	sibling, _ := kindOf(other[key.kind.algorithm])
	if _, err := r.sign(r.session, key.priv, sibling, digest); err == nil {
		r.note(needProtection, Check{Name: fmt.Sprintf("%s: an RSA key signs the other way, too", key.kind.algorithm), Verdict: Handled, Saw: sibling.signName + ": OK",
			Do: "nothing: Signet makes RSA keys for one mechanism, where the token can be told, and never asks for another"})
	}
	return nil
}

// widen tries to allow afterwards what was forbidden.
func (r *run) widen(key *testKey) error {
	var changed []string
	for _, w := range []wish{
		{"CKA_DECRYPT", pkcs11.CKA_DECRYPT, true, false},
		{"CKA_UNWRAP", pkcs11.CKA_UNWRAP, true, false},
		{"CKA_DERIVE", pkcs11.CKA_DERIVE, true, false},
		{"CKA_SIGN_RECOVER", pkcs11.CKA_SIGN_RECOVER, true, false},
	} {
		before, known := r.flag(key.priv, w.number)
		if !known || before {
			continue
		}
		if err := r.module.SetAttributeValue(r.session, key.priv, []*pkcs11.Attribute{attr(w.number, true)}); err != nil {
			continue
		}
		if after, _ := r.flag(key.priv, w.number); after {
			changed = append(changed, w.name)
			_ = r.module.SetAttributeValue(r.session, key.priv, []*pkcs11.Attribute{attr(w.number, false)}) // the key is a test's
		}
	}
	name := string(key.kind.algorithm) + ": uses cannot be added afterwards"
	if len(changed) == 0 {
		r.note(needProtection, Check{Name: name, Verdict: Fit, Saw: "refused"})
		return nil
	}
	r.note(needProtection, Check{Name: name, Verdict: Handled, Saw: "can be set afterwards: " + unique(changed),
		Do: "nothing: Signet records the attributes in the ledger, reads them again after each recovery, and does not use a key whose attributes changed"})
	return nil
}

// tryCopies finds out whether Signet can sign with copies in the session's memory.
func (r *run) tryCopies(context.Context) error {
	key := r.key()
	if key == nil {
		return nil
	}
	const name = "session copies"
	dont := "leave hsm.sessionCopies off: the keys themselves sign"
	made, err := r.module.CopyObject(r.session, key.priv, []*pkcs11.Attribute{attr(pkcs11.CKA_TOKEN, false)})
	if err != nil {
		r.note(needSignet, Check{Name: name, Verdict: Handled, Saw: "refused: " + r.said(err), Do: dont})
		return r.fresh()
	}
	_, values := r.readAll(made)
	if values["CKA_TOKEN"] == "false" {
		values["CKA_TOKEN"] = "true" // the one thing in which it should differ
	}
	switch err := keystore.CheckPolicy(values); {
	case err != nil:
		r.note(needSignet, Check{Name: name, Verdict: Handled, Saw: "less protected than the key: " + err.Error(), Do: dont})
	default:
		if err := r.copySigns(key, made); err != nil {
			r.note(needSignet, Check{Name: name, Verdict: Handled, Saw: "made, but it does not sign in another session: " + r.said(err), Do: dont})
			break
		}
		r.copies = true
		r.note(needSignet, Check{Name: name, Verdict: Fit, Saw: "allowed, as protected as the key, and used by all sessions"})
	}
	r.module.DestroyObject(r.session, made)
	return r.fresh()
}

// copySigns signs with a copy in another session, as Signet's workers do.
func (r *run) copySigns(key *testKey, made pkcs11.ObjectHandle) error {
	other, err := r.module.OpenSession(r.slot, pkcs11.CKF_SERIAL_SESSION)
	if err != nil {
		return err
	}
	defer r.module.CloseSession(other)
	return r.signsWell(other, key, made)
}
