package verify_test

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/passkey"
	"github.com/signetd/signet/api/passkey/passkeytest"
	"github.com/signetd/signet/api/verify"
)

// keyring is the passkeys of a world: two administrators', who are pinned, and whatever is bound.
type keyring struct {
	*world
	root1, root2 *passkeytest.Authenticator
	bound        int
}

const (
	rpID   = "sign.example"
	pages  = "https://sign.example"
	admin1 = "sgn_root1"
	admin2 = "sgn_root2"
)

func (w *world) keyring() *keyring {
	w.tb.Helper()
	k := &keyring{world: w, root1: w.device(passkeytest.ES256), root2: w.device(passkeytest.EdDSA)}
	k.pin(admin1, k.root1)
	k.pin(admin2, k.root2)
	return k
}

func (w *world) device(a passkeytest.Algorithm) *passkeytest.Authenticator {
	w.tb.Helper()
	d, err := passkeytest.New(a, rpID, pages)
	w.check(err)
	return d
}

func (k *keyring) pin(signer string, d *passkeytest.Authenticator) {
	k.trust.Passkeys = append(k.trust.Passkeys, manifest.TrustPasskey{
		CredentialID: d.CredentialID, Name: nameOf(signer), Origins: []string{d.Origin}, RPID: d.RPID, Signer: signer, SPKI: d.SPKI,
	})
}

func nameOf(signer string) string {
	if signer == "sgn_ada" {
		return "Ada Lovelace"
	}
	return "Name of " + signer
}

// voucher is who vouches, and with what.
type voucher struct {
	signer string
	device *passkeytest.Authenticator
}

func (k *keyring) roots() []voucher { return []voucher{{admin1, k.root1}, {admin2, k.root2}} }

// binding is a passkey before anybody has vouched for it.
func (k *keyring) binding(signer string, d *passkeytest.Authenticator, change ...func(*passkey.Binding)) passkey.Binding {
	k.bound++
	b := passkey.Binding{
		AAGUID: strings.Repeat("0", 32), CredentialID: d.CredentialID, Format: passkey.Format, Ledger: origin, Name: nameOf(signer), Nonce: fmt.Sprintf("%032x", k.bound),
		Origins: []string{d.Origin}, Registered: passkey.Time(k.now), RPID: d.RPID, Signer: signer, SPKI: d.SPKI,
	}
	for _, f := range change {
		f(&b)
	}
	return b
}

// vouch is what vouchers say for a binding.
func (k *keyring) vouch(b passkey.Binding, by ...voucher) passkey.Bound {
	k.tb.Helper()
	out := passkey.NewBound(b)
	c, err := b.Challenge()
	k.check(err)
	for _, v := range by {
		a, err := v.device.Assert(c)
		k.check(err)
		out.Vouchers = append(out.Vouchers, passkey.NewVoucher(v.signer, a))
	}
	return out
}

// bindPasskey enters a binding, and puts it among the supporting entries.
func (k *keyring) bindPasskey(b passkey.Bound) uint64 {
	k.tb.Helper()
	index := k.append(chain.PasskeyBound, b)
	k.support = append(k.support, index)
	return index
}

func (k *keyring) revokePasskey(signer string, d *passkeytest.Authenticator) {
	k.tb.Helper()
	k.support = append(k.support, k.append(chain.PasskeyRevoked, passkey.Revoked{
		By: admin1, KeyID: d.Key().ID(), Nonce: strings.Repeat("0", 32), Reason: "lost", Signer: signer,
	}))
}

// asserted is the authorization of a signature by a device.
func (k *keyring) asserted(kind manifest.AuthorizationKind, d *passkeytest.Authenticator) forge {
	return forge{
		predicate: func(p *manifest.Predicate) { p.Requires = kind },
		authorize: func(canonical []byte) manifest.Authorization {
			a, err := d.Assert(sha256.Sum256(manifest.PAE(canonical)))
			k.check(err)
			return authorization(kind, a)
		},
	}
}

func authorization(kind manifest.AuthorizationKind, a passkey.Assertion) manifest.Authorization {
	return manifest.Authorization{Kind: kind, AuthenticatorData: a.AuthenticatorData, ClientDataJSON: a.ClientDataJSON, CredentialID: a.CredentialID, Signature: a.Signature}
}

// requiring makes a passkey the policy of the record, and of the trust file.
func (k *keyring) requiring(kind manifest.AuthorizationKind) func(*manifest.Record) {
	return func(r *manifest.Record) {
		r.Policy.Resolved.Requires = kind
		k.trust.Policies = []manifest.TrustPolicy{{Digest: r.Policy.Template.Digest.SHA256, Requires: kind}}
	}
}

// passkeyCases are the samples of the corpus about passkeys.
func passkeyCases() []kase {
	const ok, bad = verify.OK, verify.Untrusted
	const kind = manifest.AuthorizationPasskey
	// approved is a record that Ada has approved with the device, under a pinned policy.
	approved := func(k *making, r *keyring, f forge) {
		k.begin(1, []*signer{k.ada}, r.requiring(kind))
		k.sign(k.ada, manifest.Approve, f)
		k.close(manifest.OutcomeApproved)
		k.m = k.manifest()
	}
	// bound lets change do something about the bindings before Ada approves; it returns the device that she has.
	bound := func(change func(k *making, r *keyring) *passkeytest.Authenticator) func(*making) {
		return func(k *making) {
			r := k.keyring()
			d := change(k, r)
			approved(k, r, r.asserted(kind, d))
		}
	}
	// sound binds a device of Ada's by both administrators.
	sound := func(r *keyring, a passkeytest.Algorithm) *passkeytest.Authenticator {
		d := r.device(a)
		r.bindPasskey(r.vouch(r.binding("sgn_ada", d), r.roots()...))
		return d
	}
	with := func(a passkeytest.Algorithm) func(*making) {
		return bound(func(_ *making, r *keyring) *passkeytest.Authenticator { return sound(r, a) })
	}
	// signed lets Ada sign with a sound device, in a way of its own.
	signed := func(f func(r *keyring, d *passkeytest.Authenticator, canonical []byte) passkey.Assertion) func(*making) {
		return func(k *making) {
			r := k.keyring()
			d := sound(r, passkeytest.ES256)
			approved(k, r, forge{
				predicate: func(p *manifest.Predicate) { p.Requires = kind },
				authorize: func(canonical []byte) manifest.Authorization { return authorization(kind, f(r, d, canonical)) },
			})
		}
	}
	client := func(kind, at string) func(*making) {
		return signed(func(r *keyring, d *passkeytest.Authenticator, canonical []byte) passkey.Assertion {
			c := sha256.Sum256(manifest.PAE(canonical))
			a, err := d.AssertData(d.AuthenticatorData(), passkeytest.ClientData(kind, c[:], at))
			r.check(err)
			return a
		})
	}
	clientText := func(change func(string) string) func(*making) {
		return signed(func(r *keyring, d *passkeytest.Authenticator, canonical []byte) passkey.Assertion {
			c := sha256.Sum256(manifest.PAE(canonical))
			a, err := d.AssertData(d.AuthenticatorData(), []byte(change(string(passkeytest.ClientData("webauthn.get", c[:], pages)))))
			r.check(err)
			return a
		})
	}
	flags := func(f byte) func(*making) {
		return signed(func(r *keyring, d *passkeytest.Authenticator, canonical []byte) passkey.Assertion {
			d.Flags = f
			a, err := d.Assert(sha256.Sum256(manifest.PAE(canonical)))
			r.check(err)
			return a
		})
	}
	over := func(f func([]byte) [32]byte) func(*making) {
		return signed(func(r *keyring, d *passkeytest.Authenticator, canonical []byte) passkey.Assertion {
			a, err := d.Assert(f(canonical))
			r.check(err)
			return a
		})
	}
	vouchedBy := func(by func(r *keyring) []voucher, change ...func(*passkey.Binding)) func(*making) {
		return bound(func(_ *making, r *keyring) *passkeytest.Authenticator {
			d := r.device(passkeytest.ES256)
			r.bindPasskey(r.vouch(r.binding("sgn_ada", d, change...), by(r)...))
			return d
		})
	}
	const up, uv, be, bs = passkeytest.UP, passkeytest.UV, passkeytest.BE, passkeytest.BS
	return []kase{
		{"sound with a passkey", ok, with(passkeytest.ES256), nil},
		{"sound with an EdDSA passkey", ok, with(passkeytest.EdDSA), nil},
		{"sound with an RSA passkey", ok, with(passkeytest.RS256), nil},
		{"sound with a password and a passkey", ok, func(k *making) {
			r := k.keyring()
			d := sound(r, passkeytest.ES256)
			k.begin(1, []*signer{k.ada}, r.requiring(manifest.AuthorizationPasswordPasskey))
			k.sign(k.ada, manifest.Approve, r.asserted(manifest.AuthorizationPasswordPasskey, d))
			k.close(manifest.OutcomeApproved)
			k.m = k.manifest()
		}, nil},
		{"sound with a pinned passkey", ok, bound(func(k *making, r *keyring) *passkeytest.Authenticator {
			d := r.device(passkeytest.ES256)
			r.pin("sgn_ada", d)
			return d
		}), nil},
		{"sound with a passkey for which an earlier one vouches", ok, bound(func(_ *making, r *keyring) *passkeytest.Authenticator {
			first, second, third := sound(r, passkeytest.ES256), r.device(passkeytest.EdDSA), r.device(passkeytest.ES256)
			r.bindPasskey(r.vouch(r.binding("sgn_ada", second), voucher{"sgn_ada", first}))
			r.revokePasskey("sgn_ada", first) // what it vouched for before stands
			r.bindPasskey(r.vouch(r.binding("sgn_ada", third), voucher{"sgn_ada", second}))
			return third
		}), nil},
		{"sound with a passkey for which later administrators vouch", ok, bound(func(_ *making, r *keyring) *passkeytest.Authenticator {
			var by []voucher
			for _, id := range []string{"sgn_root3", "sgn_root4"} {
				d := r.device(passkeytest.ES256)
				r.bindPasskey(r.vouch(r.binding(id, d, func(b *passkey.Binding) { b.Vouches = true }), r.roots()...))
				by = append(by, voucher{id, d})
			}
			d := r.device(passkeytest.ES256)
			r.bindPasskey(r.vouch(r.binding("sgn_ada", d), by...))
			return d
		}), nil},
		{"sound with a passkey that may be copied", ok, bound(func(_ *making, r *keyring) *passkeytest.Authenticator {
			d := r.device(passkeytest.ES256)
			d.Flags = up | uv | be | bs
			r.bindPasskey(r.vouch(r.binding("sgn_ada", d, func(b *passkey.Binding) { b.BackupEligible = true }), r.roots()...))
			return d
		}), nil},
		{"sound with a passkey that was revoked later", ok, func(k *making) {
			r := k.keyring()
			d := sound(r, passkeytest.ES256)
			k.begin(1, []*signer{k.ada}, r.requiring(kind))
			k.sign(k.ada, manifest.Approve, r.asserted(kind, d))
			k.close(manifest.OutcomeApproved)
			r.revokePasskey("sgn_ada", d)
			k.m = k.manifest()
		}, nil},
		{"sound with a passkey that the trust file revokes from later on", ok, bound(func(_ *making, r *keyring) *passkeytest.Authenticator {
			d := sound(r, passkeytest.ES256)
			r.trust.Revoked = []manifest.Revoked{{From: manifest.NewTime(start.Add(time.Hour)), KeyID: d.Key().ID()}, {From: manifest.NewTime(start), KeyID: hexSum(nil)}}
			return d
		}), nil},
		{"sound with a passkey of which somebody else's was revoked", ok, bound(func(_ *making, r *keyring) *passkeytest.Authenticator {
			d := sound(r, passkeytest.ES256)
			r.revokePasskey("sgn_eve", d)
			return d
		}), nil},
		{"sound with a passkey whose administrator was revoked later", ok, bound(func(_ *making, r *keyring) *passkeytest.Authenticator {
			d := sound(r, passkeytest.ES256)
			r.support = append(r.support, r.append(chain.SignerRevoked, manifest.SignerRevoked{By: admin1, ID: admin2, Reason: "left"}))
			return d
		}), nil},
		{"sound with the second of two pinned passkeys", ok, bound(func(_ *making, r *keyring) *passkeytest.Authenticator {
			d := r.device(passkeytest.ES256)
			r.pin("sgn_ada", r.device(passkeytest.ES256))
			r.pin("sgn_ada", d)
			return d
		}), nil},
		{"sound with a browser that says more", ok, clientText(func(s string) string { return strings.Replace(s, "}", `,"other_keys":"x"}`, 1) }), nil},
		{"sound with a browser that does not know crossOrigin", ok, clientText(func(s string) string { return strings.Replace(s, `,"crossOrigin":false`, "", 1) }), nil},

		// The assertion.
		{"a passkey's assertion over another statement", bad, func(k *making) {
			r := k.keyring()
			d := sound(r, passkeytest.ES256)
			k.begin(1, []*signer{k.ada}, r.requiring(kind))
			k.sign(k.ada, manifest.Approve, r.asserted(kind, d))
			old := k.sigs[0].Authorization
			k.begin(1, []*signer{k.ada}, r.requiring(kind))
			k.sign(k.ada, manifest.Approve, forge{predicate: func(p *manifest.Predicate) { p.Requires = kind }, authorization: old})
			k.close(manifest.OutcomeApproved)
			k.m = k.manifest()
		}, nil},
		{"a passkey's assertion over the bare statement", bad, over(func(b []byte) [32]byte { return sha256.Sum256(b) }), nil},
		{"a passkey's assertion over another payload type", bad, over(func(b []byte) [32]byte { return passkey.Challenge(passkey.PayloadType, b) }), nil},
		{"a passkey's assertion that is a registration", bad, client("webauthn.create", pages), nil},
		{"a passkey's assertion of another page", bad, client("webauthn.get", "https://sign.example.evil.example"), nil},
		{"a passkey's assertion of a page below", bad, client("webauthn.get", "https://evil.sign.example"), nil},
		{"a passkey's assertion of another port", bad, client("webauthn.get", pages+":8443"), nil},
		{"a passkey's assertion within another page", bad, clientText(func(s string) string { return strings.Replace(s, "false", "true", 1) }), nil},
		{"a passkey's assertion below another page", bad, clientText(func(s string) string { return strings.Replace(s, "}", `,"topOrigin":"https://sign.example"}`, 1) }), nil},
		{"a passkey's assertion with a name given twice", bad, clientText(func(s string) string { return strings.Replace(s, "{", `{"type":"webauthn.get",`, 1) }), nil},
		{"a passkey's assertion with something after it", bad, clientText(func(s string) string { return s + " {}" }), nil},
		{"a passkey's assertion without a user", bad, flags(uv), nil},
		{"a passkey's assertion without verification of the user", bad, flags(up), nil},
		{"a passkey's assertion with extensions", bad, flags(up | uv | 0x80), nil},
		{"a passkey's assertion with a reserved flag", bad, flags(up | uv | 0x20), nil},
		{"a passkey's assertion that says it may be copied", bad, flags(up | uv | be), nil},
		{"a passkey's assertion for another relying party", bad, signed(func(r *keyring, d *passkeytest.Authenticator, canonical []byte) passkey.Assertion {
			d.RPID = "evil.example"
			a, err := d.Assert(sha256.Sum256(manifest.PAE(canonical)))
			r.check(err)
			return a
		}), nil},
		{"a passkey's assertion with a changed counter", bad, signed(func(r *keyring, d *passkeytest.Authenticator, canonical []byte) passkey.Assertion {
			a, err := d.Assert(sha256.Sum256(manifest.PAE(canonical)))
			r.check(err)
			a.AuthenticatorData = flip(a.AuthenticatorData, -1)
			return a
		}), nil},
		{"a passkey's assertion by another device", bad, signed(func(r *keyring, d *passkeytest.Authenticator, canonical []byte) passkey.Assertion {
			other := r.device(passkeytest.ES256)
			other.CredentialID = d.CredentialID
			a, err := other.Assert(sha256.Sum256(manifest.PAE(canonical)))
			r.check(err)
			return a
		}), nil},
		{"a passkey's assertion swapped after the entry", verify.Ledger, func(k *making) {
			r := k.keyring()
			d := sound(r, passkeytest.ES256)
			approved(k, r, r.asserted(kind, d))
			canonical, err := k.m.Signatures[0].Statement.Canonical()
			k.check(err)
			d.Counter++
			a, err := d.Assert(sha256.Sum256(manifest.PAE(canonical)))
			k.check(err)
			k.m.Signatures[0].Authorization = authorization(kind, a)
		}, nil},

		// The binding.
		{"a passkey that nobody has bound", bad, bound(func(_ *making, r *keyring) *passkeytest.Authenticator { return r.device(passkeytest.ES256) }), nil},
		{"a passkey whose binding is left out", bad, bound(func(_ *making, r *keyring) *passkeytest.Authenticator {
			d := sound(r, passkeytest.ES256)
			r.support = r.support[:len(r.support)-1]
			return d
		}), nil},
		{"a passkey of somebody else", bad, bound(func(k *making, r *keyring) *passkeytest.Authenticator {
			k.enrol("sgn_eve", "Eve")
			d := r.device(passkeytest.ES256)
			r.bindPasskey(r.vouch(r.binding("sgn_eve", d), r.roots()...))
			return d
		}), nil},
		{"an administrator's passkey for somebody else", bad, bound(func(_ *making, r *keyring) *passkeytest.Authenticator { return r.root1 }), nil},
		{"a passkey for which nobody vouches", bad, vouchedBy(func(*keyring) []voucher { return nil }), nil},
		{"a passkey for which one administrator vouches", bad, vouchedBy(func(r *keyring) []voucher { return r.roots()[:1] }), nil},
		{"a passkey for which strangers vouch", bad, vouchedBy(func(r *keyring) []voucher {
			return []voucher{{admin1, r.device(passkeytest.ES256)}, {admin2, r.device(passkeytest.ES256)}}
		}), nil},
		{"a passkey for which the server vouches in their names", bad, vouchedBy(func(r *keyring) []voucher {
			one, two := r.device(passkeytest.ES256), r.device(passkeytest.ES256)
			one.CredentialID, two.CredentialID = r.root1.CredentialID, r.root2.CredentialID
			return []voucher{{admin1, one}, {admin2, two}}
		}), nil},
		{"a passkey that vouches for itself", bad, bound(func(_ *making, r *keyring) *passkeytest.Authenticator {
			d := r.device(passkeytest.ES256)
			r.bindPasskey(r.vouch(r.binding("sgn_ada", d), voucher{"sgn_ada", d}))
			return d
		}), nil},
		{"passkeys that vouch for each other", bad, bound(func(_ *making, r *keyring) *passkeytest.Authenticator {
			one, two := r.device(passkeytest.ES256), r.device(passkeytest.ES256)
			r.bindPasskey(r.vouch(r.binding("sgn_ada", one), voucher{"sgn_ada", two}))
			r.bindPasskey(r.vouch(r.binding("sgn_ada", two), voucher{"sgn_ada", one}))
			return two
		}), nil},
		{"a passkey for which people without the right vouch", bad, bound(func(_ *making, r *keyring) *passkeytest.Authenticator {
			var by []voucher
			for _, id := range []string{"sgn_bob", "sgn_eve"} {
				d := r.device(passkeytest.ES256)
				r.bindPasskey(r.vouch(r.binding(id, d), r.roots()...))
				by = append(by, voucher{id, d})
			}
			d := r.device(passkeytest.ES256)
			r.bindPasskey(r.vouch(r.binding("sgn_ada", d), by...))
			return d
		}), nil},
		{"a passkey that has given itself the right to vouch", bad, bound(func(_ *making, r *keyring) *passkeytest.Authenticator {
			first, second := sound(r, passkeytest.ES256), r.device(passkeytest.ES256)
			r.bindPasskey(r.vouch(r.binding("sgn_ada", second, func(b *passkey.Binding) { b.Vouches = true }), voucher{"sgn_ada", first}))
			return second
		}), nil},
		{"a passkey that has changed its signer's name", bad, bound(func(k *making, r *keyring) *passkeytest.Authenticator {
			d, e := r.device(passkeytest.ES256), r.device(passkeytest.ES256)
			other := func(b *passkey.Binding) { b.Name = "Eve" }
			r.bindPasskey(r.vouch(r.binding("sgn_ada", d, other), r.roots()...))
			r.bindPasskey(r.vouch(r.binding("sgn_ada", e), voucher{"sgn_ada", d}))
			return e
		}), nil},
		{"a passkey that was bound under another name", bad, vouchedBy((*keyring).roots, func(b *passkey.Binding) { b.Name = "Eve" }), nil},
		{"a passkey that was bound in another ledger", bad, vouchedBy((*keyring).roots, func(b *passkey.Binding) { b.Ledger = "other.example/ledger" }), nil},
		{"a binding that was changed", bad, bound(func(_ *making, r *keyring) *passkeytest.Authenticator {
			d, evil := r.device(passkeytest.ES256), r.device(passkeytest.ES256)
			b := r.vouch(r.binding("sgn_ada", d), r.roots()...)
			b.Binding.SPKI, b.Binding.CredentialID = evil.SPKI, evil.CredentialID
			r.bindPasskey(passkey.NewBound(b.Binding, b.Vouchers...))
			return evil
		}), nil},
		{"a passkey that was bound after the signature", bad, func(k *making) {
			r := k.keyring()
			d := r.device(passkeytest.ES256)
			k.begin(1, []*signer{k.ada}, r.requiring(kind))
			k.sign(k.ada, manifest.Approve, r.asserted(kind, d))
			k.close(manifest.OutcomeApproved)
			r.bindPasskey(r.vouch(r.binding("sgn_ada", d), r.roots()...))
			k.m = k.manifest()
		}, nil},
		{"a passkey for which one vouches who was bound later", bad, bound(func(_ *making, r *keyring) *passkeytest.Authenticator {
			d, late := r.device(passkeytest.ES256), r.device(passkeytest.ES256)
			r.bindPasskey(r.vouch(r.binding("sgn_ada", d), voucher{"sgn_ada", late}))
			r.bindPasskey(r.vouch(r.binding("sgn_ada", late), r.roots()...))
			return d
		}), nil},
		{"a passkey for which a revoked one vouches", bad, bound(func(_ *making, r *keyring) *passkeytest.Authenticator {
			first, second := sound(r, passkeytest.ES256), r.device(passkeytest.ES256)
			r.revokePasskey("sgn_ada", first)
			r.bindPasskey(r.vouch(r.binding("sgn_ada", second), voucher{"sgn_ada", first}))
			return second
		}), nil},
		{"a passkey for which a revoked administrator vouches", bad, bound(func(_ *making, r *keyring) *passkeytest.Authenticator {
			r.support = append(r.support, r.append(chain.SignerRevoked, manifest.SignerRevoked{By: admin1, ID: admin2, Reason: "left"}))
			return sound(r, passkeytest.ES256)
		}), nil},
		{"a passkey that the ledger revokes", bad, bound(func(_ *making, r *keyring) *passkeytest.Authenticator {
			d := sound(r, passkeytest.ES256)
			r.revokePasskey("sgn_ada", d)
			return d
		}), nil},
		{"a passkey that was bound again after it was revoked", bad, bound(func(_ *making, r *keyring) *passkeytest.Authenticator {
			d := sound(r, passkeytest.ES256)
			r.revokePasskey("sgn_ada", d)
			r.bindPasskey(r.vouch(r.binding("sgn_ada", d), r.roots()...))
			return d
		}), nil},
		{"a passkey that the trust file revokes", bad, bound(func(_ *making, r *keyring) *passkeytest.Authenticator {
			d := sound(r, passkeytest.ES256)
			r.trust.Revoked = []manifest.Revoked{{From: manifest.NewTime(start.Add(time.Second)), KeyID: d.Key().ID()}}
			return d
		}), nil},
		{"a passkey for which one vouches that the trust file revokes", bad, bound(func(_ *making, r *keyring) *passkeytest.Authenticator {
			r.trust.Revoked = []manifest.Revoked{{From: manifest.NewTime(start), KeyID: r.root1.Key().ID()}}
			return sound(r, passkeytest.ES256)
		}), nil},
		{"a passkey whose administrators are not pinned", bad, bound(func(_ *making, r *keyring) *passkeytest.Authenticator {
			r.trust.Passkeys = nil
			return sound(r, passkeytest.ES256)
		}), nil},
		{"a passkey of which one administrator is not pinned", bad, bound(func(_ *making, r *keyring) *passkeytest.Authenticator {
			r.trust.Passkeys = r.trust.Passkeys[:1]
			return sound(r, passkeytest.ES256)
		}), nil},
		{"a binding that is entered for somebody else", bad, bound(func(_ *making, r *keyring) *passkeytest.Authenticator {
			d := r.device(passkeytest.ES256)
			b := r.vouch(r.binding("sgn_eve", d), r.roots()...)
			b.Signer = "sgn_ada"
			r.bindPasskey(b)
			return d
		}), nil},
		{"a binding that is no body", verify.Ledger, bound(func(_ *making, r *keyring) *passkeytest.Authenticator {
			d := sound(r, passkeytest.ES256)
			r.support = append(r.support, r.append(chain.PasskeyBound, map[string]string{"binding": "x"}))
			return d
		}), nil},
		{"one passkey of two people", bad, func(k *making) {
			r := k.keyring()
			d := sound(r, passkeytest.ES256)
			eve := k.enrol("sgn_eve", nameOf("sgn_eve"))
			r.bindPasskey(r.vouch(r.binding("sgn_eve", d), r.roots()...))
			k.begin(2, []*signer{k.ada, eve}, r.requiring(kind))
			k.sign(k.ada, manifest.Approve, r.asserted(kind, d))
			k.sign(eve, manifest.Approve, r.asserted(kind, d))
			k.close(manifest.OutcomeApproved)
			k.m = k.manifest()
		}, nil},

		// The policy.
		{"a password where a passkey is pinned", verify.Policy, func(k *making) {
			r := k.keyring()
			k.begin(1, []*signer{k.ada}, r.requiring(kind))
			k.sign(k.ada, manifest.Approve)
			k.close(manifest.OutcomeApproved)
			k.m = k.manifest()
		}, nil},
		{"a record that asks for less than is pinned", verify.Policy, func(k *making) {
			r := k.keyring()
			k.begin(1, []*signer{k.ada}, r.requiring(kind), func(r *manifest.Record) { r.Policy.Resolved.Requires = manifest.AuthorizationPassword })
			k.sign(k.ada, manifest.Approve)
			k.close(manifest.OutcomeApproved)
			k.m = k.manifest()
		}, nil},
		{"a passkey alone where a password is pinned too", verify.Policy, func(k *making) {
			r := k.keyring()
			d := sound(r, passkeytest.ES256)
			k.begin(1, []*signer{k.ada}, r.requiring(manifest.AuthorizationPasswordPasskey))
			k.sign(k.ada, manifest.Approve, r.asserted(kind, d))
			k.close(manifest.OutcomeApproved)
			k.m = k.manifest()
		}, nil},
		{"a passkey that is said, and not shown", verify.Malformed, func(k *making) {
			r := k.keyring()
			d := sound(r, passkeytest.ES256)
			approved(k, r, r.asserted(kind, d))
			a := k.m.Signatures[0].Authorization
			k.raw = []byte(strings.Replace(string(encode(k.tb, k.m)), `"kind": "passkey"`, `"kind": "password"`, 1))
			k.check(a.Validate())
		}, nil},
	}
}

// TestPasskeys judges each sample of the corpus about passkeys, as it is made.
func TestPasskeys(t *testing.T) {
	for _, row := range []string{"11.70", "11.200(a)(2)", "11.200(a)(3)"} {
		t.Attr("requirement", row)
	}
	for _, c := range passkeyCases() {
		t.Run(c.name, func(t *testing.T) {
			k := &making{world: newWorld(t)}
			k.ada = k.enrol("sgn_ada", "Ada Lovelace")
			c.make(k)
			if k.raw != nil {
				doc := k.doc
				r, err := verify.Verify(t.Context(), verify.Input{Manifest: k.raw, Trust: k.trustFile(), Bundle: &doc})
				k.check(err)
				want(t, r, c.code, "")
				return
			}
			r := k.verify(k.m)
			want(t, r, c.code, "")
			if c.code == verify.OK && (r.Signatures[0].Passkey == nil || !strings.Contains(r.Text(), "the signer's own device has signed this statement")) {
				t.Errorf("the report does not name the passkey\n%s", r.Text())
			}
		})
	}
}

// TestMissingLink reads in words which link of the chain is missing.
func TestMissingLink(t *testing.T) {
	says := map[string]string{
		"a passkey that nobody has bound":                             "no proved entry before the entry",
		"a passkey for which one administrator vouches":               "1 of 2 other people vouch for it",
		"a passkey for which a revoked one vouches":                   "because that of sgn_ada does not vouch for it: the passkey",
		"a passkey that the ledger revokes":                           "was revoked by the entry",
		"a passkey of which one administrator is not pinned":          "because that of sgn_root2 does not vouch for it: the trust file does not pin the passkey",
		"a passkey that was bound under another name":                 `under the name "Eve"`,
		"a passkey that was bound in another ledger":                  "in the ledger",
		"a passkey that was bound after the signature":                "no proved entry before the entry",
		"a passkey's assertion over another statement":                "answers another challenge",
		"a passkey's assertion of another page":                       "it was made at",
		"a passkey that has given itself the right to vouch":          "which the passkey that vouches for it may not",
		"a passkey for which a revoked administrator vouches":         "sgn_root2 was revoked by the entry",
		"a passkey that the trust file revokes":                       "the trust file says so",
		"one passkey of two people":                                   "one person would count twice",
		"a passkey for which one vouches that the trust file revokes": "because that of sgn_root1 does not vouch",
		"a passkey for which people without the right vouch":          "may not vouch for others",
		"a passkey's assertion by another device":                     "the signature is not of this key",
		"a passkey's assertion without verification of the user":      "has verified the user",
		"a passkey for which the server vouches in their names":       "the signature is not of this key",
		"a passkey for which one vouches who was bound later":         "because that of sgn_ada does not vouch for it",
		"a passkey that was bound again after it was revoked":         "was revoked by the entry",
		"a passkey whose binding is left out":                         "no proved entry before the entry",
		"a binding that was changed":                                  "answers another challenge",
	}
	cases := passkeyCases()
	for name, text := range says {
		i := slices.IndexFunc(cases, func(c kase) bool { return c.name == name })
		if i < 0 {
			t.Errorf("no case %q", name)
			continue
		}
		t.Run(name, func(t *testing.T) {
			k := &making{world: newWorld(t)}
			k.ada = k.enrol("sgn_ada", "Ada Lovelace")
			cases[i].make(k)
			want(t, k.verify(k.m), verify.Untrusted, text)
		})
	}
}

// TestNamesakes: a passkey is a person's, and not a name's. That of somebody else with the same printed name does not sign for her.
func TestNamesakes(t *testing.T) {
	for _, row := range []string{"11.70", "11.200(a)(2)"} {
		t.Attr("requirement", row)
	}
	const kind = manifest.AuthorizationPasskey
	for name, bind := range map[string]func(r *keyring, d *passkeytest.Authenticator){
		"bound": func(r *keyring, d *passkeytest.Authenticator) {
			r.bindPasskey(r.vouch(r.binding("sgn_eve", d, func(b *passkey.Binding) { b.Name = nameOf("sgn_ada") }), r.roots()...))
		},
		"pinned": func(r *keyring, d *passkeytest.Authenticator) {
			r.pin("sgn_eve", d)
			r.trust.Passkeys[len(r.trust.Passkeys)-1].Name = nameOf("sgn_ada")
		},
	} {
		t.Run(name, func(t *testing.T) {
			k := &making{world: newWorld(t)}
			k.ada = k.enrol("sgn_ada", nameOf("sgn_ada"))
			k.enrol("sgn_eve", nameOf("sgn_ada"))
			r := k.keyring()
			d := r.device(passkeytest.ES256)
			bind(r, d)
			k.begin(1, []*signer{k.ada}, r.requiring(kind))
			k.sign(k.ada, manifest.Approve, r.asserted(kind, d))
			k.close(manifest.OutcomeApproved)
			want(t, k.verify(k.manifest()), verify.Untrusted, "no proved entry before the entry")
		})
	}
}
