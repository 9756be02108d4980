package conformance

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
)

// told are the attributes of a private key that the token sets itself, and what they must be.
var told = []wish{
	{"CKA_LOCAL", pkcs11.CKA_LOCAL, true, true},
	{"CKA_ALWAYS_SENSITIVE", pkcs11.CKA_ALWAYS_SENSITIVE, true, true},
	{"CKA_NEVER_EXTRACTABLE", pkcs11.CKA_NEVER_EXTRACTABLE, true, true},
}

// facts are further attributes that are recorded. A token need not know them.
var facts = map[string]uint{
	"CKA_ALLOWED_MECHANISMS":  pkcs11.CKA_ALLOWED_MECHANISMS,
	"CKA_ALWAYS_AUTHENTICATE": pkcs11.CKA_ALWAYS_AUTHENTICATE,
	"CKA_COPYABLE":            pkcs11.CKA_COPYABLE,
	"CKA_DESTROYABLE":         pkcs11.CKA_DESTROYABLE,
	"CKA_KEY_GEN_MECHANISM":   pkcs11.CKA_KEY_GEN_MECHANISM,
	"CKA_KEY_TYPE":            pkcs11.CKA_KEY_TYPE,
	"CKA_MODIFIABLE":          pkcs11.CKA_MODIFIABLE,
	"CKA_WRAP_WITH_TRUSTED":   pkcs11.CKA_WRAP_WITH_TRUSTED,
}

// factNames is the order of facts in a report.
var factNames = []string{
	"CKA_ALLOWED_MECHANISMS", "CKA_ALWAYS_AUTHENTICATE", "CKA_COPYABLE", "CKA_DESTROYABLE", "CKA_KEY_GEN_MECHANISM", "CKA_KEY_TYPE",
	"CKA_MODIFIABLE", "CKA_WRAP_WITH_TRUSTED",
}

// attributes holds what was asked for against what the token says.
func (r *run) attributes(ctx context.Context) error {
	for _, key := range r.keys {
		if ctx.Err() != nil {
			return expired(ctx)
		}
		all, values := r.readAll(key.priv)
		err := keystore.CheckPolicy(values)
		r.update(func(report *Report) {
			for i := range report.Algo {
				if report.Algo[i].Name == key.kind.algorithm {
					report.Algo[i].Attributes, report.Algo[i].Policy = all, err == nil
				}
			}
		})
		c := Check{Name: string(key.kind.algorithm) + ": attributes are kept", Verdict: Fit, Saw: "all, as read back"}
		if err != nil {
			c.Verdict, c.Do = Unfit, "Signet refuses keys of this token: change the token's settings if they allow it, or take another token"
			c.Saw = strings.TrimPrefix(err.Error(), keystore.ErrPolicy.Error()+": ")
		}
		r.note(needProtection, c)
	}
	return r.extras()
}

// readAll reads what the policy looks at, and more.
func (r *run) readAll(private pkcs11.ObjectHandle) (all []Attribute, values map[string]string) {
	values = make(map[string]string)
	for _, list := range [][]wish{privateWishes, told} {
		for _, w := range list {
			a := Attribute{Name: w.name, Got: r.text(private, w.number)}
			want := strconv.FormatBool(w.want)
			if a.Kept = a.Got == want || a.Got == "" && !w.must; a.Got != "" {
				values[w.name] = a.Got
			}
			if list[0].name == privateWishes[0].name {
				a.Asked = want
			}
			all = append(all, a)
		}
	}
	for _, name := range factNames {
		if got := r.text(private, facts[name]); got != "" {
			values[name] = got
			all = append(all, Attribute{Name: name, Got: got, Kept: true})
		}
	}
	return all, values
}

// extras asks for protection beyond what a key needs, each in a key of its own: not every token knows them.
func (r *run) extras() error {
	key := r.key()
	if key == nil {
		return nil
	}
	for _, e := range []struct {
		name   string
		number uint
		value  []byte
		want   string
		use    string
	}{
		{"CKA_ALLOWED_MECHANISMS", pkcs11.CKA_ALLOWED_MECHANISMS, word(key.kind.sign), fmt.Sprintf("0x%x", key.kind.sign), "the key signs with its own mechanism only"},
		{"CKA_MODIFIABLE", pkcs11.CKA_MODIFIABLE, []byte{0}, "false", "nobody changes the attributes of the key afterwards"},
		{"CKA_COPYABLE", pkcs11.CKA_COPYABLE, []byte{0}, "false", "nobody copies the key"},
	} {
		extra, err := r.generate(key.kind, r.label("extra-"+strings.ToLower(strings.TrimPrefix(e.name, "CKA_"))[:6]), rsaBits, attr(e.number, e.value))
		c := Check{Name: e.name + " can be asked for", Verdict: Handled, Do: "nothing: Signet does without, and checks each signature"}
		if err != nil {
			c.Saw = "at generation " + r.said(err)
			r.note(needProtection, c)
			if err := r.fresh(); err != nil {
				return err
			}
			continue
		}
		switch got := r.text(extra.priv, e.number); {
		case got == e.want:
			c.Verdict, c.Saw, c.Do = Fit, "kept: "+e.use, ""
		case got == "":
			c.Saw = "taken, but the token does not tell it"
		default:
			c.Saw = fmt.Sprintf("taken, but it then is %s", got)
		}
		r.note(needProtection, c)
		if c.Verdict == Fit {
			r.heldTo(e.name, extra)
		}
		if err := r.destroy(extra); err != nil {
			return failed("C_DestroyObject", err)
		}
		if err := r.fresh(); err != nil {
			return err
		}
	}
	return nil
}

// heldTo tries whether an attribute that the token keeps has its effect.
func (r *run) heldTo(name string, key *testKey) {
	switch name {
	case "CKA_ALLOWED_MECHANISMS":
		if err := r.signsWell(r.session, key, key.priv); err != nil {
			r.note(needProtection, Check{Name: name + " lets the key sign", Verdict: Limits, Saw: r.said(err), Do: "the attribute cannot be used with this token"})
			return
		}
		other := uint(pkcs11.CKM_ECDSA_SHA256)
		if key.kind.keyType == pkcs11.CKK_RSA {
			other = pkcs11.CKM_SHA256_RSA_PKCS
		}
		_, err := r.signWith(r.session, key.priv, other, nil, []byte("signet"))
		r.refuses(needProtection, name+" is enforced", err, Limits, "whoever has the PIN can sign with other mechanisms of the key's type, whatever the attribute says")
	case "CKA_MODIFIABLE":
		err := r.module.SetAttributeValue(r.session, key.priv, []*pkcs11.Attribute{attr(pkcs11.CKA_ID, []byte("changed"))})
		r.refuses(needProtection, name+" is enforced", err, Limits, "attributes can be changed, whatever the attribute says")
	case "CKA_COPYABLE":
		_, err := r.module.CopyObject(r.session, key.priv, []*pkcs11.Attribute{attr(pkcs11.CKA_TOKEN, false)})
		r.refuses(needProtection, name+" is enforced", err, Limits, "the key can be copied, whatever the attribute says")
	}
}

// refuses notes whether the token refused what it must.
func (r *run) refuses(need, name string, err error, otherwise Verdict, means string) {
	if err != nil {
		r.note(need, Check{Name: name, Verdict: Fit, Saw: "refused: " + r.said(err)})
		return
	}
	r.note(need, Check{Name: name, Verdict: otherwise, Saw: "the token answers OK: " + means,
		Do: "see whether the token has a setting or a mode for it"})
}
