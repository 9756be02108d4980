package verify_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/export"
	"github.com/signetd/signet/api/index"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/rfc3161"
	"github.com/signetd/signet/api/verify"
)

func edKey(key crypto.Signer) ed25519.PrivateKey { return key.(ed25519.PrivateKey) }

// exported is a world with one of everything in its ledger.
func exported(tb testing.TB) *world {
	tb.Helper()
	w := newWorld(tb)
	k := &making{world: w, ada: w.enrol("sgn_ada", "Ada Lovelace")}
	k.approved()
	w.commitIndex(nil)
	w.bracket(nil)
	w.append(chain.SessionOpened, map[string]string{"id": "sgn_ada"})
	w.commitIndex(nil)
	w.append(chain.SessionClosed, map[string]string{"id": "sgn_ada"})
	return w
}

// source is a world that an export is written from. Attached to an entry is everything known that its body names.
type source struct {
	*world
	blobs map[string][]byte
	gone  string // the digest of what is not there
}

func (w *world) source() *source {
	s := &source{world: w, blobs: map[string][]byte{}}
	add := func(blobs ...[]byte) {
		for _, b := range blobs {
			s.blobs[hexSum(b)] = b
		}
	}
	for _, x := range w.sigs {
		statement, err := x.Statement.Canonical()
		w.check(err)
		authorization, err := x.Authorization.Canonical()
		w.check(err)
		add(statement, authorization, x.Signature.Value, x.Certificates[0])
		add(x.Timestamps...)
	}
	add(w.closer.certs[0])
	record, err := w.record.Canonical()
	w.check(err)
	add(record)
	add(w.blobs...)
	return s
}

func (s *source) Entries(_ context.Context, from, to uint64, fn func(uint64, []byte) error) error {
	for i := from; i < to; i++ {
		if err := fn(i, s.entries[i]); err != nil {
			return err
		}
	}
	return nil
}

func (s *source) Attachments(i uint64) (out [][]byte, err error) {
	for _, text := range strings.Split(string(s.entries[i]), `"`) {
		if b := s.blobs[text]; b != nil && text != s.gone {
			out = append(out, b)
		}
	}
	return out, nil
}

func (s *source) Nodes(level int, from uint64, n int) (out []chain.Hash, err error) {
	for i := range n {
		out = append(out, chain.Hash(s.stored[tlog.StoredHashIndex(level, int64(from)+int64(i))]))
	}
	return out, nil
}

// export writes an export of the entries [start, end) under the checkpoint of a size; 0 means all there are.
func (w *world) export(start, end, size int, change ...func(*source)) []byte {
	w.tb.Helper()
	if size == 0 {
		size = len(w.entries)
	}
	s := w.source()
	for _, f := range change {
		f(s)
	}
	var b bytes.Buffer
	w.check(export.Write(w.tb.Context(), &b, s, export.Range{Start: uint64(start), End: uint64(end), Checkpoint: w.note(uint64(size))}))
	return b.Bytes()
}

// bracket time-stamps the ledger as it is, and enters that.
func (w *world) bracket(change func(*manifest.CheckpointTimestamped, *time.Time)) {
	w.tb.Helper()
	size := uint64(len(w.entries))
	note := w.note(size)
	at, body := w.now, manifest.CheckpointTimestamped{Checkpoint: sha256.Sum256(note), Root: w.head(size).Root, Size: size}
	if change != nil {
		change(&body, &at)
	}
	der, err := w.stamp.Issue(w.tb.Context(), rfc3161.Request{Hash: crypto.SHA256, Imprint: body.Checkpoint[:], CertReq: true}, at)
	w.check(err)
	body.Timestamps = []manifest.Digest{sha256.Sum256(der)}
	w.blobs = append(w.blobs, note, der)
	w.append(chain.CheckpointTimestamped, body)
}

// commitIndex commits the index, computed anew from its definition.
func (w *world) commitIndex(change func(*index.Commitment)) {
	w.tb.Helper()
	lists := map[chain.Hash]index.Leaf{}
	for i, raw := range w.entries {
		e, err := chain.ParseEntry(raw)
		w.check(err)
		for _, k := range index.Keys(e) {
			l := lists[k.Hash()]
			m := binary.BigEndian.AppendUint64(append([]byte{2}, l.List.Hash[:]...), uint64(i))
			lists[k.Hash()] = index.Leaf{Key: k.Hash(), List: index.List{Count: l.Count + 1, Hash: sha256.Sum256(append(m, w.leaves[i][:]...))}}
		}
	}
	sorted := slices.SortedFunc(maps.Values(lists), func(a, b index.Leaf) int { return bytes.Compare(a.Key[:], b.Key[:]) })
	c := index.Commitment{Entries: uint64(len(w.entries)), Format: index.Format, Keys: uint64(len(lists)), Root: indexRoot(sorted, 0)}
	if change != nil {
		change(&c)
	}
	w.append(chain.IndexCommitted, c)
}

func indexRoot(leaves []index.Leaf, depth int) chain.Hash {
	switch len(leaves) {
	case 0:
		return chain.Hash{}
	case 1:
		b := binary.BigEndian.AppendUint64(append([]byte{0}, leaves[0].Key[:]...), leaves[0].Count)
		return sha256.Sum256(append(b, leaves[0].List.Hash[:]...))
	}
	split := slices.IndexFunc(leaves, func(l index.Leaf) bool { return l.Key[depth/8]>>(7-depth%8)&1 == 1 })
	if split < 0 {
		split = len(leaves)
	}
	left, right := indexRoot(leaves[:split], depth+1), indexRoot(leaves[split:], depth+1)
	return sha256.Sum256(slices.Concat([]byte{1}, left[:], right[:]))
}

// rewrite changes an entry where it stands; those after it stay as they were.
func (w *world) rewrite(i int, change func(*chain.Entry)) {
	w.tb.Helper()
	e, err := chain.ParseEntry(w.entries[i])
	w.check(err)
	change(&e)
	w.entries[i], err = e.Encode()
	w.check(err)
	w.replant()
}

// replant makes the tree anew.
func (w *world) replant() {
	entries := w.entries
	w.entries, w.leaves, w.stored, w.edge = nil, nil, nil, chain.Frontier{}
	for _, raw := range entries {
		w.appendRaw(raw)
	}
}

// member is one of an archive.
type member struct {
	name    string
	content []byte
}

type members []member

func unpack(tb testing.TB, archive []byte) (out members) {
	tb.Helper()
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			tb.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, member{h.Name, content})
	}
}

func (m members) pack(tb testing.TB) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, x := range m {
		h := &tar.Header{Name: x.name, Size: int64(len(x.content)), Mode: 0o644, ModTime: time.Unix(1767225600, 0), Format: tar.FormatUSTAR, Typeflag: tar.TypeReg}
		if err := w.WriteHeader(h); err != nil {
			tb.Fatal(err)
		}
		if _, err := w.Write(x.content); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// at returns the first member whose name begins so.
func (m members) at(tb testing.TB, prefix string) int {
	tb.Helper()
	i := slices.IndexFunc(m, func(x member) bool { return strings.HasPrefix(x.name, prefix) })
	if i < 0 {
		tb.Fatalf("no member %s", prefix)
	}
	return i
}

// sums makes SHA256SUMS anew.
func (m members) sums() members {
	var b bytes.Buffer
	for _, x := range m[:len(m)-1] {
		if !strings.HasPrefix(x.name, "attachments/") {
			fmt.Fprintf(&b, "%x  %s\n", sha256.Sum256(x.content), x.name)
		}
	}
	m[len(m)-1].content = b.Bytes()
	return m
}

// tamper changes the members of a sound export, and makes SHA256SUMS anew.
func tamper(change func(k *making, m members) members) func(*making) []byte {
	return func(k *making) []byte { return change(k, unpack(k.tb, k.world.export(0, 0, 0))).sums().pack(k.tb) }
}

// substitute changes the text of one member.
func substitute(prefix, old, by string) func(*making) []byte {
	return tamper(func(k *making, m members) members {
		i := m.at(k.tb, prefix)
		if !bytes.Contains(m[i].content, []byte(old)) {
			k.tb.Fatalf("%q is not in %s", old, m[i].name)
		}
		m[i].content = bytes.Replace(m[i].content, []byte(old), []byte(by), 1)
		return m
	})
}

// changed exports a ledger that was changed before.
func changed(change func(w *world)) func(*making) []byte {
	return func(k *making) []byte { change(k.world); return k.world.export(0, 0, 0) }
}

// pinned changes what is trusted.
func pinned(change func(t *manifest.Trust)) func(*making) []byte {
	return func(k *making) []byte { change(&k.trust); return k.world.export(0, 0, 0) }
}

// raw changes the bytes of a sound export.
func raw(change func(b []byte) []byte) func(*making) []byte {
	return func(k *making) []byte { return change(k.world.export(0, 0, 0)) }
}

// line changes the lines of the entries.
func line(change func(lines []string) []string) func(*making) []byte {
	return tamper(func(k *making, m members) members {
		i := m.at(k.tb, "entries/")
		m[i].content = []byte(strings.Join(change(strings.SplitAfter(string(m[i].content), "\n")), ""))
		return m
	})
}

func (m members) cosigned(w *world, quorum string, by ...cosigner) members {
	vkeys := ""
	for i, c := range by {
		vkeys += fmt.Sprintf("witness W%d %s\n", i, c.vkey())
	}
	w.trust.Ledgers[0].WitnessPolicy = vkeys + "quorum " + quorum + "\n"
	return m
}

func exportCases() []kase {
	return slices.Concat(soundExports(), changedLedgers(), changedArchives(), strictExports(), subtleExports())
}

func soundExports() []kase {
	const code = verify.OK
	return []kase{
		{"export of a whole ledger", code, nil, func(k *making) []byte { return k.world.export(0, 0, 0) }},
		{"export of its beginning", code, nil, func(k *making) []byte { return k.world.export(0, 5, 0) }},
		{"export of its middle", code, nil, func(k *making) []byte { return k.world.export(3, 7, 11) }},
		{"export of its end", code, nil, func(k *making) []byte { return k.world.export(5, 0, 0) }},
		{"export of one entry", code, nil, func(k *making) []byte { return k.world.export(4, 5, 0) }},
		{"export of two chunks", code, nil, func(k *making) []byte {
			for i := range 262 {
				k.append(chain.SessionOpened, map[string]string{"id": fmt.Sprint(i)})
			}
			k.commitIndex(nil)
			k.bracket(nil)
			return k.world.export(0, 0, 0)
		}},
		{"export with a witness", code, nil, tamper(func(k *making, m members) members {
			x := newCosigner("witness.example/x")
			m[1].content = append(m[1].content, x.line(string(m[1].content))...)
			return m.cosigned(k.world, "W0", x)
		})},
	}
}

func changedLedgers() []kase {
	const code = verify.Ledger
	other := func(e *chain.Entry) { e.Actor.ID = "sgn_eve" }
	return []kase{
		{"export with an entry rewritten before its checkpoint was signed", code, nil, changed(func(w *world) { w.rewrite(3, other) })},
		{"export with entries swapped before its checkpoint was signed", code, nil, changed(func(w *world) {
			w.entries[2], w.entries[3] = w.entries[3], w.entries[2]
			w.replant()
		})},
		{"export with an entry removed before its checkpoint was signed", code, nil, changed(func(w *world) {
			w.entries = slices.Delete(w.entries, 3, 4)
			w.replant()
		})},
		{"export with time that went back", code, nil, changed(func(w *world) {
			w.now = start.Add(-time.Hour)
			w.append(chain.SessionOpened, map[string]string{"id": "sgn_ada"})
		})},
		{"export with an entry of an unknown type", code, nil, changed(func(w *world) {
			w.entries[len(w.entries)-1] = bytes.Replace(w.entries[len(w.entries)-1], []byte("session.closed"), []byte("session.cloned"), 1)
			w.replant()
		})},
		{"export of a ledger that was created as another", code, nil, changed(func(w *world) {
			w.rewrite(0, func(e *chain.Entry) { e.Body = []byte(`{"format":"signet-entry/v1","origin":"other.example/ledger"}`) })
		})},
		{"export with a ledger created twice", code, nil, changed(func(w *world) { w.append(chain.LedgerCreated, map[string]string{"origin": origin}) })},
		{"export with a wrong root of the index", code, nil, changed(func(w *world) { w.commitIndex(func(c *index.Commitment) { c.Root[0] ^= 1 }) })},
		{"export with a wrong number of keys in the index", code, nil, changed(func(w *world) { w.commitIndex(func(c *index.Commitment) { c.Keys++ }) })},
		{"export with an index of fewer entries than before", code, nil, changed(func(w *world) { w.commitIndex(func(c *index.Commitment) { c.Entries = 3 }) })},
		{"export with an index of entries to come", code, nil, changed(func(w *world) { w.commitIndex(func(c *index.Commitment) { c.Entries++ }) })},
		{"export with a time-stamped checkpoint of a fork", code, nil, changed(func(w *world) {
			w.bracket(func(b *manifest.CheckpointTimestamped, _ *time.Time) {
				b.Root[0] ^= 1
				note := signNote(w.tb, w.ledger, chain.Checkpoint{Origin: origin, Size: b.Size, Root: b.Root})
				b.Checkpoint = sha256.Sum256(note)
				w.blobs = append(w.blobs, note)
			})
		})},
		{"export with a time-stamped checkpoint of another size", code, nil, changed(func(w *world) {
			w.bracket(func(b *manifest.CheckpointTimestamped, _ *time.Time) { b.Size-- })
		})},
		{"export with a time-stamped checkpoint of entries to come", code, nil, changed(func(w *world) {
			w.bracket(func(b *manifest.CheckpointTimestamped, _ *time.Time) { b.Size++ })
		})},
		{"export with a time-stamped checkpoint that goes back", code, nil, changed(func(w *world) {
			w.bracket(func(b *manifest.CheckpointTimestamped, _ *time.Time) {
				note := w.note(3)
				b.Size, b.Root, b.Checkpoint = 3, w.head(3).Root, sha256.Sum256(note)
				w.blobs = append(w.blobs, note)
			})
		})},
		{"export with a time-stamp of another hour", verify.TimeNotProven, nil, changed(func(w *world) {
			w.bracket(func(_ *manifest.CheckpointTimestamped, at *time.Time) { *at = at.Add(time.Hour) })
		})},
		{"export with entries younger than their time-stamp", verify.TimeNotProven, nil, changed(func(w *world) {
			w.bracket(func(_ *manifest.CheckpointTimestamped, at *time.Time) { *at = at.Add(-time.Hour) })
		})},
		{"export with a time-stamp of an authority that is not pinned", verify.TimeNotProven, nil, changed(func(w *world) {
			w.stamp = w.newStamp(w.newAuthority("Example Time CA", elliptic.P256()))
			w.bracket(nil)
		})},
		{"export with a time-stamp of something else", verify.TimeNotProven, nil, changed(func(w *world) {
			note := w.note(uint64(len(w.entries)))
			w.blobs = append(w.blobs, note)
			w.append(chain.CheckpointTimestamped, manifest.CheckpointTimestamped{
				Checkpoint: sha256.Sum256(note), Root: w.head(uint64(len(w.entries))).Root, Size: uint64(len(w.entries)),
				Timestamps: []manifest.Digest{sha256.Sum256(w.sigs[0].Timestamps[0])},
			})
		})},
		{"export with a record that is gone", verify.Content, nil, func(k *making) []byte {
			return k.world.export(0, 0, 0, func(s *source) { b, _ := k.record.Canonical(); s.gone = hexSum(b) })
		}},
		{"export with a statement that is gone", verify.Content, nil, func(k *making) []byte {
			return k.world.export(0, 0, 0, func(s *source) { b, _ := k.sigs[0].Statement.Canonical(); s.gone = hexSum(b) })
		}},
		{"export with a time-stamp that is gone", verify.Content, nil, func(k *making) []byte {
			return k.world.export(0, 0, 0, func(s *source) { s.gone = hexSum(k.sigs[0].Timestamps[0]) })
		}},
	}
}

func changedArchives() []kase {
	const form = verify.Malformed
	note := func(change func(k *making, c chain.Checkpoint, key ed25519.PrivateKey) (chain.Checkpoint, ed25519.PrivateKey)) func(*making) []byte {
		return tamper(func(k *making, m members) members {
			h := k.head(uint64(len(k.entries)))
			c, key := change(k, chain.Checkpoint{Origin: h.Origin, Size: h.Size, Root: h.Root}, k.world.ledger)
			m[1].content = signNote(k.tb, key, c)
			return m
		})
	}
	return []kase{
		{"export with an entry rewritten", verify.Ledger, nil, line(func(l []string) []string { l[4] = strings.Replace(l[4], "2026", "2025", 1); return l })},
		{"export with the last entry rewritten", verify.Ledger, nil, line(func(l []string) []string {
			l[len(l)-2] = strings.Replace(l[len(l)-2], "sgn_ada", "sgn_eve", 1)
			return l
		})},
		{"export with entries swapped", verify.Ledger, nil, line(func(l []string) []string { l[2], l[3] = l[3], l[2]; return l })},
		{"export with an entry left out", verify.Ledger, nil, line(func(l []string) []string { return slices.Delete(l, 3, 4) })},
		{"export with an entry twice", verify.Ledger, nil, line(func(l []string) []string { return slices.Insert(l, 3, l[3]) })},
		{"export with an entry that is none", verify.Ledger, nil, line(func(l []string) []string { l[3] = "{}\n"; return l })},
		{"export with a space in an entry", verify.Ledger, nil, line(func(l []string) []string { l[3] = strings.Replace(l[3], ":", ": ", 1); return l })},
		{"export without the last line feed", form, nil, line(func(l []string) []string {
			l[len(l)-2] = strings.TrimSuffix(l[len(l)-2], "\n")
			return l
		})},
		{"export with a checkpoint of another key", verify.Ledger, nil, note(func(k *making, c chain.Checkpoint, _ ed25519.PrivateKey) (chain.Checkpoint, ed25519.PrivateKey) {
			return c, edKey(k.key(manifest.Ed25519))
		})},
		{"export with a checkpoint of another root", verify.Ledger, nil, note(func(_ *making, c chain.Checkpoint, key ed25519.PrivateKey) (chain.Checkpoint, ed25519.PrivateKey) {
			c.Root[0] ^= 1
			return c, key
		})},
		{"export with a checkpoint of another size", verify.Ledger, nil, note(func(_ *making, c chain.Checkpoint, key ed25519.PrivateKey) (chain.Checkpoint, ed25519.PrivateKey) {
			c.Size++
			return c, key
		})},
		{"export with a checkpoint of another ledger", verify.Ledger, nil, note(func(_ *making, c chain.Checkpoint, key ed25519.PrivateKey) (chain.Checkpoint, ed25519.PrivateKey) {
			c.Origin = "other.example/ledger"
			return c, key
		})},
		{"export with a checkpoint that nobody signed", verify.Ledger, nil, tamper(func(_ *making, m members) members {
			m[1].content = m[1].content[:bytes.Index(m[1].content, []byte("\n\n"))+2]
			return m
		})},
		{"export with another header", form, nil, substitute("export.json", `"start":"0"`, `"start":"1"`)},
		{"export with a header of another version", form, nil, substitute("export.json", "signet-export/v1", "signet-export/v2")},
		{"export with a header of another origin", verify.Ledger, nil, substitute("export.json", "signet.example", "other.example")},
		{"export with a header that is not canonical", form, nil, substitute("export.json", `{`, `{ `)},
		{"export with a header that says more", form, nil, substitute("export.json", `{`, `{"a":"",`)},
		{"export with a number that begins with zero", form, nil, substitute("export.json", `"start":"0"`, `"start":"00"`)},
		{"export with hashes that do not belong there", form, nil, substitute("proof.json", `"left":[]`, `"left":["`+strings.Repeat("0", 64)+`"]`)},
		{"export of the middle with another hash beside it", verify.Ledger, nil, func(k *making) []byte {
			m := unpack(k.tb, k.world.export(3, 7, 11))
			i := bytes.Index(m[2].content, []byte(`["`)) + 2
			m[2].content = []byte(string(m[2].content[:i]) + hex.EncodeToString(make([]byte, 32)) + string(m[2].content[i+64:]))
			return m.sums().pack(k.tb)
		}},
		{"export with an attachment changed", verify.Content, nil, tamper(func(k *making, m members) members {
			i := m.at(k.tb, "attachments/")
			m[i].content = flip(m[i].content, -1)
			return m
		})},
		{"export with an attachment that nobody names", verify.Content, nil, tamper(func(k *making, m members) members {
			i := m.at(k.tb, "attachments/")
			extra := member{m[i].name[:len(m[i].name)-64] + hexSum(nil), nil}
			for m[i].name < extra.name && strings.HasPrefix(m[i].name, "attachments/") {
				i++
			}
			return slices.Insert(m, i, extra)
		})},
		{"export with attachments out of order", form, nil, tamper(func(k *making, m members) members {
			i := m.at(k.tb, "attachments/")
			m[i], m[i+1] = m[i+1], m[i]
			return m
		})},
		{"export with a member that does not belong there", form, nil, tamper(func(_ *making, m members) members {
			return slices.Insert(m, 3, member{"README", []byte("read me")})
		})},
		{"export without a checkpoint", form, nil, tamper(func(_ *making, m members) members { return slices.Delete(m, 1, 2) })},
		{"export with other sums", verify.Content, nil, func(k *making) []byte {
			m := unpack(k.tb, k.world.export(0, 0, 0))
			m[len(m)-1].content = flip(m[len(m)-1].content, 0)
			return m.pack(k.tb)
		}},
		{"export without sums", form, nil, func(k *making) []byte {
			m := unpack(k.tb, k.world.export(0, 0, 0))
			return m[:len(m)-1].pack(k.tb)
		}},
		{"export truncated", form, nil, raw(func(b []byte) []byte { return b[:len(b)-700] })},
		{"export with something after its end", form, nil, raw(func(b []byte) []byte { return append(b, make([]byte, 512)...) })},
		{"export with another owner in its archive", form, nil, raw(func(b []byte) []byte {
			b[108+6] = '1'
			sum := 0
			copy(b[148:156], "        ")
			for _, c := range b[:512] {
				sum += int(c)
			}
			copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
			return b
		})},
		{"export with another filling in its archive", form, nil, raw(func(b []byte) []byte { b[1023] = 1; return b })},
		{"export with a ledger that is not pinned", verify.Ledger, nil, pinned(func(t *manifest.Trust) { t.Ledgers = nil })},
		{"export with a key for other sizes", verify.Ledger, nil, pinned(func(t *manifest.Trust) { t.Ledgers[0].ToSize = "3" })},
		{"export with a time-stamp root that is not pinned", verify.TimeNotProven, nil, pinned(func(t *manifest.Trust) { t.TimestampRoots = nil })},
		{"export with a witness missing", verify.Ledger, nil, tamper(func(k *making, m members) members {
			return m.cosigned(k.world, "W0", newCosigner("witness.example/x"))
		})},
		{"export with an impostor of a witness", verify.Ledger, nil, tamper(func(k *making, m members) members {
			x, y := newCosigner("witness.example/x"), newCosigner("witness.example/x")
			y.as = x.hash()
			m[1].content = append(m[1].content, y.line(string(m[1].content))...)
			return m.cosigned(k.world, "W0", x)
		})},
		{"export with a trust file that is none", form, nil, func(k *making) []byte { k.pinned = []byte("[]\n"); return k.world.export(0, 0, 0) }},
		{"export with no trust file", verify.Untrusted, nil, func(k *making) []byte { k.pinned = []byte{}; return k.world.export(0, 0, 0) }},
	}
}
