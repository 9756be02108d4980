package verify_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/verify"
)

// pinnedAs changes the text of the trust file.
func pinnedAs(change func(k *making, text string) string) func(*making) {
	return func(k *making) {
		k.approved()
		text := string(k.trustFile())
		if k.pinned = []byte(change(k, text)); string(k.pinned) == text {
			k.tb.Fatal("the trust file is as it was")
		}
	}
}

// twoLedgers makes the text of a trust file with the ledger twice.
func twoLedgers(text, from, to string) string {
	at := strings.Index(text, "    {\n      \"fromSize\"")
	end := strings.Index(text, "\n  ],")
	first := text[at:end]
	second := strings.Replace(strings.Replace(first, `"fromSize": "0"`, `"fromSize": "`+from+`"`, 1), `"toSize": ""`, `"toSize": "`+to+`"`, 1)
	return text[:end] + ",\n" + second + text[end:]
}

// policed pins a witness policy, and has two of its witnesses cosign.
func policed(change func(policy string) string) func(*making) {
	return func(k *making) {
		witnessed("G", 0, 1)(k)
		l := &k.trust.Ledgers[0]
		before := l.WitnessPolicy
		if l.WitnessPolicy = change(before); l.WitnessPolicy == before {
			k.tb.Fatal("the policy is as it was")
		}
	}
}

// noted changes the checkpoint of the first signature's proof.
func noted(change func(note string) string) func(*making) {
	return reproved(func(_ *making, p string) string {
		head, note, _ := strings.Cut(p, "\n\n")
		return head + "\n\n" + change(note)
	})
}

// strictCases are about the one form of everything.
func strictCases() []kase {
	const form, ledger = verify.Malformed, verify.Ledger
	return []kase{
		{"a trust file with a root that is no CA", form, pinnedAs(func(k *making, s string) string {
			return strings.ReplaceAll(s, base64.StdEncoding.EncodeToString(k.ca.cert.Raw), base64.StdEncoding.EncodeToString(k.ada.certs[0]))
		}), nil},
		{"a trust file with a key of another ledger", form, pinnedAs(func(_ *making, s string) string {
			return strings.Replace(s, `"origin": "signet.example/ledger"`, `"origin": "other.example/ledger"`, 1)
		}), nil},
		{"a trust file with two keys for the same sizes", form, pinnedAs(func(_ *making, s string) string { return twoLedgers(s, "5", "") }), nil},
		{"a trust file with a key for no size", form, pinnedAs(func(_ *making, s string) string {
			return strings.Replace(strings.Replace(s, `"fromSize": "0"`, `"fromSize": "5"`, 1), `"toSize": ""`, `"toSize": "5"`, 1)
		}), nil},
		{"a trust file with a root that ends before it begins", form, pinnedAs(func(_ *making, s string) string {
			return strings.Replace(s, `"to": ""`, `"to": "2020-01-01T00:00:00.000Z"`, 1)
		}), nil},
		{"a trust file with an issuer that is no https URL", form, pinnedAs(func(_ *making, s string) string { return strings.Replace(s, "https://", "http://", 1) }), nil},

		{"a witness policy with a group of strangers", ledger, policed(func(p string) string { return strings.Replace(p, "2 X Y Z", "2 X Y Z W", 1) }), nil},
		{"a witness policy with a group of too few", ledger, policed(func(p string) string { return strings.Replace(p, "2 X Y Z", "4 X Y Z", 1) }), nil},
		{"a witness policy with no quorum", ledger, policed(func(p string) string { return strings.Replace(p, "quorum G\n", "", 1) }), nil},
		{"a witness policy with an unknown word", ledger, policed(func(p string) string { return p + "witnesses all\n" }), nil},
		{"a witness policy with one key under two names", ledger, policed(func(p string) string {
			x := p[strings.Index(p, "witness X"):]
			x = x[:strings.Index(x, "\n")+1]
			return strings.Replace(p, x, x+strings.Replace(x, " X ", " V ", 1), 1)
		}), nil},

		{"a checkpoint with a signature line that is none", ledger, noted(func(n string) string { return n + "— witness.example/x\n" }), nil},
		{"a checkpoint with its signature twice", ledger, noted(func(n string) string { _, line, _ := strings.Cut(n, "\n\n"); return n + line }), nil},
		{"a checkpoint without its last line feed", ledger, noted(func(n string) string { return n[:len(n)-1] }), nil},
		{"a checkpoint with a size that begins with zero", ledger, noted(func(n string) string { return strings.Replace(n, "\n", "\n0", 1) }), nil},
		{"a proof of another entry", ledger, reproved(func(k *making, _ string) string { return k.proof(1, uint64(len(k.entries))) }), nil},
		{"a consistency proof with a hash too many", ledger, edited(func(_ *making, m *manifest.Manifest) {
			l := &m.Signatures[0].Ledger
			l.Consistency = append(slices.Clone(l.Consistency), make([]byte, 32))
		}), nil},
		{"a head that is larger than its ledger", ledger, signedWith(forge{predicate: func(p *manifest.Predicate) { p.Ledger.Size = 1000 }}), nil},

		{"a path with a step back", form, edit(`"path": "bin/signet"`, `"path": "bin/../signet"`), nil},
		{"a path with an empty step", form, edit(`"path": "bin/signet"`, `"path": "bin//signet"`), nil},
		{"a path with a backslash", form, edit(`"path": "bin/signet"`, `"path": "bin\\signet"`), nil},
		{"a path with a control character", form, edit(`"path": "bin/signet"`, `"path": "bin/\u0001signet"`), nil},
		{"a path that turns the direction of text", form, edit(`"path": "bin/signet"`, "\"path\": \"bin/\u202esignet\""), nil},
		{"a path that is not normalised", form, edit(`"path": "bin/signet"`, "\"path\": \"bin/signe\u0301t\""), nil},
		{"an exclusion that leads out", form, edit(`"signatures/"`, `"../signatures/"`), nil},
		{"a size below zero", form, edit(`"size": 10`, `"size": -10`), nil},
		{"a preparation that ends before it begins", form, edit(`"expires": "2026-11-21T09:35`, `"expires": "2026-11-21T09:25`), nil},
		{"a time that is none", form, edit(`"preparedAt": "2026-11-21`, `"preparedAt": "2026-13-21`), nil},
		{"a zone that is none", form, edit(`"offset": "+01:00"`, `"offset": "+1:00"`), nil},
		{"an id in capital letters", form, edit(`"id": "sgn_ada"`, `"id": "sgn_Ada"`), nil},
		{"a control character in the reason", form, edit(`All gates green`, `All gates\u0007 green`), nil},
		{"an authorization with an assertion that it does not have", form, edit(`"kind": "password"`, "\"credentialId\": \"AAAA\",\n        \"kind\": \"password\""), nil},
		{"a person who seals", form, edit(`"decision": "approve"`, `"decision": "seal"`), nil},
		{"an attempt of no activity", form, edit(`"attempt": "0"`, `"attempt": "1"`), nil},
	}
}

// subtleCases break one rule alone.
func subtleCases() []kase {
	const ledger, identity = verify.Ledger, verify.Untrusted
	return []kase{
		{"an entry older than its signature", ledger, signedWith(forge{entry: func(e *chain.Entry) { e.Time = e.Time.Add(-500 * time.Millisecond) }}), nil},
		{"an entry of a type that is not known", ledger, edited(func(_ *making, m *manifest.Manifest) {
			l := &m.Signatures[0].Ledger
			l.Entry = bytes.Replace(l.Entry, []byte("signature.created"), []byte("signature.creates"), 1)
		}), nil},
		{"two entries of one index, proved by checkpoints of two sizes", ledger, func(k *making) {
			k.approved()
			fork := *k.world
			fork.entries, fork.leaves, fork.stored, fork.edge = slices.Clone(k.entries), slices.Clone(k.leaves), slices.Clone(k.stored), *k.edge.Clone()
			index := k.append(chain.SignerRevoked, manifest.SignerRevoked{By: "sgn_admin", ID: "sgn_eve", Reason: "lost"})
			fork.append(chain.SignerRevoked, manifest.SignerRevoked{By: "sgn_admin", ID: "sgn_mallory", Reason: "lost"})
			fork.append(chain.SessionOpened, map[string]string{})
			k.m.Support = append(k.m.Support, manifest.Support{Entry: k.entries[index], Proof: k.proof(index, index+1)},
				manifest.Support{Entry: fork.entries[index], Proof: fork.proof(index, index+2)})
		}, nil},
		{"a later entry of an earlier time", ledger, func(k *making) {
			k.approved()
			k.now = start.Add(time.Second)
			k.enrol("sgn_grace", "Grace Hopper")
			k.m = k.manifest()
		}, nil},
		{"a revocation that misses something", ledger, func(k *making) {
			k.support = append(k.support, k.append(chain.SignerRevoked, map[string]string{"id": "sgn_eve"}))
			k.approved()
		}, nil},
		{"a proof with a control character", ledger, reproved(func(_ *making, p string) string { return strings.Replace(p, "\n\n", "\n\f", 1) }), nil},
		{"a time-stamp with another signature algorithm", verify.TimeNotProven, edited(func(k *making, m *manifest.Manifest) {
			token := bytes.Clone(m.Signatures[0].Timestamps[0])
			at := bytes.LastIndex(token, []byte{0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2}) // ecdsa-with-SHA256
			if at < 0 {
				k.tb.Fatal("no signature algorithm")
			}
			token[at+7] = 3
			m.Signatures[0].Timestamps = [][]byte{token}
		}), nil},
		{"a certificate with a key of an unknown kind", verify.Signature, edited(func(k *making, m *manifest.Manifest) {
			c := bytes.Clone(m.Signatures[0].Certificates[0])
			at := bytes.Index(c, []byte{0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1}) // id-ecPublicKey
			if at < 0 {
				k.tb.Fatal("no kind of key")
			}
			c[at+6] = 9
			m.Signatures[0].Certificates = [][]byte{c, m.Signatures[0].Certificates[1]}
		}), nil},
		{"a passkey", identity, signedWith(forge{
			predicate: func(p *manifest.Predicate) { p.Requires = manifest.AuthorizationPasskey },
			authorization: manifest.Authorization{
				Kind: manifest.AuthorizationPasskey, AuthenticatorData: []byte("a"), ClientDataJSON: []byte("{}"), CredentialID: []byte("c"), Signature: []byte("s"),
			},
		}), nil},
		{"another certificate for the same key", identity, func(k *making) {
			k.ada.certs = [][]byte{k.issue(k.ca, signerTemplate("signers", "sgn_ada", "Ada Lovelace", "Example Medical"), k.ada.key.Public()), k.ca.cert.Raw}
			k.approved()
		}, nil},
		{"a certificate that cannot be read", identity, edited(func(_ *making, m *manifest.Manifest) {
			m.Signatures[0].Certificates = [][]byte{[]byte("x"), m.Signatures[0].Certificates[1]}
		}), nil},
	}
}

// subtleExports break one rule alone.
func subtleExports() []kase {
	const code = verify.Ledger
	last := func(change func(*chain.Entry)) func(*making) []byte {
		return changed(func(w *world) { w.rewrite(len(w.entries)-1, change) })
	}
	return []kase{
		{"export whose last entry says another index", code, nil, last(func(e *chain.Entry) { e.Index++ })},
		{"export whose last entry names another one before it", code, nil, last(func(e *chain.Entry) { e.Prev = chain.Hash{1} })},
		{"export whose last entry is older than the one before it", code, nil, last(func(e *chain.Entry) { e.Time = chain.NewTime(start) })},
		{"export of the first entry of another ledger", code, nil, func(k *making) []byte {
			k.world.entries = k.world.entries[:1]
			k.world.rewrite(0, func(e *chain.Entry) { e.Body = []byte(`{"format":"signet-entry/v1","origin":"other.example/ledger"}`) })
			return k.world.export(0, 0, 0)
		}},
		{"export of a first entry that creates nothing", code, nil, func(k *making) []byte {
			k.world.entries = k.world.entries[:1]
			k.world.rewrite(0, func(e *chain.Entry) { e.Type = chain.SessionOpened })
			return k.world.export(0, 0, 0)
		}},
		{"export with the time-stamp of another checkpoint than its entry names", code, nil, changed(func(w *world) {
			w.bracket(func(b *manifest.CheckpointTimestamped, _ *time.Time) {
				note := w.note(b.Size - 1)
				b.Checkpoint = sha256.Sum256(note)
				w.blobs = append(w.blobs, note)
			})
		})},
		{"export with a member after its sums", verify.Malformed, nil, func(k *making) []byte {
			return append(unpack(k.tb, k.world.export(0, 0, 0)), member{"README", []byte("read me")}).pack(k.tb)
		}},
	}
}

// strictExports are about the one form of entries.
func strictExports() []kase {
	entry := func(old, by string) func(*making) []byte {
		return changed(func(w *world) {
			i := len(w.entries) - 1
			if !bytes.Contains(w.entries[i], []byte(old)) {
				w.tb.Fatalf("%q is not in the entry", old)
			}
			w.entries[i] = bytes.Replace(w.entries[i], []byte(old), []byte(by), 1)
			w.replant()
		})
	}
	const code = verify.Ledger
	return []kase{
		{"export with an entry of another version", code, nil, entry(`"v":1`, `"v":2`)},
		{"export with an entry of an unknown kind of actor", code, nil, entry(`"kind":"system"`, `"kind":"daemon"`)},
		{"export with an entry of nobody", code, nil, entry(`"id":"system"`, `"id":""`)},
		{"export with an entry without a body", code, nil, entry(`{"id":"sgn_ada"}`, `[]`)},
		{"export with an entry that says more", code, nil, entry(`,"v":1`, `,"v":1,"w":1`)},
		{"export with a member twice in an entry", code, nil, entry(`{"id":"sgn_ada"}`, `{"id":"sgn_ada","id":"sgn_eve"}`)},
		{"export with a fraction in an entry", code, nil, entry(`{"id":"sgn_ada"}`, `{"id":1.5}`)},
		{"export with an escape in an entry", code, nil, entry(`{"id":"sgn_ada"}`, `{"id":"sgn_\u0061da"}`)},
		{"export with a time in seconds in an entry", code, nil, entry(`.`, ``)},
		{"export with something before its first entry", code, nil, changed(func(w *world) {
			w.entries[0] = bytes.Replace(w.entries[0], []byte(chain.Hash{}.String()), []byte(hexSum(nil)), 1)
			w.replant()
		})},
		{"export with an entry that is too large", code, nil, changed(func(w *world) {
			i := len(w.entries) - 1
			w.entries[i] = bytes.Replace(w.entries[i], []byte(`sgn_ada`), bytes.Repeat([]byte("a"), 65536), 1)
			w.replant()
		})},
	}
}
